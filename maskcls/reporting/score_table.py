"""The table of scores in the terminal: macro F1 with its interval, accuracy, attributes, calibration, classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.errors import and_others
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.calibration import calibration_bins
from maskcls.evaluation.intervals import MIN_PEOPLE, confidence_interval, person_counts
from maskcls.evaluation.metrics import class_report, compute_scores, distinct_scores, log_loss
from maskcls.reporting.summary import score_heads
from maskcls.system import console

PROB_HEADS = {"log_loss": "log\nloss", "calibration_error": "calibration\nerror"}
MAX_NAMES = 18  # of classes in a sentence
Scores = dict[str, Any]


def score_predictions(
    labels: IntArray, preds: IntArray | FloatArray, persons: Sequence[str] | None, task: Task
) -> Scores:
    """Return the scores of predicted classes (N,) or probabilities (N, C), the latter with log loss and ECE.

    The interval of macro F1 is over people, None without them or below MIN_PEOPLE.
    """
    probs = as_probs(preds, task)
    counts = None if persons is None else person_counts(labels, probs.argmax(1), persons, task)
    scores: Scores = compute_scores(labels, probs, task)
    scores |= {"interval": None if counts is None else confidence_interval([counts]), "photos": len(labels)}
    if persons is not None:
        scores["people"] = len(set(persons))
    if preds.ndim == 2:
        frame = pd.DataFrame({"label": labels, "guess": probs.argmax(1), "sure": probs.max(1)})
        scores |= {"log_loss": log_loss(labels, probs), "calibration_error": calibration_bins(frame)[1]}
    return scores


def as_probs(preds: IntArray | FloatArray, task: Task) -> FloatArray:
    """Return classes (N,) as one-hot rows, and probabilities (N, C) unchanged."""
    return task.one_hot(preds) if preds.ndim == 1 else preds.astype(np.float32)


def print_scores(title: str, rows: Sequence[tuple[str, Scores]], task: Task) -> None:
    """Print the scores of several models on the same images, and why intervals are missing."""
    heads = {"interval": "[95 %]"} | {name: score_heads(task)[name] for name in distinct_scores(task)[1:]}
    if all(scores["interval"] is None for _, scores in rows):
        del heads["interval"]
    if all("log_loss" in scores for _, scores in rows):
        heads |= PROB_HEADS
    cells = [[name, scores["f1"], *[format_cell(scores[key]) for key in heads]] for name, scores in rows]
    console.print_table(title, ["", "macro F1", *heads.values()], cells)
    people = rows[0][1].get("people")
    if people is None:
        group = task.group or "person"
        console.info(f"no interval: there is no column {group}, and images of one {group} are not independent")
    elif people < MIN_PEOPLE:
        console.info(f"no interval: {people} {task.groups}, it needs at least {MIN_PEOPLE}")


def format_cell(value: float | Sequence[float] | None) -> float | str:
    """Return a score unchanged, an interval in brackets, and an empty text for a missing one."""
    if value is None or isinstance(value, float):
        return "" if value is None else value
    return f"[{value[0]:.3f}, {value[1]:.3f}]"


def print_class_scores(labels: IntArray, preds: IntArray | FloatArray, task: Task) -> None:
    """Print precision, recall and F1 of each class (a dash without images and predictions), and what F1 averages."""
    probs = as_probs(preds, task)
    report, num_preds = class_report(labels, probs, task), np.bincount(probs.argmax(1), minlength=task.num_classes)
    rows = []
    for row, count in zip(report, num_preds, strict=True):
        scores = [row[key] if count or row["photos"] else "–" for key in ("precision", "recall", "f1")]
        rows.append([row["class"], row["name"], row["photos"], int(count), *scores])
    console.print_table("", ["", "class", "images", "predicted", "precision", "recall", "F1"], rows, left=2)
    console.info(describe_average([row["photos"] for row in report], num_preds.tolist(), task))


def describe_average(num_labels: Sequence[int], num_preds: Sequence[int], task: Task) -> str:
    """Return the classes that macro F1 is the mean of, given the images and the predictions of each class."""
    classes, size = task.classes, task.num_classes
    present = [i for i, count in enumerate(num_labels) if count]
    only_predicted = [f"{i} ({classes[i]})" for i in range(size) if num_preds[i] and not num_labels[i]]
    total = len(present) + len(only_predicted)
    if len(present) == 1:
        name = f"{present[0]} ({classes[present[0]]})"
        return f"macro F1 means little: every image has the true class {name}. Check that it is not a placeholder"
    if total == size and not only_predicted:
        return f"macro F1 is the mean over all {total} classes"
    text = f"macro F1 is the mean over {total} of {size} classes: {len(present)} in the truth"
    return text + (f", and {len(only_predicted)} only predicted, which count as 0: "
                   f"{and_others(only_predicted, MAX_NAMES)}" if only_predicted else "")  # fmt: skip


def print_model_scores(
    title: str, labels: IntArray, models: Sequence[tuple[str, FloatArray]], persons: Sequence[str] | None,
    task: Task,
) -> None:  # fmt: skip
    """Print the scores of several models' probabilities on the same images."""
    print_scores(title, [(name, score_predictions(labels, probs, persons, task)) for name, probs in models], task)
