"""Head: conversion of logits to class probabilities, and of targets to a loss, as a sum over one or three parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from maskcls.components.loss import Loss
from maskcls.core.errors import ConfigError
from maskcls.core.table import train_targets
from maskcls.core.task import CLASSES, SHAPE, FloatArray, IntArray


@dataclass(frozen=True)
class Head:
    """Conversion of `outputs` logits to (N, 18) probabilities, and of (N, target_size) targets to a loss on the logits.

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

    @property
    def target_size(self) -> int:
        """Number of columns of the targets."""
        return len(CLASSES)

    def build_targets(self, rows: pd.DataFrame, train_indices: IntArray) -> FloatArray:
        """Return the targets of a fold's rows, (N, target_size); `train_indices` are the rows it trains on."""
        return train_targets(rows)

    def class_counts(self, counts: Tensor) -> list[Tensor]:
        """Return each part's images per class from the sum of the training targets, (target_size,)."""
        return [part[0] for part in self.split_targets(counts[None])]

    def split_targets(self, targets: Tensor) -> list[Tensor]:
        """Return the targets of each part, (N, its size), from targets (N, 18)."""
        cube = targets.reshape(-1, *SHAPE)
        return [cube.sum([a + 1 for a in range(3) if a not in axes]).flatten(1) if len(axes) < 3 else targets
                for axes in self.axes]  # fmt: skip

    def split_logits(self, logits: Tensor) -> list[Tensor]:
        """Return the logits of each part, (N, its size), in float32."""
        return list(logits.float().split(self.sizes, 1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, 18) probabilities: the outer product of the parts' softmaxes, in float32."""
        parts = [part.softmax(1) for part in self.split_logits(logits)]
        if len(parts) == 1:
            return parts[0]
        return torch.einsum("nm,ng,na->nmga", *parts).flatten(1)

    @property
    def num_columns(self) -> int:
        """Number of columns of `predict`."""
        return len(CLASSES)

    def predict(self, logits: Tensor) -> Tensor:
        """Return (N, num_columns): probabilities, and of a head over years E[age] and E[age²].

        The mean of several predictions is the prediction of their mixture.
        """
        return self.probabilities(logits)

    def split_class_weights(self, weights: list[float]) -> list[list[float]]:
        """Return each part's class weights; raise ConfigError if their number is not that of the parts' classes."""
        sizes = [int(np.prod([SHAPE[axis] for axis in axes])) for axes in self.axes]
        if len(weights) != sum(sizes):
            raise ConfigError(f"loss.class_weights: expected {' + '.join(map(str, sizes))} weights, got {len(weights)}")
        ends = np.cumsum(sizes)
        return [weights[end - size : end] for size, end in zip(sizes, ends, strict=True)]

    def loss_options(self, counts: list[Tensor], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the parameters of each part's loss that differ from `params`: the part of the user's class weights."""
        weights = params.get("class_weights")
        parts = self.split_class_weights(weights) if isinstance(weights, list) else None
        return [{"class_weights": part} for part in parts] if parts else [{} for _ in counts]

    def build_criterion(
        self, build_loss: Callable[..., Loss], counts: Tensor, params: Mapping[str, Any] | None = None
    ) -> Loss:
        """Return loss(logits, targets (N, target_size)): the weighted sum of the parts' losses.

        `counts` is the sum of the training targets, from which each part has its class counts; `params` are the
        parameters of the loss, whose class weights differ between the parts.
        """
        parts = self.class_counts(counts)
        options = self.loss_options(parts, params or {})
        losses = [build_loss(part, **own) for part, own in zip(parts, options, strict=True)]

        def total(logits: Tensor, targets: Tensor) -> Tensor:
            parts = zip(self.split_logits(logits), self.split_targets(targets), strict=True)
            terms = [weight * loss(*part) for loss, weight, part in zip(losses, self.weights, parts, strict=True)]
            return torch.stack(terms).sum()

        return total
