"""Ensembles: the probabilities of several members (M, N, C) combined into one table (N, C).

A builder receives the members' out-of-fold probabilities (M, N, C), the labels (N,) and the person of each image (N,).
Blends that are fitted to the labels are cross-fitted by person, so that their out-of-fold score holds for new people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from maskcls.core.errors import ConfigError
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, PositiveInt
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.intervals import f1_of_counts
from maskcls.evaluation.metrics import log_loss
from maskcls.evaluation.stacking import Doubles, apply_bias, cross_fit, fit_weights, weighted_sum

registry = Registry("blend")
Combine = Callable[[FloatArray], FloatArray]  # (M, K, C) → (K, C)


@dataclass(frozen=True)
class Blend:
    """An ensemble: out-of-fold probabilities (N, C), the function for new images, and a note on their validity."""

    oof: FloatArray
    combine: Combine
    validity_note: str
    weights: Sequence[float] | None = None  # of the members, if they were chosen by their out-of-fold scores

    def __call__(self, members: FloatArray) -> FloatArray:
        """Return the blended probabilities (K, C) of new images, given the members' (M, K, C)."""
        return self.combine(members)


def build_fixed_blend(members: FloatArray, combine: Combine, note: str = "not fitted to the labels") -> Blend:
    """Return a blend without fitted parameters: out-of-fold rows and new images are treated alike."""
    return Blend(combine(members), combine, note)


@registry.register
def mean(members: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> Blend:
    """The mean of the members' probabilities."""
    return build_fixed_blend(members, lambda tables: tables.mean(0))


@registry.register
def weighted(
    members: FloatArray, labels: IntArray, person_ids: Sequence[str], *, weights: list[NonNegativeFloat]
) -> Blend:
    """The mean with a weight for each member, in the order of the runs; the weights are scaled to sum to one.

    Args:
        weights: weight of each run, in the order of the runs; they are scaled to sum to one
    """
    if len(weights) != len(members):
        raise ConfigError(f"blend.weights (weighted): expected {len(members)} weights, one per run, got {len(weights)}")
    if not sum(weights):
        raise ConfigError("blend.weights (weighted): at least one weight must be greater than 0")
    shares = np.asarray(weights) / sum(weights)
    note = "valid if the weights were not chosen on these images"
    return build_fixed_blend(members, lambda tables: weighted_sum(tables, shares).astype(np.float32), note)


@registry.register
def vote(members: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> Blend:
    """The class that most members predict, ties by mean probability: (votes + mean probability) / (M + 1)."""

    def count(tables: FloatArray) -> FloatArray:
        votes = np.eye(tables.shape[2], dtype=np.float32)[tables.argmax(2)].sum(0)  # (K, C)
        return (votes + tables.mean(0)) / (len(tables) + 1)

    return build_fixed_blend(members, count)


WITHOUT_OOF = frozenset({mean, weighted, vote})  # builders that ignore the out-of-fold predictions


@registry.register
def rank(members: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> Blend:
    """The mean over the members of each probability's rank in its class column, scaled to sum to one in each row.

    Ranks are relative to the out-of-fold images, also for new images, so that a single image has one. Uniform columns
    make all classes equally frequent, in favor of rare ones.
    """
    columns = np.sort(members, axis=1)  # (M, N, C)

    def mean_rank(tables: FloatArray) -> FloatArray:
        total = np.zeros(tables.shape[1:])
        for column, table in zip(columns, tables, strict=True):
            for c in range(table.shape[1]):
                low, high = (np.searchsorted(column[:, c], table[:, c], side) for side in ("left", "right"))
                total[:, c] += (low + high + 1) / 2  # the average rank of ties, from 1
        return (total / total.sum(1, keepdims=True)).astype(np.float32)

    return build_fixed_blend(members, mean_rank)


@registry.register
def fitted(
    members: FloatArray, labels: IntArray, person_ids: Sequence[str], *, folds: Annotated[int, Field(ge=2)] = 5,
    shrink: NonNegativeFloat = 0.001, bias: bool = True,
) -> Blend:  # fmt: skip
    """Weights of the members (positive, summing to one) and a bias of each class's log-probability, for macro F1.

    Stacking with convex weights (Wolpert 1992, Breiman 1996), and class thresholds for F1 (Lipton et al. 2014):
    L-BFGS on the soft F1 plus `shrink` × the squared parameters, starting from the mean; in-sample it is never worse
    than the mean. Out-of-fold rows use parameters fitted to other people, new images those fitted to all. ConfigError
    with fewer than two people.

    Args:
        folds: number of cross-fitting folds for the out-of-fold score
        shrink: strength of the L2 penalty on the parameters
        bias: also fit a bias for each class
    """
    num_classes = members.shape[2]
    basis = np.eye(num_classes) if bias else np.zeros((num_classes, 0))
    oof, num_groups = cross_fit(
        "blend=fitted", members, labels, person_ids, folds,
        lambda rows, truth: fit_weights(rows, truth, shrink, basis), apply_bias,
    )  # fmt: skip
    weights, offsets = fit_weights(members, labels, shrink, basis)
    note = f"weights{' and class biases' if bias else ''} cross-fitted over {num_groups} groups of people"
    return Blend(oof, lambda tables: apply_bias(tables, weights, offsets), note, weights.tolist())


@registry.register
def greedy(
    members: FloatArray, labels: IntArray, person_ids: Sequence[str], *, folds: Annotated[int, Field(ge=2)] = 5,
    rounds: PositiveInt = 30,
) -> Blend:  # fmt: skip
    """The mean of members chosen one after the other, with replacement, so that macro F1 rises most in each round.

    Ensemble selection (Caruana et al. 2004): the ensemble of the best round counts, of ties the smallest. Out-of-fold
    rows use members chosen on other people, new images those chosen on all. ConfigError with fewer than two people.

    Args:
        folds: number of cross-fitting folds for the out-of-fold score
        rounds: number of members that are chosen, also repeatedly
    """

    def choose(rows: FloatArray, truth: IntArray) -> tuple[Doubles]:
        return (choose_members(rows, truth, rounds),)

    def combine(tables: FloatArray, weights: Doubles) -> FloatArray:
        return weighted_sum(tables, weights).astype(np.float32)

    oof, num_groups = cross_fit("blend=greedy", members, labels, person_ids, folds, choose, combine)
    weights = choose_members(members, labels, rounds)
    note = f"members chosen by macro F1, cross-fitted over {num_groups} groups of people"
    return Blend(oof, lambda tables: combine(tables, weights), note, weights.tolist())


def choose_members(members: FloatArray, labels: IntArray, rounds: int) -> Doubles:
    """Return the fraction of the rounds in which each member (M, N, C) is chosen, up to the best round.

    In each round the member that raises the macro F1 of the mean most is added, of ties the one with the least log
    loss: F1 rises in steps, and many members leave it unchanged.
    """
    total, picks, best = np.zeros(members.shape[1:]), list[int](), (-1.0, 0)
    for count in range(1, rounds + 1):
        sums = [total + member for member in members]
        scores = [(fast_macro_f1(labels, probs), -log_loss(labels, probs / count)) for probs in sums]
        picks.append(max(range(len(members)), key=lambda i: scores[i]))
        total = sums[picks[-1]]
        if scores[picks[-1]][0] > best[0]:
            best = scores[picks[-1]][0], count
    return np.bincount(picks[: best[1]], minlength=len(members)) / best[1]


def fast_macro_f1(labels: IntArray, probs: Doubles) -> float:
    """Return the value of `macro_f1` without the checks of scikit-learn, which take most of its time."""
    preds, num_classes = probs.argmax(1), probs.shape[1]
    counts = [np.bincount(rows, minlength=num_classes) for rows in (labels[labels == preds], labels, preds)]
    return float(f1_of_counts(np.stack(counts).astype(np.float64)))
