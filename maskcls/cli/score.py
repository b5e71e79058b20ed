"""Scores of a prediction file: macro F1, accuracy, attributes and classes, with the interval over people.

maskcls score answers=submission.csv truth=data/eval/labels.csv    a submission: ImageID,ans
maskcls score answers=probabilities.csv truth=runs/a-1234          probabilities, against a run's table
maskcls score submission.csv labels.csv                            the same two options by position

The truth needs a column label or ans (a class number or name), or one for each attribute. With a column person, macro
F1 has an interval over people. The classes are those of the run in `truth` or `task_of`, else the competition's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.system import console
from maskcls.system.files import write_json


@dataclass(frozen=True)
class ScoreOptions:
    """Options of `maskcls score`."""

    answers: str  # CSV of predicted classes, or of probabilities p0, p1, …
    truth: str  # CSV of true classes, or the folder of a run
    missing: Literal["stop", "skip"] = "stop"  # images without an answer: stop, or skip (score the others)
    task_of: str | None = None  # folder of a run with the task of the files
    out: str | None = None  # JSON file of the scores to write


@options_command(ScoreOptions, positional=("answers", "truth"))
def main(options: ScoreOptions) -> None:
    """Read both files, join them, and print the scores."""
    from maskcls.evaluation.metrics import class_report
    from maskcls.inference.score_files import find_task, join_files, read_labels, read_predictions
    from maskcls.reporting.score_table import as_probs, print_class_scores, print_scores, score_predictions

    if options.out and (Path(options.out).suffix != ".json" or Path(options.out).is_dir()):  # or one of the tables
        raise ConfigError(f"out={options.out}: expected the name of a .json file")
    task = find_task(Path(options.truth), options.task_of)
    answers = read_predictions(Path(options.answers), console.info, task)
    truth = read_labels(Path(options.truth), console.info, task)
    answers, truth = join_files(answers, truth, options.missing == "skip", console.info)
    console.info(f"answers: {answers.columns} of {answers.source}; truth: {truth.columns} of {truth.source}")
    preds = answers.classes if answers.probs is None else answers.probs
    scores = score_predictions(truth.classes, preds, truth.persons, task)
    people = f" of {scores['people']} {task.groups}" if "people" in scores else ""
    print_scores(f"{len(truth.names)} images{people}", [(answers.source.name, scores)], task)
    print_class_scores(truth.classes, preds, task)
    if options.out:
        write_json(Path(options.out), scores | {"classes": class_report(truth.classes, as_probs(preds, task), task)})
