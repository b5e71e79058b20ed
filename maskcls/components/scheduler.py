"""Learning rates as functions of time: f(step, history of validation F1) → factor of the optimizer's lr.

A schedule keeps no state: step counts batches from 0, history holds a score for each epoch that is over, so a resumed
run has the same rates. `warmup` epochs (a fraction is allowed) rise linearly from 0 and count as part of the schedule.
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


def with_warmup(schedule: Schedule, warmup: float, per_epoch: int) -> Schedule:
    """Return a schedule whose first `warmup` epochs rise linearly."""
    steps = round(warmup * per_epoch)
    return lambda step, history: schedule(step, history) * min(1.0, (step + 1) / (steps + 1))


@registry.register
def constant(steps: int, per_epoch: int, *, warmup: NonNegativeFloat = 0.0) -> Schedule:
    """The optimizer's lr throughout."""
    return with_warmup(lambda step, history: 1.0, warmup, per_epoch)


@registry.register
def step(
    steps: int, per_epoch: int, *, every: PositiveInt = 20, gamma: UnitInterval = 0.5, unit: Unit = "epochs",
    warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """The lr times gamma after `every` epochs or batches, again and again."""
    length = every * (per_epoch if unit == "epochs" else 1)
    return with_warmup(lambda step, history: gamma ** (step // length), warmup, per_epoch)


@registry.register
def multistep(
    steps: int, per_epoch: int, *, milestones: list[NonNegativeInt], gamma: UnitInterval = 0.5, unit: Unit = "epochs",
    warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """The lr times gamma at each milestone, in epochs or batches."""
    marks = [mark * (per_epoch if unit == "epochs" else 1) for mark in milestones]
    return with_warmup(lambda step, history: gamma ** sum(step >= mark for mark in marks), warmup, per_epoch)


@registry.register
def cosine(steps: int, per_epoch: int, *, floor: UnitInterval = 0.0, warmup: NonNegativeFloat = 0.0) -> Schedule:
    """Half a cosine from the lr down to lr · floor at the last step (Loshchilov & Hutter 2017)."""

    def wave(step: int, history: Sequence[float]) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0))) / 2

    return with_warmup(wave, warmup, per_epoch)


@registry.register
def plateau(
    steps: int, per_epoch: int, *, factor: UnitInterval = 0.5, wait: NonNegativeInt = 2, floor: UnitInterval = 0.0,
    warmup: NonNegativeFloat = 0.0,
) -> Schedule:  # fmt: skip
    """The lr times `factor` whenever the validation F1 has not risen for more than `wait` epochs."""

    def held(step: int, history: Sequence[float]) -> float:
        best, bad, drops = -math.inf, 0, 0
        for score in history:
            best, bad = max(best, score), 0 if score > best else bad + 1
            if bad > wait:
                drops, bad = drops + 1, 0
        return max(factor**drops, floor)

    return with_warmup(held, warmup, per_epoch)


@registry.register
def onecycle(
    steps: int, per_epoch: int, *, rise: UnitInterval = 0.3, start: UnitInterval = 0.04, floor: UnitInterval = 4e-6
) -> Schedule:
    """Up from lr · start to lr over the share `rise` of the steps, then down to lr · floor, by cosines (Smith 2018)."""

    def cycle(step: int, history: Sequence[float]) -> float:
        top = max(rise * steps - 1, 1e-9)
        if step <= top:
            return cosine_between(start, 1.0, step / top)
        return cosine_between(1.0, floor, min((step - top) / max(steps - 1 - top, 1e-9), 1.0))

    return cycle


def cosine_between(a: float, b: float, share: float) -> float:
    """Return the point between a (share 0) and b (share 1) along half a cosine."""
    return b + (a - b) * (1 + math.cos(math.pi * share)) / 2
