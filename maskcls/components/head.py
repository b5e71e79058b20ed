"""The model's last layer: one head of 18 classes, or three whose outer product is the 18 classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.task import SHAPE

registry = Registry("head")
Objective = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Head:
    """How `outputs` logits become (N, 18) probabilities, and how (N, 18) targets become a loss on the logits.

    `keep` holds for each part the axes of the (N, mask, gender, age) cube that it speaks of, `weights` its share.
    """

    axes: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]

    @property
    def sizes(self) -> list[int]:
        """Classes of each part."""
        return [int(np.prod([SHAPE[axis] for axis in axes])) for axes in self.axes]

    @property
    def outputs(self) -> int:
        """Logits that the model must give."""
        return sum(self.sizes)

    def marginals(self, targets: Tensor) -> list[Tensor]:
        """Return the parts' targets, (N, size of the part), of targets (N, 18)."""
        cube = targets.reshape(-1, *SHAPE)
        return [cube.sum([a + 1 for a in range(3) if a not in axes]).flatten(1) if len(axes) < 3 else targets
                for axes in self.axes]  # fmt: skip

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, 18) probabilities: the outer product of the parts' softmaxes, in float32."""
        parts = [part.float().softmax(1) for part in logits.split(self.sizes, 1)]
        if len(parts) == 1:
            return parts[0]
        return torch.einsum("nm,ng,na->nmga", *parts).flatten(1)

    def build_criterion(self, build: Callable[[Tensor], Objective], counts: Tensor) -> Objective:
        """Return loss(logits, targets (N, 18)): the weighted sum of a loss for each part, each with its own counts."""
        losses = [build(part[0]) for part in self.marginals(counts[None])]

        def total(logits: Tensor, targets: Tensor) -> Tensor:
            pieces = zip(
                losses, self.weights, logits.float().split(self.sizes, 1), self.marginals(targets), strict=True
            )
            return torch.stack([weight * loss(x, t) for loss, weight, x, t in pieces]).sum()

        return total


@registry.register
def single() -> Head:
    """One head of 18 classes."""
    return Head(axes=((0, 1, 2),), weights=(1.0,))


@registry.register
def triple(*, mask: NonNegativeFloat = 1.0, gender: NonNegativeFloat = 1.0, age: NonNegativeFloat = 1.0) -> Head:
    """Three heads, mask (3), gender (2) and age (3), whose losses are summed with these weights."""
    return Head(axes=((0,), (1,), (2,)), weights=(mask, gender, age))
