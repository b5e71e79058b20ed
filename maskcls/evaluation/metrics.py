"""Scores of probability tables: macro F1, accuracy, each attribute's F1, the confusion matrix, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from maskcls.core.task import ATTRIBUTES, CLASSES, FloatArray, IntArray, decode, marginals

SCORES = ("f1", "accuracy", "mask_f1", "gender_f1", "age_f1")


def macro_f1(truth: IntArray, guess: IntArray) -> float:
    """Return the mean F1 over the classes that occur in `truth` or `guess`."""
    return float(f1_score(truth, guess, average="macro", zero_division=0))


def compute_scores(truth: IntArray, probs: FloatArray) -> dict[str, float]:
    """Return macro F1 and accuracy over the 18 classes, and macro F1 of mask, gender and age.

    The class is the largest of the 18; an attribute is the largest of its marginal, so that it is
    judged on its own and not through the product.
    """
    guess = probs.argmax(1)
    result = {"f1": macro_f1(truth, guess), "accuracy": float(accuracy_score(truth, guess))}
    for name, values, marginal in zip(ATTRIBUTES, decode(truth), marginals(probs), strict=True):
        result[f"{name}_f1"] = macro_f1(values, marginal.argmax(1))
    return result


def class_report(truth: IntArray, probs: FloatArray) -> list[dict[str, Any]]:
    """Return a row for each class: its name, photos, precision, recall and F1."""
    matrix = confusion_counts(truth, probs)
    hits = np.diag(matrix)
    rows = []
    for i, name in enumerate(CLASSES):
        there, said = int(matrix[i].sum()), int(matrix[:, i].sum())
        precision, recall = hits[i] / max(said, 1), hits[i] / max(there, 1)
        f1 = 2 * hits[i] / max(there + said, 1)
        row = {"class": i, "name": name, "photos": there}
        rows.append(row | {"precision": float(precision), "recall": float(recall), "f1": float(f1)})
    return rows


def confusion_counts(truth: IntArray, probs: FloatArray) -> IntArray:
    """Return the (18, 18) counts, truth in rows and the guess in columns."""
    return confusion_matrix(truth, probs.argmax(1), labels=np.arange(len(CLASSES)))


def mean_std(f1: Sequence[float], accuracy: Sequence[float]) -> dict[str, float]:
    """Return mean and standard deviation (of the sample) over folds."""
    sd = {"f1_sd": np.std(f1, ddof=1), "accuracy_sd": np.std(accuracy, ddof=1)} if len(f1) > 1 else {}
    return {"f1": float(np.mean(f1)), "accuracy": float(np.mean(accuracy)), **{k: float(v) for k, v in sd.items()}}


def log_loss(truth: IntArray, probs: FloatArray) -> float:
    """Return the mean negative logarithm of the true class's probability."""
    return float(-np.log(np.maximum(probs[np.arange(len(truth)), truth], 1e-12)).mean()) if len(truth) else 0.0
