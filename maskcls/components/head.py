"""Classifier heads: one of 18 classes, or three (mask, gender, age) whose outer product has 18 classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskcls.components.loss import Loss
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.task import SHAPE

registry = Registry("head")


@dataclass(frozen=True)
class Head:
    """Conversion of `outputs` logits to (N, 18) probabilities, and of (N, 18) targets to a loss on the logits.

    `axes` are, per part, its axes of the (mask, gender, age) cube; `weights` scale the parts' losses.
    """

    axes: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]

    @property
    def sizes(self) -> list[int]:
        """Number of classes of each part."""
        return [int(np.prod([SHAPE[axis] for axis in axes])) for axes in self.axes]

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return sum(self.sizes)

    def marginals(self, targets: Tensor) -> list[Tensor]:
        """Return the targets of each part, (N, its size), from targets (N, 18)."""
        cube = targets.reshape(-1, *SHAPE)
        return [cube.sum([a + 1 for a in range(3) if a not in axes]).flatten(1) if len(axes) < 3 else targets
                for axes in self.axes]  # fmt: skip

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, 18) probabilities: the outer product of the parts' softmaxes, in float32."""
        parts = [part.float().softmax(1) for part in logits.split(self.sizes, 1)]
        if len(parts) == 1:
            return parts[0]
        return torch.einsum("nm,ng,na->nmga", *parts).flatten(1)

    def build_criterion(self, build_loss: Callable[[Tensor], Loss], class_counts: Tensor) -> Loss:
        """Return loss(logits, targets (N, 18)): the weighted sum of the parts' losses, each with its class counts."""
        losses = [build_loss(counts[0]) for counts in self.marginals(class_counts[None])]

        def total(logits: Tensor, targets: Tensor) -> Tensor:
            parts = zip(logits.float().split(self.sizes, 1), self.marginals(targets), strict=True)
            terms = [weight * loss(*part) for loss, weight, part in zip(losses, self.weights, parts, strict=True)]
            return torch.stack(terms).sum()

        return total


@registry.register
def single() -> Head:
    """One head of 18 classes."""
    return Head(axes=((0, 1, 2),), weights=(1.0,))


@registry.register
def triple(*, mask: NonNegativeFloat = 1.0, gender: NonNegativeFloat = 1.0, age: NonNegativeFloat = 1.0) -> Head:
    """Three heads, mask (3), gender (2) and age (3), whose losses are summed with these weights."""
    return Head(axes=((0,), (1,), (2,)), weights=(mask, gender, age))
