"""Labels that are likely wrong, from out-of-fold predictions: a ranked list, and a page to accept or refuse each flag.

maskcls audit run=a-1234
maskcls audit run=a-1234 refused=label_decisions.csv overwrite=true
python -m maskcls.run labels.patches=label_issues.csv

The images of a person vote on attributes that are the same in all of them, with a calibrated weight, as they are not
independent. Other values of a person are assigned to the images, so that a swap is found as a swap. A number near a
border, such as an age, is no error: numbers are compared, not classes. Flags of all attributes are ranked by the
probability that the label is wrong.

The list estimates its own precision: errors are planted in copies of the labels, and the whole search is repeated on
each copy. The list is as long as the estimate of its precision allows. The predictions of the copies are those of the
run, so the estimate leaves out that a network may learn wrong labels of its training images by heart.

The page remembers decisions in the browser. Its file of decisions, as refused=, leaves the refused flags out.

The list of a run that was trained with labels.patches begins with those patches, so that it replaces the earlier list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.core.schema import PositiveInt, UnitInterval
from maskcls.system import console

if TYPE_CHECKING:
    import pandas as pd

    from maskcls.core.task import Task
    from maskcls.evaluation.audit_estimate import KindEstimate
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
    from maskcls.data.run_photos import open_photos
    from maskcls.evaluation.audit_estimate import choose_threshold, estimate_audit
    from maskcls.evaluation.label_issues import Evidence
    from maskcls.inference.audited_labels import earlier_patches, find_leaks, read_audited
    from maskcls.reporting import audit
    from maskcls.storage.run import Run

    out = Path(options.out)
    if out.suffix != ".csv" or out.is_dir():
        raise ConfigError(f"out={options.out}: expected the name of a .csv file")
    runs = [Run.open(name, options.runs_dir) for name in options.run]
    table, predictions = read_audited(runs, options.evaluation)
    task, earlier = runs[0].task, earlier_patches(runs[0])
    refused = audit.read_refused(Path(options.refused), task) if options.refused else set()
    evidence = Evidence.of(table, predictions.probs, predictions.numbers, task)
    kinds = estimate_audit(evidence, options.copies, 0, lambda items, total: console.track(items, total, "planting"))
    threshold = choose_threshold(kinds, options.precision)
    name = "+".join(run.path.name for run in runs)
    found = {kind: part.suspicions for kind, part in kinds.items()}
    flags = [] if threshold is None else audit.list_flags(table, found, threshold, f"audit of {name}", task)
    kept = [flag for flag in flags if not flag.keys(task) <= refused]
    rows = audit.estimate_rows(kinds, threshold, kept)
    leaks = find_leaks(runs, options.evaluation)
    facts = [
        describe_rows(table, leaks, task), *leaks, describe_list(kinds, options.precision, threshold),
        *describe_exceptions(kept, len(flags) - len(kept), len(earlier)),
        "Estimates are from errors planted in copies of the labels, with the predictions as they are.",
    ]  # fmt: skip
    print_audit(rows, kept, facts, task)
    expected = None if predictions.numbers is None else predictions.numbers[:, 0]
    thumbnails = audit.read_thumbnails(table, kept, open_photos(runs[0]))
    note_missing(thumbnails)
    page = audit.format_page(f"Labels of {name}", table, kept, rows, facts, expected, thumbnails, earlier, task)
    write_outputs({out: audit.format_issues(kept, earlier), out.with_suffix(".html"): page}, options.overwrite)


def describe_rows(table: pd.DataFrame, leaks: Sequence[str], task: Task) -> str:
    """Return a line on what was searched."""

    unseen = "" if leaks else ", predicted by networks that never saw them"
    groups = f" of {table['person'].nunique():,} {task.groups}" if task.group else ""
    return f"{len(table):,} images{groups}{unseen}."


def describe_list(kinds: Mapping[str, KindEstimate], precision: float, threshold: float | None) -> str:
    """Return a line on how long the list is, or why there is none."""
    from maskcls.evaluation.audit_estimate import LOWEST, total_recall

    if threshold is None:
        found = f"the search finds {total_recall(kinds, LOWEST):.0%} of planted errors"
        ending = f"at a probability of {LOWEST:g}; labels may still be wrong."
        return f"No list reaches the precision {precision:g}: {found} {ending}"
    reason = f"the estimated precision of the list is at least {precision:g}"
    return f"Listed are flags with a probability of {threshold:.2f} or more, so that {reason}."


def describe_exceptions(kept: Sequence[Flag], num_refused: int, num_earlier: int) -> list[str]:
    """Return lines on flags that are not listed, or not for training, and on patches of earlier lists."""
    num_eval = sum(all(patch["part"] == "eval" for patch in flag.patches) for flag in kept)
    of_eval = "of evaluation rows, which labels.patches never changes: they are on the page alone"
    facts = {
        f"{num_refused} flags were refused earlier and are left out.": num_refused,
        f"{num_eval} flags are {of_eval}.": num_eval,
        f"The list begins with the {num_earlier} patches that the run was trained with.": num_earlier,
    }
    return [fact for fact, number in facts.items() if number]


def note_missing(thumbnails: Mapping[int, str | None]) -> None:
    """Print how many images the page lacks."""
    missing = sum(image is None for image in thumbnails.values())
    if missing:
        some = f"the page lacks {missing} of {len(thumbnails)} images"
        what = "the page has no images" if missing == len(thumbnails) else some
        console.info(f"{what}: they are not found, not readable or not those of the run", "yellow")


def print_audit(rows: list[list[str]], flags: list[Flag], facts: list[str], task: Task) -> None:
    """Print the estimates and the first flags."""
    from maskcls.reporting.audit import describe_change, estimate_head

    console.print_table("", estimate_head(task), rows)
    shown = [[f"{flag.probability:.2f}", flag.kind, flag.patches[0]["person"], describe_change(flag, task)]
             for flag in flags]  # fmt: skip
    if shown:
        console.print_table("", ["probability", "labels", group_word(task), "change"], shown[:NUM_SHOWN], left=4)
    if len(shown) > NUM_SHOWN:
        console.info(f"… and {len(shown) - NUM_SHOWN} more")
    for fact in facts:
        console.info(fact, "bold red" if fact.startswith("LEAK") else "")


def group_word(task: Task) -> str:
    """Return what a flag is about: a person, another group of images, or an image that is in no group."""
    return "person" if task.group == "person" else "group" if task.group else "image"


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
