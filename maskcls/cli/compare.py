"""Compare finished runs."""

from __future__ import annotations

from collections.abc import Sequence

from maskcls.system import console


def compare(names: Sequence[str], runs_dir: str) -> None:
    """Print the scores of finished runs, and each one's difference to the one before it, on the same rows only."""
    from maskcls.reporting.comparison import RunScores, format_difference, format_score_ci
    from maskcls.storage.run import Run

    lines, before = [], None
    for run in [Run.open(name, runs_dir) for name in names]:
        one = RunScores.of([[run]], is_ensemble=False)
        held = format_score_ci(one.single.scores(), spread=True) if one.single else ""
        scores = one.oof.scores()
        lines.append(
            [
                run.path.name,
                format_score_ci(scores),
                f"{scores['accuracy']:.3f}",
                held,
                format_difference(one.compare(before) if before else None),
            ]
        )
        before = one
    head = ["run", "out of fold\nF1 [95 %]", "\naccuracy", "evaluation F1\none fold", "F1 to the run above\n[95 %]"]
    console.print_table("", head, lines)
    console.info(
        "Intervals are over people; paired on labelled evaluation photos, else on the same out-of-fold photos."
    )
