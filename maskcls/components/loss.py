"""Losses: f(logits (N, C), targets (N, C) distributions) → scalar, with class weights and label smoothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, PositiveFloat, Proportion

registry = Registry("loss")
Loss = Callable[[Tensor, Tensor], Tensor]
ClassWeights = Literal["none", "inverse", "effective"] | list[PositiveFloat]


@registry.register
def ce(
    class_counts: Tensor, *, class_weights: ClassWeights = "none", label_smoothing: Proportion = 0.0,
    beta: Proportion = 0.999,
) -> Loss:  # fmt: skip
    """Cross entropy between distributions.

    Args:
        class_weights: none, the inverse of a class's images, or of their effective number; or a list of the weights
        label_smoothing: fraction of each target that is spread evenly over all classes
        beta: beta of class_weights=effective: 0 is none, the closer to 1 the closer to inverse
    """
    return focal(class_counts, gamma=0.0, class_weights=class_weights, label_smoothing=label_smoothing, beta=beta)


@registry.register
def focal(
    class_counts: Tensor,
    *,
    gamma: NonNegativeFloat = 2.0,
    class_weights: ClassWeights = "none",
    label_smoothing: Proportion = 0.0,
    beta: Proportion = 0.999,
) -> Loss:
    """Cross entropy with each term scaled by (1 − p)^gamma (Lin et al. 2017, Focal Loss); gamma 0 is cross entropy.

    Args:
        gamma: focusing exponent; 0 is cross-entropy
        class_weights: none, the inverse of a class's images, or of their effective number; or a list of the weights
        label_smoothing: fraction of each target that is spread evenly over all classes
        beta: beta of class_weights=effective: 0 is none, the closer to 1 the closer to inverse
    """
    weight = compute_class_weights(class_counts, class_weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        logp = logits.log_softmax(1)
        terms = -smooth_labels(targets, label_smoothing) * weight.to(logp) * logp
        if gamma:
            # clamped because the gradient of the power is infinite at 0 for gamma < 1
            terms = terms * (1 - logp.exp()).clamp_min(1e-7) ** gamma
        return terms.sum(1).mean()

    return loss


@registry.register
def f1(
    class_counts: Tensor, *, class_weights: ClassWeights = "none", label_smoothing: Proportion = 0.0,
    beta: Proportion = 0.999,
) -> Loss:  # fmt: skip
    """One minus the soft macro F1 of a batch: probabilities in place of counts.

    Args:
        class_weights: none, the inverse of a class's images, or of their effective number; or a list of the weights
        label_smoothing: fraction of each target that is spread evenly over all classes
        beta: beta of class_weights=effective: 0 is none, the closer to 1 the closer to inverse
    """
    weight = compute_class_weights(class_counts, class_weights, beta)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        probs, targets = logits.softmax(1), smooth_labels(targets, label_smoothing)
        hits = (probs * targets).sum(0)
        score = 2 * hits / (probs.sum(0) + targets.sum(0)).clamp_min(1e-7)
        class_share = weight.to(score) / weight.to(score).sum()
        return 1 - (class_share * score).sum()

    return loss


def smooth_labels(targets: Tensor, smoothing: float) -> Tensor:
    """Return targets with label smoothing (Szegedy et al. 2016)."""
    return targets * (1 - smoothing) + smoothing / targets.shape[1] if smoothing else targets


def compute_class_weights(class_counts: Tensor, method: ClassWeights, beta: float = 0.999) -> Tensor:
    """Return (C,) weights whose mean over the training images is 1; a class without images has weight 0.

    `inverse` is 1/n; `effective` is (1 − beta)/(1 − beta^n), the inverse of the effective number of images
    (Cui et al. 2019, Class-Balanced Loss); a list has the ratios of the weights.
    """
    n = class_counts.double()
    if method == "none":
        return torch.ones_like(n).float()
    if isinstance(method, list):
        raw = torch.tensor(method).to(n)
    else:
        raw = 1 / n if method == "inverse" else (1 - beta) / (1 - beta**n)
    raw = torch.where(n > 0, raw, 0.0)
    return (raw * n.sum() / (raw * n).sum()).float()
