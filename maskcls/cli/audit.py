"""Labels that are likely wrong, from out-of-fold predictions: a ranked list, and a page to accept or refuse each flag.

maskcls audit run=a-1234
maskcls audit run=a-1234 refused=label_decisions.csv overwrite=true
python -m maskcls.run labels.patches=label_issues.csv

The seven images of a person vote on gender and age, with a calibrated weight, as they are not independent. The masks of
a person are assigned to the images, so that a swap is found as a swap. An age near a border is no error: years are
compared, not classes. Flags of all kinds are ranked by the probability that the label is wrong.

The list estimates its own precision: errors are planted in copies of the labels, and the whole search is repeated on
each copy. The list is as long as the estimate of its precision allows. The predictions of the copies are those of the
run, so the estimate leaves out that a network may learn wrong labels of its training images by heart.

The page remembers decisions in the browser. Its file of decisions, as refused=, leaves the refused flags out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.core.schema import PositiveInt, UnitInterval
from maskcls.system import console

if TYPE_CHECKING:
    import pandas as pd

    from maskcls.reporting.audit import Flag

NUM_SHOWN = 20  # flags on the terminal


@dataclass(frozen=True)
class AuditOptions:
    """Options of `maskcls audit`."""

    run: tuple[str, ...]  # finished run, by its folder or its name in runs_dir; of several the mean prediction
    runs_dir: str = "runs"  # folder of the runs
    evaluation: bool = False  # also audit the labelled evaluation rows, by the mean prediction of the folds
    out: str = "label_issues.csv"  # list to write, for labels.patches; the page is beside it, with the ending .html
    refused: str | None = None  # file of decisions from the page, or a list; its refused flags are left out
    precision: UnitInterval = 0.6  # estimated precision of the list, which decides its length
    copies: PositiveInt = 10  # copies of the labels with planted errors
    overwrite: bool = False  # replace earlier files with other content


@options_command(AuditOptions, positional=("run",))
def main(options: AuditOptions) -> None:
    """Find suspected errors and write both files."""
    from maskcls.evaluation.audit_estimate import choose_threshold, estimate_audit
    from maskcls.evaluation.label_issues import Evidence
    from maskcls.inference.audited_labels import read_audited
    from maskcls.reporting import audit
    from maskcls.storage.run import Run

    out = Path(options.out)
    if out.suffix != ".csv" or out.is_dir():
        raise ConfigError(f"out={options.out}: expected the name of a .csv file")
    refused = audit.read_refused(Path(options.refused)) if options.refused else set()
    runs = [Run.open(name, options.runs_dir) for name in options.run]
    table, predictions = read_audited(runs, options.evaluation, console.info)
    evidence = Evidence.of(table, predictions.probs, predictions.ages)
    kinds = estimate_audit(evidence, options.copies, 0, lambda items, total: console.track(items, total, "planting"))
    threshold = choose_threshold(kinds, options.precision)
    name = "+".join(run.path.name for run in runs)
    found = {kind: part.suspicions for kind, part in kinds.items()}
    flags = audit.list_flags(table, found, threshold, f"audit of {name}")
    kept = [flag for flag in flags if not flag.keys & refused]
    rows = audit.estimate_rows(kinds, threshold)
    facts = describe_audit(table, options.precision, threshold, len(flags) - len(kept))
    print_audit(rows, kept, facts)
    expected = None if predictions.ages is None else predictions.ages[:, 0]
    page = audit.format_page(f"Labels of {name}", table, kept, rows, facts, expected)
    write_outputs({out: audit.format_issues(kept), out.with_suffix(".html"): page}, options.overwrite)


def describe_audit(table: pd.DataFrame, precision: float, threshold: float, num_refused: int) -> list[str]:
    """Return lines on what was searched, how long the list is, and how the estimates were made."""
    refused = f" {num_refused} flags were refused earlier and are left out." if num_refused else ""
    return [
        f"{len(table):,} images of {table['person'].nunique():,} people, predicted by networks that never saw them.",
        f"Listed are flags with a probability of {threshold:.2f} or more, so that the estimated precision of the list "
        f"is at least {precision:g}.{refused}",
        "Estimates are from errors planted in copies of the labels, with the predictions as they are.",
    ]


def print_audit(rows: list[list[str]], flags: list[Flag], facts: list[str]) -> None:
    """Print the estimates and the first flags."""
    from maskcls.reporting.audit import ESTIMATE_HEAD, describe_change

    console.print_table("", ESTIMATE_HEAD, rows)
    shown = [[f"{flag.probability:.2f}", flag.kind, flag.patches[0]["person"], describe_change(flag)] for flag in flags]
    if shown:
        console.print_table("", ["probability", "labels", "person", "change"], shown[:NUM_SHOWN], left=4)
    if len(shown) > NUM_SHOWN:
        console.info(f"… and {len(shown) - NUM_SHOWN} more")
    for fact in facts:
        console.info(fact)


def write_outputs(texts: dict[Path, str], overwrite: bool) -> None:
    """Write the files; those of other content are kept, and the new ones get a number, unless `overwrite`."""
    from maskcls.inference.submission import has_other_content
    from maskcls.system.files import write_text

    number, targets = 1, list(texts)
    while not overwrite and any(has_other_content(path, texts[own]) for path, own in zip(targets, texts, strict=True)):
        number += 1
        targets = [path.with_stem(f"{path.stem}-{number}") for path in texts]
    for path, text in zip(targets, texts.values(), strict=True):
        write_text(path, text)
    names = " and ".join(map(str, targets))
    if number > 1:
        what = f"{' or '.join(map(str, texts))} exists with other content and is kept: this list is in {names}"
        raise ConfigError(f"{what}. Set overwrite=true to replace it, or out=<file> for another name")
    console.info(f"{names}: the list for labels.patches, and the page to accept or refuse")
