"""Ensembles: the probabilities of several members (M, N, 18) combined into one table (N, 18).

A builder receives the members' out-of-fold probabilities (M, N, 18), the labels (N,) and the person of each image (N,).
Blends that are fitted to the labels are cross-fitted by person, so that their out-of-fold score holds for new people.
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
PATH = np.linspace(1, 0, 5)  # from the optimum back to the mean


@dataclass(frozen=True)
class Blend:
    """An ensemble: out-of-fold probabilities (N, 18), the function for new images, and a note on their validity."""

    oof: FloatArray
    combine: Combine
    validity_note: str

    def __call__(self, members: FloatArray) -> FloatArray:
        """Return the blended probabilities (K, 18) of new images, given the members' (M, K, 18)."""
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
    """The mean with a weight for each member, in the order of the runs; the weights are scaled to sum to one."""
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
        votes = np.eye(len(CLASSES), dtype=np.float32)[tables.argmax(2)].sum(0)  # (K, 18)
        return (votes + tables.mean(0)) / (len(tables) + 1)

    return build_fixed_blend(members, count)


@registry.register
def rank(members: FloatArray, labels: IntArray, person_ids: Sequence[str]) -> Blend:
    """The mean over the members of each probability's rank in its class column, scaled to sum to one in each row.

    Ranks are relative to the out-of-fold images, also for new images, so that a single image has one. Uniform columns
    make all classes equally frequent, in favor of rare ones.
    """
    columns = np.sort(members, axis=1)  # (M, N, 18)

    def mean_rank(tables: FloatArray) -> FloatArray:
        total = np.zeros(tables.shape[1:])
        for column, table in zip(columns, tables, strict=True):
            for c in range(len(CLASSES)):
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
    """
    from sklearn.model_selection import GroupKFold

    names = np.asarray(person_ids, dtype=str)
    num_groups = min(folds, len(np.unique(names)))
    if num_groups < 2:
        raise ConfigError("blend=fitted is cross-fitted by person and needs at least 2 people, got fewer")
    oof = np.empty(members.shape[1:], np.float32)
    for train, val in GroupKFold(num_groups).split(names, groups=names):
        oof[val] = apply_bias(members[:, val], *fit_weights(members[:, train], labels[train], shrink, bias))
    weights, offsets = fit_weights(members, labels, shrink, bias)
    params = f"weights ({', '.join(f'{weight:.2f}' for weight in weights)}){' and class biases' if bias else ''}"
    note = f"{params}, cross-fitted over {num_groups} groups of people"
    return Blend(oof, lambda tables: apply_bias(tables, weights, offsets), note)


def fit_weights(members: FloatArray, labels: IntArray, shrink: float, bias: bool) -> tuple[Doubles, Doubles]:
    """Return weights (M,) and class biases (18,): the best by macro F1 between the optimum and the mean."""
    from scipy.optimize import minimize

    count = len(members)
    task = (members.astype(np.float64), np.eye(len(CLASSES))[labels], shrink, bias)
    result = minimize(loss, np.zeros(count + len(CLASSES)), task, method="L-BFGS-B", jac=True, options={"maxiter": 200})
    best, selected = -1.0, np.zeros_like(result.x)
    for fraction in PATH[::-1]:  # of ties the nearest to the mean
        candidate = result.x * fraction
        score = macro_f1(labels, apply_bias(members, softmax(candidate[:count]), candidate[count:]).argmax(1))
        if score > best:
            best, selected = score, candidate
    return softmax(selected[:count]), selected[count:]


def loss(x: Doubles, members: Doubles, hot: Doubles, shrink: float, bias: bool) -> tuple[float, Doubles]:
    """Return one minus the soft macro F1 over the classes present, with the penalty, and its gradient.

    x is M logits of the weights and 18 biases; soft F1 sums probabilities where F1 counts predictions.
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
