"""Metrics of predicted probabilities: macro F1, accuracy, F1 of each attribute, confusion matrix, log loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from maskcls.core.task import ATTRIBUTES, CLASSES, FloatArray, IntArray, decode, marginals

SCORES = ("f1", "accuracy", "mask_f1", "gender_f1", "age_f1")


def macro_f1(labels: IntArray, preds: IntArray) -> float:
    """Return the mean F1 over the classes that occur in `labels` or `preds`."""
    return float(f1_score(labels, preds, average="macro", zero_division=0))


def compute_scores(labels: IntArray, probs: FloatArray) -> dict[str, float]:
    """Return macro F1 and accuracy over the 18 classes, and macro F1 of mask, gender and age.

    The predicted class is the argmax of the 18 probabilities, a predicted attribute the argmax of its marginals.
    """
    preds = probs.argmax(1)
    scores = {"f1": macro_f1(labels, preds), "accuracy": float(accuracy_score(labels, preds))}
    for name, values, marginal in zip(ATTRIBUTES, decode(labels), marginals(probs), strict=True):
        scores[f"{name}_f1"] = macro_f1(values, marginal.argmax(1))
    return scores


def class_report(labels: IntArray, probs: FloatArray) -> list[dict[str, Any]]:
    """Return a row for each class: name, number of images, precision, recall and F1."""
    matrix = confusion_counts(labels, probs)
    rows = []
    for i, name in enumerate(CLASSES):
        correct, num_labels, num_preds = matrix[i, i], int(matrix[i].sum()), int(matrix[:, i].sum())
        precision, recall = correct / max(num_preds, 1), correct / max(num_labels, 1)
        f1 = 2 * correct / max(num_labels + num_preds, 1)
        row = {"class": i, "name": name, "photos": num_labels}
        rows.append(row | {"precision": float(precision), "recall": float(recall), "f1": float(f1)})
    return rows


def confusion_counts(labels: IntArray, probs: FloatArray) -> IntArray:
    """Return the (18, 18) confusion matrix: labels in rows, predictions in columns."""
    return confusion_matrix(labels, probs.argmax(1), labels=np.arange(len(CLASSES)))


def mean_std(f1: Sequence[float], accuracy: Sequence[float]) -> dict[str, float]:
    """Return the mean and the sample standard deviation over folds."""
    sd = {"f1_sd": np.std(f1, ddof=1), "accuracy_sd": np.std(accuracy, ddof=1)} if len(f1) > 1 else {}
    return {"f1": float(np.mean(f1)), "accuracy": float(np.mean(accuracy)), **{k: float(v) for k, v in sd.items()}}


def log_loss(labels: IntArray, probs: FloatArray) -> float:
    """Return the mean negative log-probability of the labels."""
    return float(-np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12)).mean()) if len(labels) else 0.0
