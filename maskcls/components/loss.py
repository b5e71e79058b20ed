"""Losses: f(logits (N, C), targets (N, C) distributions) → scalar, with class weights and label smoothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, Proportion

registry = Registry("loss")
Loss = Callable[[Tensor, Tensor], Tensor]
Weights = Literal["none", "inverse", "effective"]


@registry.register
def ce(
    class_counts: Tensor, *, weights: Weights = "none", smoothing: Proportion = 0.0, beta: Proportion = 0.999
) -> Loss:
    """Cross entropy between distributions."""
    return focal(class_counts, gamma=0.0, weights=weights, smoothing=smoothing, beta=beta)


@registry.register
def focal(
    class_counts: Tensor,
    *,
    gamma: NonNegativeFloat = 2.0,
    weights: Weights = "none",
    smoothing: Proportion = 0.0,
    beta: Proportion = 0.999,
) -> Loss:
    """Cross entropy with each term scaled by (1 − p)^gamma (Lin et al. 2017, Focal Loss); gamma 0 is cross entropy."""
    weight = class_weights(class_counts, weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logp = logits.log_softmax(1)
        terms = -smooth_labels(targets, smoothing) * weight.to(logp) * logp
        if gamma:
            # clamped because the gradient of the power is infinite at 0 for gamma < 1
            terms = terms * (1 - logp.exp()).clamp_min(1e-7) ** gamma
        return terms.sum(1).mean()

    return loss


@registry.register
def f1(
    class_counts: Tensor, *, weights: Weights = "none", smoothing: Proportion = 0.0, beta: Proportion = 0.999
) -> Loss:
    """One minus the soft macro F1 of a batch: probabilities in place of counts."""
    weight = class_weights(class_counts, weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        probs, targets = logits.softmax(1), smooth_labels(targets, smoothing)
        hits = (probs * targets).sum(0)
        score = 2 * hits / (probs.sum(0) + targets.sum(0)).clamp_min(1e-7)
        class_share = weight.to(score) / weight.to(score).sum()
        return 1 - (class_share * score).sum()

    return loss


def smooth_labels(targets: Tensor, smoothing: float) -> Tensor:
    """Return targets with label smoothing (Szegedy et al. 2016)."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1] if smoothing else targets


def class_weights(class_counts: Tensor, method: Weights, beta: float = 0.999) -> Tensor:
    """Return (C,) weights whose mean over the training images is 1; a class without images has weight 0.

    `inverse` is 1/n; `effective` is (1 − beta)/(1 − beta^n), the inverse of the effective number of images
    (Cui et al. 2019, Class-Balanced Loss).
    """
    n = class_counts.double()
    if method == "none":
        return torch.ones_like(n).float()
    raw = 1 / n if method == "inverse" else (1 - beta) / (1 - beta**n)
    raw = torch.where(n > 0, raw, 0.0)
    return (raw * n.sum() / (raw * n).sum()).float()
