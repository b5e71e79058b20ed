"""Measure what a split of photos pretends: one config with folds of photos and with folds of people.

python -m maskcls leakage                                  the default experiment
python -m maskcls leakage model=resnet18 epochs=8 data=competition data.root=../mask-data exam=0.2
"""

from __future__ import annotations

import sys

from maskcls.cli.command import run_command
from maskcls.core.errors import ConfigError
from maskcls.system import console

SPLITS = {"folds of photos": "stratified_label", "folds of people": "by_person"}


def compare_splits(words: list[str]) -> None:
    """Train both, and print their scores, the gap with its interval, and what it means."""
    from maskcls.config.compose import compose
    from maskcls.config.validation import validate
    from maskcls.core.config import Config
    from maskcls.engine.runner import run_experiment
    from maskcls.ladder.rungs import check_single_run
    from maskcls.reporting.comparison import RunScores, format_difference, format_score_ci, paired_difference
    from maskcls.storage.run import Run

    found = {}
    for name, split in SPLITS.items():
        raw = compose(*words, f"split={split}")
        check_single_run(raw)
        cfg: Config = validate(raw)
        with console.progress_prefix(name):
            run_experiment(cfg)
        found[name] = RunScores.of([[Run.open(Run.of(cfg).path)]], is_ensemble=False)
    lines = [
        [
            name,
            format_score_ci(one.oof.scores()),
            format_score_ci(one.ensemble.scores()) if one.ensemble else "not labelled",
        ]
        for name, one in found.items()
    ]
    photos, people = found.values()
    both = paired_difference(photos.oof, people.oof)
    real = paired_difference(photos.ensemble, people.ensemble) if photos.ensemble and people.ensemble else None
    lines.append(["gap", format_difference(both | {"rows": ""}), format_difference(real)])
    console.print_table(
        "", ["", "out-of-fold F1\n[95 % over people]", "F1 on new people\n(evaluation, folds' mean)"], lines
    )
    console.info(explain_gap(both["f1"], both["interval"]))


def explain_gap(f1: float, interval: list[float] | None) -> str:
    """Return what a gap says."""
    if interval is None:
        from maskcls.evaluation.bootstrap import FEWEST

        return f"The gap of {f1:+.3f} says nothing: it is of fewer than {FEWEST} people."
    if interval[0] > 0:
        return (
            f"Folds of photos promise {f1:.3f} more F1 than folds of people: each person's other photos were trained "
            "on, so the model knows the face. That part of the score does not come along to new people."
        )
    if interval[1] < 0:
        return f"Folds of photos promise {-f1:.3f} less F1 than folds of people: no leak shows; look at the two runs."
    return (
        f"The gap of {f1:+.3f} cannot be told from none: other people would change as much. A longer training or a "
        "larger model may learn faces by heart; folds of people cost nothing."
    )


@run_command
def main() -> None:
    """Train twice and compare."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print((__doc__ or "").strip())
        return
    if any(word.startswith(("split=", "fold=")) for word in words):
        raise ConfigError("split and fold are what maskcls leakage sets itself: leave them out")
    compare_splits(words)
