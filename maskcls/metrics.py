"""Scores of probability tables: macro F1, accuracy, each attribute's F1, the confusion matrix, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from maskcls.labels import ATTRIBUTES, CLASSES, Floats, Ints, decode, marginals

Tally = npt.NDArray[np.float64]  # (people, 3, 18): for each class its hits, photos and guesses
DRAWS = 2000


def macro_f1(truth: Ints, guess: Ints) -> float:
    """Return the mean F1 over the classes that occur in `truth` or `guess`."""
    return float(f1_score(truth, guess, average="macro", zero_division=0))


def scores(truth: Ints, probs: Floats) -> dict[str, float]:
    """Return macro F1 and accuracy over the 18 classes, and macro F1 of mask, gender and age.

    The class is the largest of the 18; an attribute is the largest of its marginal, so that it is
    judged on its own and not through the product.
    """
    guess = probs.argmax(1)
    result = {"f1": macro_f1(truth, guess), "accuracy": float(accuracy_score(truth, guess))}
    for name, values, marginal in zip(ATTRIBUTES, decode(truth), marginals(probs), strict=True):
        result[f"{name}_f1"] = macro_f1(values, marginal.argmax(1))
    return result


def per_class(truth: Ints, probs: Floats) -> list[dict[str, Any]]:
    """Return a row for each class: its name, photos, precision, recall and F1."""
    matrix = confusion(truth, probs)
    hits = np.diag(matrix)
    rows = []
    for i, name in enumerate(CLASSES):
        there, said = int(matrix[i].sum()), int(matrix[:, i].sum())
        precision, recall = hits[i] / max(said, 1), hits[i] / max(there, 1)
        f1 = 2 * hits[i] / max(there + said, 1)
        row = {"class": i, "name": name, "photos": there}
        rows.append(row | {"precision": float(precision), "recall": float(recall), "f1": float(f1)})
    return rows


def confusion(truth: Ints, probs: Floats) -> Ints:
    """Return the (18, 18) counts, truth in rows and the guess in columns."""
    return confusion_matrix(truth, probs.argmax(1), labels=np.arange(len(CLASSES)))


def tally(truth: Ints, guess: Ints, people: Sequence[str]) -> Tally:
    """Return the counts of each person, in the order of their names, which is all that F1 needs."""
    codes, names = pd.factorize(np.asarray(people, dtype=object), sort=True)
    hit, size = truth == guess, len(CLASSES)
    kinds = [codes[hit] * size + truth[hit], codes * size + truth, codes * size + guess]
    counts = [np.bincount(places, minlength=len(names) * size).reshape(-1, size) for places in kinds]
    return np.stack(counts, 1).astype(np.float64)


def weighed_f1(counts: Tally, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the macro F1 (draws,) of people that count as often as each row of `weights` (draws, people) says."""
    hits, photos, guesses = np.moveaxis(np.tensordot(weights, counts, 1), 1, 0)  # (draws, 18) each
    there = photos + guesses > 0
    return (2 * hits / np.maximum(photos + guesses, 1)).sum(1) / np.maximum(there.sum(1), 1)


def interval(
    mine: Sequence[Tally], below: Sequence[Tally] = (), draws: int = DRAWS, level: float = 0.95
) -> list[float]:
    """Return the bootstrap interval [low, high] of the mean F1 of `mine`, or of its difference to that of `below`.

    People are drawn with replacement, the same ones for every tally (a paired bootstrap; Efron & Tibshirani 1993): a
    person's photos are no independent draws. What another seed of the training would change is not in it.
    """
    people = len(mine[0])
    weights = np.random.default_rng(0).multinomial(people, np.full(people, 1 / people), draws).astype(np.float64)
    values = sum(weighed_f1(counts, weights) for counts in mine) / len(mine)
    if below:
        values = values - sum(weighed_f1(counts, weights) for counts in below) / len(below)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
