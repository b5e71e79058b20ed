"""Weights of members and biases of class log-probabilities, fitted to macro F1 and cross-fitted by person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskcls.core.errors import ConfigError
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.metrics import macro_f1

Doubles = npt.NDArray[np.float64]
TINY = 1e-12
PATH = np.linspace(1, 0, 5)  # from the optimum back to the mean


def cross_fit(
    name: str, members: FloatArray, labels: IntArray, person_ids: Sequence[str], folds: int,
    fit: Callable[[FloatArray, IntArray], tuple[Doubles, ...]], combine: Callable[..., FloatArray],
) -> tuple[FloatArray, int]:  # fmt: skip
    """Return out-of-fold probabilities (N, C), each with parameters fitted to other people, and the number of folds.

    `fit(members, labels)` returns the parameters of `combine(members, *parameters)`. ConfigError with fewer than two
    people, which names what is fitted.
    """
    from sklearn.model_selection import GroupKFold

    names = np.asarray(person_ids, dtype=str)
    num_groups = min(folds, len(np.unique(names)))
    if num_groups < 2:
        raise ConfigError(f"{name} is cross-fitted by person and needs at least 2 people, got {num_groups}")
    oof = np.empty(members.shape[1:], np.float32)
    for train, val in GroupKFold(num_groups).split(names, groups=names):
        oof[val] = combine(members[:, val], *fit(members[:, train], labels[train]))
    return oof, num_groups


def fit_weights(members: FloatArray, labels: IntArray, shrink: float, basis: Doubles) -> tuple[Doubles, Doubles]:
    """Return weights (M,) and class biases (C,): the best by macro F1 between the optimum and the mean.

    The biases are `basis` (C, P) × the P parameters that are fitted; P = 0 fits the weights alone.
    """
    from scipy.optimize import minimize

    count = len(members)
    task = (members.astype(np.float64), np.eye(members.shape[2])[labels], shrink, basis)
    start = np.zeros(count + basis.shape[1])
    result = minimize(loss, start, task, method="L-BFGS-B", jac=True, options={"maxiter": 200})
    best, selected = -1.0, start
    for fraction in PATH[::-1]:  # of ties the nearest to the mean
        candidate = result.x * fraction
        weights, offsets = softmax(candidate[:count]), basis @ candidate[count:]
        score = macro_f1(labels, apply_bias(members, weights, offsets).argmax(1))
        if score > best:
            best, selected = score, candidate
    return softmax(selected[:count]), basis @ selected[count:]


def loss(x: Doubles, members: Doubles, hot: Doubles, shrink: float, basis: Doubles) -> tuple[float, Doubles]:
    """Return one minus the soft macro F1 over the classes present, with the penalty, and its gradient.

    x is M logits of the weights and P parameters of the biases; soft F1 sums probabilities where F1 counts predictions.
    """
    count = len(members)
    weights, offsets = softmax(x[:count]), basis @ x[count:]
    raw = weighted_sum(members, weights)  # (N, C)
    scaled = np.exp(offsets) * np.maximum(raw, TINY)
    soft = scaled / scaled.sum(1, keepdims=True)
    present = hot.sum(0) > 0
    hits, both = (hot * soft).sum(0), hot.sum(0) + soft.sum(0)
    f1 = 2 * hits / both
    value = 1 - float(f1[present].mean()) + shrink * float(x @ x)
    by_soft = present * (2 * hot / both - 2 * hits / both**2) / present.sum()  # (N, C), of the mean F1
    by_log = soft * (by_soft - (by_soft * soft).sum(1, keepdims=True))  # through the row's normalisation
    by_weight = members.reshape(count, -1) @ (by_log / np.maximum(raw, TINY)).ravel()
    by_logit = weights * (by_weight - weights @ by_weight)
    return value, 2 * shrink * x - np.concatenate([by_logit, basis.T @ by_log.sum(0)])


def weighted_sum(members: npt.NDArray[Any], weights: Doubles) -> Doubles:
    """Return the weighted sum (N, C) of (M, N, C)."""
    return (weights @ members.reshape(len(members), -1)).reshape(members.shape[1:])


def apply_bias(members: FloatArray, weights: Doubles, offsets: Doubles) -> FloatArray:
    """Return the weighted mean with each class scaled by exp(its bias), rows summing to one, (K, C)."""
    scaled = np.maximum(weighted_sum(members, weights), TINY) * np.exp(offsets)
    return (scaled / scaled.sum(1, keepdims=True)).astype(np.float32)


def softmax(logits: Doubles) -> Doubles:
    """Return weights on the simplex."""
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def decide(probs: FloatArray, bias: npt.ArrayLike | None) -> FloatArray:
    """Return probabilities (…, C) with each class scaled by exp(its bias), rows summing to one; unchanged for None."""
    if bias is None:
        return probs
    return apply_bias(probs.reshape(1, -1, probs.shape[-1]), np.ones(1), np.asarray(bias)).reshape(probs.shape)
