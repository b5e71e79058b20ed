"""Learning-rate schedules: f(step, history of validation scores) → factor of the optimizer's lr.

A schedule has no state: `step` counts batches from 0, `history` has the score of each completed epoch, so a resumed run
has the same learning rates. `warmup` epochs (may be fractional) rise linearly from 0 and are part of the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, UnitInterval

registry = Registry("scheduler")
Schedule = Callable[[int, Sequence[float]], float]
Unit = Literal["epochs", "batches"]


def with_warmup(schedule: Schedule, warmup: float, steps_per_epoch: int) -> Schedule:
    """Return a schedule whose first `warmup` epochs rise linearly."""
    warmup_steps = round(warmup * steps_per_epoch)
    return lambda step, history: schedule(step, history) * min(1.0, (step + 1) / (warmup_steps + 1))


@registry.register
def constant(num_steps: int, steps_per_epoch: int, *, warmup: NonNegativeFloat = 0.0) -> Schedule:
    """Constant lr.

    Args:
        warmup: epochs, also fractional, in which the learning rate rises linearly from 0
    """
    return with_warmup(lambda step, history: 1.0, warmup, steps_per_epoch)


@registry.register
def step(
    num_steps: int, steps_per_epoch: int, *, step_size: PositiveInt = 20, gamma: UnitInterval = 0.5,
    unit: Unit = "epochs", warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """Multiply the lr by gamma every `step_size` epochs or batches.

    Args:
        step_size: epochs or batches between two reductions
        gamma: factor of each reduction
        unit: whether the numbers count epochs or batches
        warmup: epochs, also fractional, in which the learning rate rises linearly from 0
    """
    length = step_size * (steps_per_epoch if unit == "epochs" else 1)
    return with_warmup(lambda step, history: gamma ** (step // length), warmup, steps_per_epoch)


@registry.register
def multistep(
    num_steps: int, steps_per_epoch: int, *, milestones: list[NonNegativeInt], gamma: UnitInterval = 0.5,
    unit: Unit = "epochs", warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """Multiply the lr by gamma at each milestone, in epochs or batches.

    Args:
        milestones: epochs or batches of the reductions
        gamma: factor of each reduction
        unit: whether the numbers count epochs or batches
        warmup: epochs, also fractional, in which the learning rate rises linearly from 0
    """
    milestone_steps = [mark * (steps_per_epoch if unit == "epochs" else 1) for mark in milestones]
    return with_warmup(
        lambda step, history: gamma ** sum(step >= mark for mark in milestone_steps), warmup, steps_per_epoch
    )


@registry.register
def cosine(
    num_steps: int, steps_per_epoch: int, *, floor: UnitInterval = 0.0, warmup: NonNegativeFloat = 0.0
) -> Schedule:
    """Cosine annealing from the lr to lr · floor at the last step (Loshchilov & Hutter 2017).

    Args:
        floor: last learning rate, as a fraction of lr
        warmup: epochs, also fractional, in which the learning rate rises linearly from 0
    """

    def annealing(step: int, history: Sequence[float]) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(step / max(num_steps, 1), 1.0))) / 2

    return with_warmup(annealing, warmup, steps_per_epoch)


@registry.register
def plateau(
    num_steps: int, steps_per_epoch: int, *, factor: UnitInterval = 0.5, patience: NonNegativeInt = 2,
    floor: UnitInterval = 0.0, warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """Multiply the lr by `factor` when the monitored score has not improved for more than `patience` epochs.

    Args:
        factor: factor of each reduction
        patience: epochs without a better score (see monitor) before a reduction
        floor: lowest learning rate, as a fraction of lr
        warmup: epochs, also fractional, in which the learning rate rises linearly from 0
    """

    def schedule(step: int, history: Sequence[float]) -> float:
        best, bad, drops = -math.inf, 0, 0
        for score in history:
            best, bad = max(best, score), 0 if score > best else bad + 1
            if bad > patience:
                drops, bad = drops + 1, 0
        return max(factor**drops, floor)

    return with_warmup(schedule, warmup, steps_per_epoch)


@registry.register
def onecycle(
    num_steps: int,
    steps_per_epoch: int,
    *,
    pct_start: UnitInterval = 0.3,
    start: UnitInterval = 0.04,
    floor: UnitInterval = 4e-6,
) -> Schedule:
    """One-cycle: cosines from lr · start to lr, in a fraction `pct_start` of the steps, to lr · floor (Smith 2018).

    Args:
        pct_start: fraction of the steps in which the learning rate rises
        start: first learning rate, as a fraction of lr
        floor: last learning rate, as a fraction of lr
    """

    def cycle(step: int, history: Sequence[float]) -> float:
        top = max(pct_start * num_steps - 1, 1e-9)
        if step <= top:
            return cosine_between(start, 1.0, step / top)
        return cosine_between(1.0, floor, min((step - top) / max(num_steps - 1 - top, 1e-9), 1.0))

    return cycle


def cosine_between(a: float, b: float, fraction: float) -> float:
    """Interpolate between a (fraction 0) and b (fraction 1) along half a cosine."""
    return b + (a - b) * (1 + math.cos(math.pi * fraction)) / 2
