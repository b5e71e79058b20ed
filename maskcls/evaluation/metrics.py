"""Metrics of predicted probabilities: macro F1, accuracy, F1 of each attribute, confusion matrix, log loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from maskcls.core.task import FloatArray, IntArray, Task


def macro_f1(labels: IntArray, preds: IntArray) -> float:
    """Return the mean F1 over the classes that occur in `labels` or `preds`; rows with label −1 do not count.

    It is 0 without any row that has a label.
    """
    rows = labels >= 0
    return float(f1_score(labels[rows], preds[rows], average="macro", zero_division=0)) if rows.any() else 0.0


def compute_scores(
    labels: IntArray, probs: FloatArray, task: Task, known: IntArray | None = None
) -> dict[str, float]:
    """Return macro F1 and accuracy over the classes, and the macro F1 of each attribute.

    The predicted class is the argmax of the class probabilities (N, C), a predicted attribute the argmax of its
    marginal. Rows with label −1 have no class; `known` (N, A) holds the values of all attributes, −1 without a label,
    and by default those of the classes. Each score is over the rows that have what it compares, and 0 without any.
    """
    rows, preds = labels >= 0, probs.argmax(1)
    right = preds[rows] == labels[rows]
    scores = {"f1": macro_f1(labels, preds), "accuracy": float(right.mean()) if len(right) else 0.0}
    values = attribute_values(labels, task) if known is None else known
    for name, truth, marginal in zip(task.names, values.T, task.marginals(probs), strict=True):
        scores[f"{name}_f1"] = macro_f1(truth, marginal.argmax(1))
    return scores


def attribute_values(labels: IntArray, task: Task) -> IntArray:
    """Return the index of each attribute's value (N, A) of classes (N,), −1 for label −1."""
    values = np.stack(task.decode(np.maximum(labels, 0)), 1)
    return np.where(labels[:, None] < 0, -1, values)


def distinct_scores(task: Task) -> tuple[str, ...]:
    """Return the names of the scores, without the F1 of an only attribute: it is that of the class."""
    return task.score_names if len(task.names) > 1 else task.score_names[:2]


def class_report(labels: IntArray, probs: FloatArray, task: Task) -> list[dict[str, Any]]:
    """Return a row for each class: name, number of images, precision, recall and F1."""
    matrix = confusion_counts(labels, probs)
    rows = []
    for i, name in enumerate(task.classes):
        correct, num_labels, num_preds = matrix[i, i], int(matrix[i].sum()), int(matrix[:, i].sum())
        precision, recall = correct / max(num_preds, 1), correct / max(num_labels, 1)
        f1 = 2 * correct / max(num_labels + num_preds, 1)
        row = {"class": i, "name": name, "photos": num_labels}
        rows.append(row | {"precision": float(precision), "recall": float(recall), "f1": float(f1)})
    return rows


def confusion_counts(labels: IntArray, probs: FloatArray) -> IntArray:
    """Return the (C, C) confusion matrix: labels in rows, predictions in columns; label −1 counts nowhere."""
    rows, size = labels >= 0, probs.shape[1]
    return np.bincount(labels[rows] * size + probs[rows].argmax(1), minlength=size * size).reshape(size, size)


def mean_std(f1: Sequence[float], accuracy: Sequence[float]) -> dict[str, float]:
    """Return the mean and the sample standard deviation over folds."""
    sd = {"f1_sd": np.std(f1, ddof=1), "accuracy_sd": np.std(accuracy, ddof=1)} if len(f1) > 1 else {}
    return {"f1": float(np.mean(f1)), "accuracy": float(np.mean(accuracy)), **{k: float(v) for k, v in sd.items()}}


def log_loss(labels: IntArray, probs: FloatArray) -> float:
    """Return the mean negative log-probability of the labels that are not −1, 0 without any."""
    rows = np.flatnonzero(labels >= 0)
    return float(-np.log(np.maximum(probs[rows, labels[rows]], 1e-12)).mean()) if len(rows) else 0.0
