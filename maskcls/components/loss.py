"""Losses: f(logits (N, C), targets (N, C) distributions) → scalar; each takes class weights and label smoothing."""

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
def ce(counts: Tensor, *, weights: Weights = "none", smoothing: Proportion = 0.0, beta: Proportion = 0.999) -> Loss:
    """Cross entropy between distributions."""
    return focal(counts, gamma=0.0, weights=weights, smoothing=smoothing, beta=beta)


@registry.register
def focal(
    counts: Tensor,
    *,
    gamma: NonNegativeFloat = 2.0,
    weights: Weights = "none",
    smoothing: Proportion = 0.0,
    beta: Proportion = 0.999,
) -> Loss:
    """Cross entropy with each term scaled by (1 − p)^gamma (Lin et al. 2017, Focal Loss); gamma 0 is cross entropy."""
    weight = class_weights(counts, weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logp = logits.log_softmax(1)
        terms = -smooth_labels(targets, smoothing) * weight.to(logp) * logp
        if gamma:
            # 1 − p is kept off 0, where the power's gradient is infinite for gamma < 1
            terms = terms * (1 - logp.exp()).clamp_min(1e-7) ** gamma
        return terms.sum(1).mean()

    return loss


@registry.register
def f1(counts: Tensor, *, weights: Weights = "none", smoothing: Proportion = 0.0, beta: Proportion = 0.999) -> Loss:
    """One minus the macro F1 of a batch, with probabilities in place of counts (the soft F1)."""
    weight = class_weights(counts, weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        probs, truth = logits.softmax(1), smooth_labels(targets, smoothing)
        hits = (probs * truth).sum(0)
        score = 2 * hits / (probs.sum(0) + truth.sum(0)).clamp_min(1e-7)
        share = weight.to(score) / weight.to(score).sum()
        return 1 - (share * score).sum()

    return loss


def smooth_labels(targets: Tensor, share: float) -> Tensor:
    """Return distributions with a share spread evenly over the classes (Szegedy et al. 2016)."""
    return targets * (1 - share) + share / targets.shape[1] if share else targets


def class_weights(counts: Tensor, way: Weights, beta: float = 0.999) -> Tensor:
    """Return (C,) weights whose mean over the training photos is 1; a class without photos has weight 0.

    `inverse` is 1/n; `effective` is (1 − beta)/(1 − beta^n), the inverse of the effective number of photos
    (Cui et al. 2019, Class-Balanced Loss).
    """
    n = counts.double()
    if way == "none":
        return torch.ones_like(n).float()
    raw = 1 / n if way == "inverse" else (1 - beta) / (1 - beta**n)
    raw = torch.where(n > 0, raw, 0.0)
    return (raw * n.sum() / (raw * n).sum()).float()
