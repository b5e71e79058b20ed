"""Comparison of finished runs: scores with intervals, and the paired difference to the run above.

maskcls compare runs=a-1234,b-5678
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskcls.cli.arguments import options_command
from maskcls.system import console


@dataclass(frozen=True)
class CompareOptions:
    """Options of `maskcls compare`."""

    runs: tuple[str, ...]  # folders of finished runs, or their names in runs_dir
    runs_dir: str = "runs"  # folder of the runs


@options_command(CompareOptions)
def main(options: CompareOptions) -> None:
    """Compare the runs."""
    compare(options.runs, options.runs_dir)


def compare(names: Sequence[str], runs_dir: str) -> None:
    """Print the scores of finished runs, each with its difference to the run above on the same rows."""
    from maskcls.reporting.comparison import RunScores, format_difference, format_score_ci
    from maskcls.reporting.summary import print_conclusions
    from maskcls.storage.run import Run

    runs = [Run.open(name, runs_dir) for name in names]
    rows: list[list[str]] = []
    previous = None
    for run in runs:
        run_scores = RunScores.of([[run]], is_ensemble=False)
        scores, single = run_scores.oof.scores(), run_scores.single
        rows.append([
            run.path.name, format_score_ci(scores), f"{scores['accuracy']:.3f}",
            format_score_ci(single.scores(), spread=True) if single else "",
            format_difference(run_scores.compare(previous) if previous else None),
        ])  # fmt: skip
        previous = run_scores
    head = ["run", "out of fold\nF1 [95 %]", "\naccuracy", "evaluation F1\none fold", "F1 to the run above\n[95 %]"]
    console.print_table("", head, rows)
    people = runs[0].task.groups if runs else "people"
    console.info(
        f"Intervals are over {people}; differences are paired on the labelled evaluation set, else on the same "
        "out-of-fold images."
    )
    print_conclusions(runs)
