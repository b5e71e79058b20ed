"""Ensembles: several members' probabilities (M, N, 18) become one table (N, 18).

A builder takes the members' out-of-fold probabilities (M, N, 18), the truth (N,) and each photo's person (N,). What
learns from the truth is cross-fitted by person, so that its own out-of-fold score speaks of new people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskcls.core.errors import ConfigError
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.task import CLASSES, FloatArray, IntArray
from maskcls.evaluation.metrics import macro_f1

registry = Registry("blend")
Combine = Callable[[FloatArray], FloatArray]  # (M, K, 18) → (K, 18)
Doubles = npt.NDArray[np.float64]
TINY = 1e-12
PATH = np.linspace(1, 0, 5)  # from what was fitted back to the plain mean


@dataclass(frozen=True)
class Blend:
    """An ensemble: honest out-of-fold probabilities (N, 18), the function for other photos, and why they are honest."""

    oof: FloatArray
    combine: Combine
    validity_note: str

    def __call__(self, members: FloatArray) -> FloatArray:
        """Return the blended probabilities (K, 18) of other photos, given the members' (M, K, 18)."""
        return self.combine(members)


def build_fixed_blend(
    members: FloatArray, combine: Combine, honest: str = "nothing is learned from the labels"
) -> Blend:
    """Return a blend that learns nothing: out-of-fold rows and other photos are treated alike."""
    return Blend(combine(members), combine, honest)


@registry.register
def mean(members: FloatArray, truth: IntArray, persons: Sequence[str]) -> Blend:
    """The mean of the members' probabilities."""
    return build_fixed_blend(members, lambda tables: tables.mean(0))


@registry.register
def weighted(members: FloatArray, truth: IntArray, persons: Sequence[str], *, weights: list[NonNegativeFloat]) -> Blend:
    """The mean with a weight for each member, in the order of the runs; the weights are scaled to sum to one."""
    if len(weights) != len(members):
        raise ConfigError(f"blend.weights of weighted: {len(weights)} weights do not fit {len(members)} runs")
    if not sum(weights):
        raise ConfigError("blend.weights of weighted: one weight must be greater than 0")
    shares = np.asarray(weights) / sum(weights)
    note = "the weights were given: honest where they were not chosen on these photos"
    return build_fixed_blend(members, lambda tables: weighted_sum(tables, shares).astype(np.float32), note)


@registry.register
def vote(members: FloatArray, truth: IntArray, persons: Sequence[str]) -> Blend:
    """The class that most members name, of equal ones the more probable: (votes + mean probability) / (M + 1)."""

    def count(tables: FloatArray) -> FloatArray:
        votes = np.eye(len(CLASSES), dtype=np.float32)[tables.argmax(2)].sum(0)  # (K, 18)
        return (votes + tables.mean(0)) / (len(tables) + 1)

    return build_fixed_blend(members, count)


@registry.register
def rank(members: FloatArray, truth: IntArray, persons: Sequence[str]) -> Blend:
    """The mean over the members of each probability's rank in its class column, scaled to sum to one in each row.

    Ranks are among the out-of-fold photos, other photos' too, so that a single photo has one. Columns of equal spread
    make all classes equally frequent: rare ones gain.
    """
    columns = np.sort(members, axis=1)  # (M, N, 18)

    def place(tables: FloatArray) -> FloatArray:
        total = np.zeros(tables.shape[1:])
        for column, table in zip(columns, tables, strict=True):
            for c in range(len(CLASSES)):
                below, upto = (np.searchsorted(column[:, c], table[:, c], side) for side in ("left", "right"))
                total[:, c] += (below + upto + 1) / 2  # the average rank of equal ones, from 1
        return (total / total.sum(1, keepdims=True)).astype(np.float32)

    return build_fixed_blend(members, place)


@registry.register
def fitted(
    members: FloatArray, truth: IntArray, persons: Sequence[str], *, folds: Annotated[int, Field(ge=2)] = 5,
    shrink: NonNegativeFloat = 0.001, bias: bool = True,
) -> Blend:  # fmt: skip
    """Weights of the members (positive, summing to one) and a bias of each class's log-probability, for macro F1.

    Stacking with convex weights (Wolpert 1992, Breiman 1996), and class thresholds as F1 wants them (Lipton et al.
    2014): L-BFGS on the soft F1 plus `shrink` × the squares of what is learned, from the plain mean; in-sample it is
    never worse than that mean. Out-of-fold rows get what was learned on other people, other photos what was learned on
    all. ConfigError with fewer than two people.
    """
    from sklearn.model_selection import GroupKFold

    names = np.asarray(persons, dtype=str)
    groups = min(folds, len(np.unique(names)))
    if groups < 2:
        raise ConfigError("blend fitted: it is cross-fitted by person and there are fewer than two people")
    oof = np.empty(members.shape[1:], np.float32)
    for learn, held in GroupKFold(groups).split(names, groups=names):
        oof[held] = apply_bias(members[:, held], *fit_weights(members[:, learn], truth[learn], shrink, bias))
    weights, offsets = fit_weights(members, truth, shrink, bias)
    what = f"weights ({', '.join(f'{weight:.2f}' for weight in weights)}){' and class biases' if bias else ''}"
    note = f"{what} are learned, cross-fitted over {groups} parts of the people"
    return Blend(oof, lambda tables: apply_bias(tables, weights, offsets), note)


def fit_weights(members: FloatArray, truth: IntArray, shrink: float, bias: bool) -> tuple[Doubles, Doubles]:
    """Return weights (M,) and class biases (18,): the best, by macro F1, on the way from the optimum to the mean."""
    from scipy.optimize import minimize

    count = len(members)
    task = (members.astype(np.float64), np.eye(len(CLASSES))[truth], shrink, bias)
    result = minimize(loss, np.zeros(count + len(CLASSES)), task, method="L-BFGS-B", jac=True, options={"maxiter": 200})
    best, chosen = -1.0, np.zeros_like(result.x)
    for share in PATH[::-1]:  # of equal ones the nearest to the mean
        tried = result.x * share
        score = macro_f1(truth, apply_bias(members, softmax(tried[:count]), tried[count:]).argmax(1))
        if score > best:
            best, chosen = score, tried
    return softmax(chosen[:count]), chosen[count:]


def loss(x: Doubles, members: Doubles, hot: Doubles, shrink: float, bias: bool) -> tuple[float, Doubles]:
    """Return one minus the soft macro F1 over the classes that occur, with its penalty, and the gradient.

    x holds M logits of the weights and 18 biases; soft F1 counts probabilities where F1 counts guesses.
    """
    count = len(members)
    weights, offsets = softmax(x[:count]), x[count:] if bias else np.zeros(len(CLASSES))
    raw = weighted_sum(members, weights)  # (N, 18)
    scaled = np.exp(offsets) * np.maximum(raw, TINY)
    soft = scaled / scaled.sum(1, keepdims=True)
    present = hot.sum(0) > 0
    hits, both = (hot * soft).sum(0), hot.sum(0) + soft.sum(0)
    f1 = 2 * hits / both
    value = 1 - float(f1[present].mean()) + shrink * float(x @ x)
    by_soft = present * (2 * hot / both - 2 * hits / both**2) / present.sum()  # (N, 18), of the mean F1
    by_log = soft * (by_soft - (by_soft * soft).sum(1, keepdims=True))  # through the row's normalisation
    by_weight = members.reshape(count, -1) @ (by_log / np.maximum(raw, TINY)).ravel()
    by_logit = weights * (by_weight - weights @ by_weight)
    return value, 2 * shrink * x - np.concatenate([by_logit, by_log.sum(0) * bias])


def weighted_sum(members: npt.NDArray[Any], weights: Doubles) -> Doubles:
    """Return the weighted sum (N, 18) of (M, N, 18)."""
    return (weights @ members.reshape(len(members), -1)).reshape(members.shape[1:])


def apply_bias(members: FloatArray, weights: Doubles, offsets: Doubles) -> FloatArray:
    """Return the weighted mean with each class scaled by exp(its bias), rows summing to one, (K, 18)."""
    scaled = np.maximum(weighted_sum(members, weights), TINY) * np.exp(offsets)
    return (scaled / scaled.sum(1, keepdims=True)).astype(np.float32)


def softmax(logits: Doubles) -> Doubles:
    """Return weights on the simplex."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
