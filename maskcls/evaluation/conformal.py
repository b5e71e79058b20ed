"""Prediction sets with a promised coverage of new people's images (conformal prediction)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.errors import ConfigError
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.stacking import Doubles

DEFAULT_COVERAGE = 0.9
ROUNDING = 1e-9  # of sums of weights
Sets = npt.NDArray[np.bool_]  # (N, classes): True for the classes in the set of an image


@dataclass(frozen=True)
class PersonScores:
    """The scores of labelled images by one model that was not trained on them; each person has the weight 1.

    The score of a class is 1 − its probability (Sadinle, Lei & Wasserman 2019), which gives the smallest sets.
    """

    scores: Doubles  # (N,), ascending
    weights: Doubles  # (N + 1,): of the images with this score or a larger one
    num_people: int

    @classmethod
    def of(cls, probs: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> PersonScores:
        """Return the scores of the labels (N,) by probabilities (N, classes)."""
        scores = 1 - probs[np.arange(len(labels)), labels].astype(np.float64)
        codes, names = pd.factorize(np.asarray(person_ids, dtype=object))
        shares = 1 / np.bincount(codes, minlength=len(names))[codes]
        order = np.argsort(scores, kind="stable")
        return cls(scores[order], np.append(shares[order][::-1].cumsum()[::-1], 0.0), len(names))

    def weight_above(self, scores: npt.NDArray[Any]) -> Doubles:
        """Return how many people have scores as large as these (…), each person counted by the share of the images."""
        return self.weights[np.searchsorted(self.scores, scores, side="left")]


@dataclass(frozen=True)
class ConformalSets:
    """Prediction sets from the out-of-fold scores of one or several folds' models.

    A person's images resemble each other, so people, not images, are exchangeable. With one model, the set of a random
    image of a new person has its class with probability ≥ `coverage`, and ≤ coverage + 2 / (people + 1) if no scores
    are equal, whatever the model: this is the hierarchical conformal prediction of Lee, Barber & Willett (2023), whose
    weights give each person one vote, without the random choice of an image of Dunn, Wasserman & Ramdas (2022).

    With several folds, each class of a new image is compared with the scores of each fold under that fold's model
    (cross-conformal prediction, Vovk 2015). What is then proved is 1 − 2 · (1 − coverage); in practice the coverage is
    at least the promised one. It also needs new people like those of the data, and it holds over people together, not
    for each class or group. With `select=best`, the epochs were chosen on the same images, a slight optimism.
    """

    folds: tuple[PersonScores, ...]

    def p_values(self, probs: FloatArray) -> Doubles:
        """Return the conformal p-value of each class, (N, classes), from each fold's probabilities (K, N, classes)."""
        pairs = zip(self.folds, 1 - probs.astype(np.float64), strict=True)
        weight = np.sum([fold.weight_above(scores) for fold, scores in pairs], axis=0)
        return (weight + 1) / (sum(fold.num_people for fold in self.folds) + 1)

    def predict(self, probs: FloatArray, coverage: float, preds: IntArray | None = None) -> Sets:
        """Return the sets from each fold's probabilities (K, N, classes); the predicted class is always in it.

        `preds` (N,) are the predicted classes, by default the best ones of the mean. ConfigError for a coverage
        outside (0, 1).
        """
        check_coverage(coverage)
        return choose_classes(self.p_values(probs), coverage, probs.mean(0).argmax(1) if preds is None else preds)


def check_coverage(coverage: float) -> float:
    """Return a coverage between 0 and 1, exclusive; ConfigError for another value."""
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must be between 0 and 1, such as 0.9, got {coverage}")
    return coverage


def choose_classes(p_values: Doubles, coverage: float, preds: IntArray) -> Sets:
    """Return the sets (N, classes) of the classes with a large enough p-value, and of the predicted class (N,)."""
    sets = p_values > 1 - coverage + ROUNDING
    sets[np.arange(len(sets)), preds] = True
    return sets


def leave_one_out_p_values(probs: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> Doubles:
    """Return the conformal p-value of each class, (N, classes), by the scores of one model's other people."""
    everyone = PersonScores.of(probs, labels, person_ids)
    positions = np.searchsorted(everyone.scores, 1 - probs.astype(np.float64), side="left")
    codes = pd.factorize(np.asarray(person_ids, dtype=object))[0]
    keys = codes[:, None] * (len(codes) + 1) + positions  # ordered by person, then by score
    own = np.sort(keys[np.arange(len(labels)), labels])
    sizes = np.bincount(codes)
    num_own = sizes.cumsum()[codes][:, None] - np.searchsorted(own, keys, side="left")  # own scores as large
    weight = everyone.weights[positions] - num_own / sizes[codes][:, None]
    return np.asarray((weight + 1) / everyone.num_people)
