"""Head: conversion of logits to class probabilities, and of targets to a loss, as a sum over its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from maskcls.components.loss import Loss
from maskcls.core.errors import ConfigError
from maskcls.core.table import attribute_targets, has_missing_labels, train_targets
from maskcls.core.task import FloatArray, IntArray, Task

LETTERS = "abcdefghijklmopqrstuvwxyz"  # of einsum, without n


@dataclass(frozen=True)
class Head:
    """Conversion of `outputs` logits to (N, C) probabilities, and of (N, target_size) targets to a loss on the logits.

    `axes` are, per part, its attributes' positions in the task; `weights` scale the parts' losses. With `partial`, some
    images lack the labels of some attributes: the targets are those of the parts, side by side, with zeros for a part
    without a label.
    """

    task: Task
    axes: tuple[tuple[int, ...], ...]
    weights: tuple[float, ...]
    partial: bool = field(default=False, kw_only=True)

    def for_table(self, table: pd.DataFrame) -> Self:
        """Return the head for the training images of a table; ConfigError if it cannot do without some labels."""
        if not has_missing_labels(table, self.task):
            return self
        if any(len(axes) > 1 for axes in self.axes):
            num_rows = int(((table["label"] < 0) & (table["part"] != "eval")).sum())
            what = f"{num_rows} training images lack the label of an attribute"
            raise ConfigError(f"head=single: {what}. Set head=triple, a classifier for each attribute, or remove them")
        return replace(self, partial=True)

    @property
    def sizes(self) -> list[int]:
        """Number of classes of each part."""
        return [int(np.prod([self.task.shape[axis] for axis in axes])) for axes in self.axes]

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return sum(self.sizes)

    @property
    def target_size(self) -> int:
        """Number of columns of the targets."""
        return sum(self.sizes) if self.partial else self.task.num_classes

    def build_targets(self, rows: pd.DataFrame, train_indices: IntArray) -> FloatArray:
        """Return the targets of a fold's rows, (N, target_size); `train_indices` are the rows it trains on."""
        if self.partial:
            return np.hstack(self.part_targets(rows))
        return train_targets(rows, self.task)

    def part_targets(self, rows: pd.DataFrame) -> list[FloatArray]:
        """Return the target distribution over each attribute, (N, values) each, zeros without a label."""
        joint = train_targets(rows, self.task)
        known = joint.any(axis=1, keepdims=True)
        parts = zip(self.task.marginals(joint), attribute_targets(rows, self.task), strict=True)
        return [np.where(known, marginal, own) for marginal, own in parts]

    def class_counts(self, counts: Tensor) -> list[Tensor]:
        """Return each part's images per class from the sum of the training targets, (target_size,)."""
        return [part[0] for part in self.split_targets(counts[None])]

    def split_targets(self, targets: Tensor) -> list[Tensor]:
        """Return the targets of each part, (N, its size), from targets (N, target_size)."""
        if self.partial:
            return list(targets.split(self.sizes, 1))
        cube, count = targets.reshape(-1, *self.task.shape), len(self.task.shape)
        return [cube.sum([a + 1 for a in range(count) if a not in axes]).flatten(1) if len(axes) < count else targets
                for axes in self.axes]  # fmt: skip

    def split_logits(self, logits: Tensor) -> list[Tensor]:
        """Return the logits of each part, (N, its size), in float32."""
        return list(logits.float().split(self.sizes, 1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, C) probabilities: the outer product of the parts' softmaxes, in float32."""
        return outer_product([part.softmax(1) for part in self.split_logits(logits)])

    @property
    def num_columns(self) -> int:
        """Number of columns of `predict`."""
        return self.task.num_classes

    def predict(self, logits: Tensor) -> Tensor:
        """Return (N, num_columns): probabilities, and of a head over a number E[number] and E[number²].

        The mean of several predictions is the prediction of their mixture.
        """
        return self.probabilities(logits)

    def split_class_weights(self, weights: list[float]) -> list[list[float]]:
        """Return each part's class weights; raise ConfigError if their number is not that of the parts' classes."""
        sizes = [int(np.prod([self.task.shape[axis] for axis in axes])) for axes in self.axes]
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
            if self.partial:
                terms = [weight * labelled_loss(loss, *part)
                         for loss, weight, part in zip(losses, self.weights, parts, strict=True)]  # fmt: skip
            else:
                terms = [weight * loss(*part) for loss, weight, part in zip(losses, self.weights, parts, strict=True)]
            return torch.stack(terms).sum()

        return total


def outer_product(parts: list[Tensor]) -> Tensor:
    """Return the outer product (N, a·b·…) of the parts (N, a), (N, b), …."""
    if len(parts) == 1:
        return parts[0]
    letters = LETTERS[: len(parts)]
    return torch.einsum(f"{','.join('n' + letter for letter in letters)}->n{letters}", *parts).flatten(1)


def labelled_loss(loss: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    """Return a part's loss on its images with a label, whose targets sum to 1; 0 if there are none.

    A target that is mixed with that of an image without a label counts as that of the other image.
    """
    mass = targets.sum(1)
    rows = mass > 0
    return loss(logits[rows], targets[rows] / mass[rows, None]) if rows.any() else logits.sum() * 0
