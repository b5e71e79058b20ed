"""YearsHead: a head for each attribute, that of a number, such as age, as a distribution over whole numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from maskcls.components.heads.base import Head, labelled_loss, outer_product
from maskcls.components.labels import find_open_ended
from maskcls.components.loss import Loss, compute_class_weights
from maskcls.core.task import Attribute, FloatArray, IntArray, bin_numbers


@dataclass(frozen=True)
class YearsHead(Head):
    """A head for each attribute, that of a number over the years `low` to `high`; its targets are side by side.

    The last year also stands for all later ones. `borders` are the first years of the classes but the first, in
    training. `expectation`, `mean` and `variance` are weights of loss terms relative to the loss of the years.
    """

    low: int
    high: int
    borders: tuple[float, ...]
    shape: Literal["gaussian", "laplace"]
    sigma: float
    link: Literal["softmax", "corn"]
    expectation: float
    mean: float
    variance: float

    @cached_property
    def number(self) -> Attribute:
        """The attribute that the years are of."""
        assert self.task.number is not None  # components.head.check_years
        return self.task.number

    @cached_property
    def axis(self) -> int:
        """The position of the part over years."""
        return self.task.axis(self.number.name)

    @cached_property
    def years(self) -> IntArray:
        """The years, (Y,)."""
        return np.arange(self.low, self.high + 1)

    @cached_property
    def members(self) -> FloatArray:
        """1 where a year belongs to a class, else 0, (classes, Y)."""
        classes = bin_numbers(self.years, self.borders)
        return np.eye(len(self.number.values), dtype=np.float32)[:, classes]

    @property
    def sizes(self) -> list[int]:
        """Number of values of each attribute, and of years."""
        sizes = list(self.task.shape)
        sizes[self.axis] = len(self.years)
        return sizes

    @property
    def logit_sizes(self) -> list[int]:
        """Number of logits of each part."""
        sizes = self.sizes
        sizes[self.axis] -= self.link == "corn"
        return sizes

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return sum(self.logit_sizes)

    @property
    def target_size(self) -> int:
        """Number of columns of the targets."""
        return sum(self.sizes)

    def build_targets(self, rows: pd.DataFrame, train_indices: IntArray) -> FloatArray:
        """Return the targets of each row's parts: years are a distribution around a known number, else of its class.

        Years are completed ones: an age of 29.9 is the year 29.
        """
        targets, column = self.part_targets(rows), rows[self.number.source]
        known, is_open = column.notna().to_numpy(), find_open_ended(rows, self.number, self.borders[-1])
        numbers = np.floor(column.fillna(0).to_numpy(float)).clip(self.low, self.high)
        around = self.spread(numbers, np.where(is_open, numbers, self.low))
        is_example = np.zeros(len(rows), bool)
        is_example[train_indices] = True
        years = targets[self.axis] @ self.years_of_classes(around[is_example & known])
        years[known] = around[known]
        targets[self.axis] = years
        return np.hstack(targets).astype(np.float32)

    def spread(self, numbers: FloatArray, lowest: FloatArray) -> FloatArray:
        """Return distributions around numbers (N,), without the years below `lowest` (N,), as (N, Y)."""
        distance = np.abs(self.years - numbers[:, None]) / self.sigma
        density = np.exp(-(distance**2) / 2 if self.shape == "gaussian" else -distance)
        density *= self.years >= lowest[:, None]
        return np.asarray(density / density.sum(1, keepdims=True), np.float32)

    def years_of_classes(self, examples: FloatArray) -> FloatArray:
        """Return the distribution of the examples' years in each class, (classes, Y); uniform without an example."""
        mass = self.members * examples.sum(0)
        mass = np.where(mass.sum(1, keepdims=True) > 0, mass, self.members)
        return np.asarray(mass / mass.sum(1, keepdims=True), np.float32)

    def split_targets(self, targets: Tensor) -> list[Tensor]:
        """Return the targets of each part, (N, its size)."""
        return list(targets.split(self.sizes, 1))

    def split_logits(self, logits: Tensor) -> list[Tensor]:
        """Return the logits of each part, (N, its size), in float32."""
        parts = list(logits.float().split(self.logit_sizes, 1))
        if self.link == "corn":
            parts[self.axis] = chain_years(parts[self.axis])
        return parts

    def class_counts(self, counts: Tensor) -> list[Tensor]:
        """Return the images per value of each attribute, and per year those of its class, divided by its years."""
        parts = super().class_counts(counts)
        members = torch.from_numpy(self.members).to(parts[self.axis])
        parts[self.axis] = members @ parts[self.axis] / members.sum(1) @ members
        return parts

    def split_class_weights(self, weights: list[float]) -> list[list[float]]:
        """Return the class weights of each part, and for each year those of its class."""
        parts = super().split_class_weights(weights)
        parts[self.axis] = (np.array(parts[self.axis]) @ self.members).tolist()
        return parts

    def loss_options(self, counts: list[Tensor], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the class weights of each part's loss if they differ from `params`: a year has those of its class."""
        method, options, own = params.get("class_weights"), super().loss_options(counts, params), counts[self.axis]
        if method in ("inverse", "effective"):
            members = torch.from_numpy(self.members).to(own)
            beta = {"beta": params["beta"]} if "beta" in params else {}
            weights = compute_class_weights(members @ own, method, **beta).to(members) @ members
            options[self.axis] = {"class_weights": weights.tolist()}
        return options

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, C) probabilities: the outer product of the parts, years summed over each class."""
        parts = [part.softmax(1) for part in self.split_logits(logits)]
        parts[self.axis] = parts[self.axis] @ torch.from_numpy(self.members).to(parts[self.axis]).T
        return outer_product(parts)

    @property
    def num_columns(self) -> int:
        """Number of columns of `predict`."""
        return super().num_columns + 2

    def predict(self, logits: Tensor) -> Tensor:
        """Return (N, C + 2): probabilities, E[number] and E[number²]."""
        years = torch.from_numpy(self.years).to(logits.device, torch.float32)
        moments = self.split_logits(logits)[self.axis].softmax(1) @ torch.stack([years, years**2], 1)
        return torch.cat([self.probabilities(logits), moments], 1)

    def build_criterion(
        self, build_loss: Callable[..., Loss], counts: Tensor, params: Mapping[str, Any] | None = None
    ) -> Loss:
        """Return the weighted sum of the parts' losses, with the terms of the predicted distribution of years."""
        total = super().build_criterion(build_loss, counts, params)
        if not self.expectation + self.mean + self.variance:
            return total

        def with_terms(logits: Tensor, targets: Tensor) -> Tensor:
            logits_of_years, own = self.split_logits(logits)[self.axis], self.split_targets(targets)[self.axis]
            if self.partial:
                terms = labelled_loss(self.logit_terms, logits_of_years, own)
            else:
                terms = self.logit_terms(logits_of_years, own)
            return total(logits, targets) + self.weights[self.axis] * terms

        return with_terms

    def logit_terms(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `distribution_terms` of logits (N, Y)."""
        return self.distribution_terms(logits.softmax(1), targets)

    def distribution_terms(self, probs: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted terms of distributions over years (N, Y): errors of the expected age, and variance."""
        years = torch.arange(self.low, self.high + 1, dtype=probs.dtype, device=probs.device)  # no copy to a GPU
        errors = (probs - targets) @ years
        variances = (probs * (years - (probs @ years)[:, None]) ** 2).sum(1)
        terms = self.expectation * errors.abs() + self.mean * errors**2 / 2 + self.variance * variances
        return terms.mean()


def chain_years(logits: Tensor) -> Tensor:
    """Return log-probabilities of Y years from the logits (N, Y − 1) of being older than a year, if that old at least.

    Their cross entropy is the loss of CORN (Shi et al. 2021). Logits of 0 mean that all years are equally probable.
    """
    num_later = torch.arange(logits.shape[1], 0, -1, dtype=logits.dtype, device=logits.device)
    logits = logits + num_later.log()
    zero = logits.new_zeros(len(logits), 1)
    reached = torch.cat([zero, logsigmoid(logits).cumsum(1)], 1)
    return reached + torch.cat([logsigmoid(-logits), zero], 1)
