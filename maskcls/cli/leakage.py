"""Identity leakage: one config trained with folds of images and with folds of people.

maskcls leakage                                  the default experiment
maskcls leakage model=resnet18 epochs=8 data=competition data.root=../mask-data eval_fraction=0.2
"""

from __future__ import annotations

from dataclasses import dataclass

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.system import console


@dataclass(frozen=True)
class LeakageOptions:
    """Options of `maskcls leakage`: only overrides of the runs."""


SPLITS = ("stratified_label", "by_person")  # folds of images, and of people or other groups


def compare_splits(overrides: list[str]) -> None:
    """Train with both splits; print the scores, their gap with its interval, and an explanation."""
    from maskcls.config.compose import compose
    from maskcls.config.validation import validate
    from maskcls.core.config import Config
    from maskcls.engine.runner import run_experiment
    from maskcls.ladder.rungs import check_single_run
    from maskcls.reporting.comparison import RunScores, format_difference, format_score_ci, paired_difference
    from maskcls.storage.run import Run

    scores: list[tuple[str, RunScores]] = []
    for split in SPLITS:
        raw = compose(*overrides, f"split={split}")
        check_single_run(raw)
        cfg: Config = validate(raw)
        name = f"folds of {scores[0][1].oof.task.groups if scores else 'images'}"
        with console.progress_prefix(name):
            run_experiment(cfg)
        scores.append((name, RunScores.of([[Run.open(Run.of(cfg).path)]], is_ensemble=False)))
    lines = [
        [
            name,
            format_score_ci(run.oof.scores()),
            format_score_ci(run.ensemble.scores()) if run.ensemble else "no labels",
        ]
        for name, run in scores
    ]
    images, people = (run for _, run in scores)
    oof = paired_difference(images.oof, people.oof)
    evaluation = paired_difference(images.ensemble, people.ensemble) if images.ensemble and people.ensemble else None
    lines.append(["gap", format_difference(oof | {"rows": ""}), format_difference(evaluation)])
    word = images.oof.task.groups
    head = ["", f"out-of-fold F1\n[95 % over {word}]", f"F1 on new {word}\n(evaluation, folds' mean)"]
    console.print_table("", head, lines)
    console.info(explain_gap(oof["f1"], oof["interval"], word))


def explain_gap(f1: float, interval: list[float] | None, people: str) -> str:
    """Return an explanation of the gap between folds of images and folds of people, or of other groups."""
    faces = "their faces" if people == "people" else "them"
    if interval is None:
        from maskcls.evaluation.intervals import MIN_PEOPLE

        return f"The gap of {f1:+.3f} has no interval: it needs at least {MIN_PEOPLE} {people}."
    if interval[0] > 0:
        return (
            f"Folds of images score {f1:.3f} F1 higher than folds of {people}: other images of the validation "
            f"{people} are in training, so the model recognizes {faces}. Expect the lower score on new {people}."
        )
    if interval[1] < 0:
        return f"Folds of images score {-f1:.3f} F1 lower than folds of {people}: no leakage. Check the two runs."
    return (
        f"The gap of {f1:+.3f} is not significant: its interval contains 0. Longer training or a larger model may "
        f"still memorize {faces.removeprefix('their ')}. Folds of {people} are the safe choice."
    )


@options_command(LeakageOptions, overrides=True)
def main(options: LeakageOptions, overrides: list[str]) -> None:
    """Train with both splits and compare."""
    if any(override.startswith(("split=", "fold=")) for override in overrides):
        raise ConfigError("maskcls leakage sets split and fold. Remove them")
    compare_splits(overrides)
