"""YearsHead: mask, gender, and age as a distribution over years."""

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

from maskcls.components.heads.base import Head
from maskcls.components.labels import find_open_ended
from maskcls.components.loss import Loss, compute_class_weights
from maskcls.core import task
from maskcls.core.table import train_targets
from maskcls.core.task import AGE_THRESHOLDS, AGES, SHAPE, FloatArray, IntArray

NUM_OTHERS = sum(SHAPE[:2])  # logits of mask and gender, which come first


@dataclass(frozen=True)
class YearsHead(Head):
    """Mask, gender, and age as a distribution over the years `low` to `high`; its targets are the parts, side by side.

    The last year also stands for all later ones. `border` is the first year of the oldest class. `expectation`, `mean`
    and `variance` are weights of loss terms relative to the loss of the years.
    """

    low: int
    high: int
    border: int
    shape: Literal["gaussian", "laplace"]
    sigma: float
    link: Literal["softmax", "corn"]
    expectation: float
    mean: float
    variance: float

    @cached_property
    def years(self) -> IntArray:
        """The years, (Y,)."""
        return np.arange(self.low, self.high + 1)

    @cached_property
    def members(self) -> FloatArray:
        """1 where a year belongs to an age class, else 0, (3, Y)."""
        classes = task.bin_age(self.years, (AGE_THRESHOLDS[0], self.border))
        return np.eye(len(AGES), dtype=np.float32)[:, classes]

    @property
    def sizes(self) -> list[int]:
        """Number of mask classes, genders and years."""
        return [*SHAPE[:2], len(self.years)]

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return self.target_size - (self.link == "corn")

    @property
    def target_size(self) -> int:
        """Number of columns of the targets."""
        return sum(self.sizes)

    def build_targets(self, rows: pd.DataFrame, train_indices: IntArray) -> FloatArray:
        """Return mask, gender and years of each row: a distribution around a known age, else the years of its class.

        Years are completed ones: an age of 29.9 is the year 29.
        """
        mask, gender, classes = task.marginals(train_targets(rows))
        known, is_open = rows["age"].notna().to_numpy(), find_open_ended(rows, self.border)
        ages = np.floor(rows["age"].fillna(0).to_numpy(float)).clip(self.low, self.high)
        around = self.spread(ages, np.where(is_open, ages, self.low))
        is_example = np.zeros(len(rows), bool)
        is_example[train_indices] = True
        years = classes @ self.years_of_classes(around[is_example & known])
        years[known] = around[known]
        return np.hstack([mask, gender, years]).astype(np.float32)

    def spread(self, ages: FloatArray, lowest: FloatArray) -> FloatArray:
        """Return distributions around ages (N,), without the years below `lowest` (N,), as (N, Y)."""
        distance = np.abs(self.years - ages[:, None]) / self.sigma
        density = np.exp(-(distance**2) / 2 if self.shape == "gaussian" else -distance)
        density *= self.years >= lowest[:, None]
        return np.asarray(density / density.sum(1, keepdims=True), np.float32)

    def years_of_classes(self, examples: FloatArray) -> FloatArray:
        """Return the distribution of the examples' years in each age class, (3, Y); uniform without an example."""
        mass = self.members * examples.sum(0)
        mass = np.where(mass.sum(1, keepdims=True) > 0, mass, self.members)
        return np.asarray(mass / mass.sum(1, keepdims=True), np.float32)

    def split_targets(self, targets: Tensor) -> list[Tensor]:
        """Return the targets of each part, (N, its size)."""
        return list(targets.split(self.sizes, 1))

    def split_logits(self, logits: Tensor) -> list[Tensor]:
        """Return the logits of mask, gender and years, (N, its size), in float32."""
        mask, gender, years = logits.float().split([*SHAPE[:2], self.outputs - NUM_OTHERS], 1)
        return [mask, gender, chain_years(years) if self.link == "corn" else years]

    def class_counts(self, counts: Tensor) -> list[Tensor]:
        """Return the images per mask class and gender, and per year those of its age class, divided by its years."""
        mask, gender, years = super().class_counts(counts)
        members = torch.from_numpy(self.members).to(years)
        return [mask, gender, members @ years / members.sum(1) @ members]

    def split_class_weights(self, weights: list[float]) -> list[list[float]]:
        """Return the class weights of mask and gender, and for each year that of its age class."""
        mask, gender, age = super().split_class_weights(weights)
        return [mask, gender, (np.array(age) @ self.members).tolist()]

    def loss_options(self, counts: list[Tensor], params: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the class weights of each part's loss if they differ from `params`: a year has its age class's."""
        method, options = params.get("class_weights"), super().loss_options(counts, params)
        if method in ("inverse", "effective"):
            members = torch.from_numpy(self.members).to(counts[2])
            beta = {"beta": params["beta"]} if "beta" in params else {}
            weights = compute_class_weights(members @ counts[2], method, **beta).to(members) @ members
            options[2] = {"class_weights": weights.tolist()}
        return options

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return (N, 18) probabilities: the outer product of mask, gender and the years summed over each age class."""
        mask, gender, years = (part.softmax(1) for part in self.split_logits(logits))
        ages = years @ torch.from_numpy(self.members).to(years).T
        return torch.einsum("nm,ng,na->nmga", mask, gender, ages).flatten(1)

    @property
    def num_columns(self) -> int:
        """Number of columns of `predict`."""
        return super().num_columns + 2

    def predict(self, logits: Tensor) -> Tensor:
        """Return (N, 20): 18 probabilities, E[age] in years and E[age²]."""
        years = torch.from_numpy(self.years).to(logits.device, torch.float32)
        moments = self.split_logits(logits)[2].softmax(1) @ torch.stack([years, years**2], 1)
        return torch.cat([self.probabilities(logits), moments], 1)

    def build_criterion(
        self, build_loss: Callable[..., Loss], counts: Tensor, params: Mapping[str, Any] | None = None
    ) -> Loss:
        """Return the weighted sum of the parts' losses, with the terms of the predicted distribution of years."""
        total = super().build_criterion(build_loss, counts, params)
        if not self.expectation + self.mean + self.variance:
            return total
        return lambda logits, targets: total(logits, targets) + self.weights[2] * self.distribution_terms(
            self.split_logits(logits)[2].softmax(1), self.split_targets(targets)[2]
        )

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
