"""Schedules as functions of time, over whole trajectories against torch's own schedulers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from maskcls.components import scheduler
from maskcls.components.scheduler import Schedule

EPOCHS, PER_EPOCH = 12, 7
STEPS = EPOCHS * PER_EPOCH
LR = 0.1


def factors(schedule: Schedule, steps: int = STEPS) -> list[float]:
    return [schedule(step, [0.0] * (step // PER_EPOCH)) for step in range(steps)]


def torchs(build: Callable[[Any], Any], steps: int = STEPS, every: int = 1) -> list[float]:
    """Return the rate / LR of each step under one of torch's schedulers, itself stepped after `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], LR)
    other, rates = build(optimizer), []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"] / LR)
        optimizer.step()
        if (step + 1) % every == 0:
            other.step()
    return rates


def test_constant_is_one() -> None:
    assert factors(scheduler.constant(STEPS, PER_EPOCH)) == [1.0] * STEPS


@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (3, 0.1), (5, 1.0), (100, 0.5)])
def test_step_equals_torchs_in_epochs_and_batches(every: int, gamma: float) -> None:
    def build(optimizer: Any) -> Any:
        return lr_scheduler.StepLR(optimizer, every, gamma)

    epochs = scheduler.step(STEPS, PER_EPOCH, step_size=every, gamma=gamma)
    np.testing.assert_allclose(factors(epochs), torchs(build, every=PER_EPOCH), rtol=1e-9)
    batches = scheduler.step(STEPS, PER_EPOCH, step_size=every, gamma=gamma, unit="batches")
    np.testing.assert_allclose(factors(batches), torchs(build), rtol=1e-9)


@pytest.mark.parametrize("milestones", [[2, 5, 9], [9, 2, 5], [1], [3, 3], []])
def test_multistep_equals_torchs_in_epochs_and_batches(milestones: list[int]) -> None:
    def build(optimizer: Any) -> Any:
        return lr_scheduler.MultiStepLR(optimizer, milestones, 0.5)

    epochs = scheduler.multistep(STEPS, PER_EPOCH, milestones=milestones)
    np.testing.assert_allclose(factors(epochs), torchs(build, every=PER_EPOCH), rtol=1e-9)
    batches = scheduler.multistep(STEPS, PER_EPOCH, milestones=milestones, unit="batches")
    np.testing.assert_allclose(factors(batches), torchs(build), rtol=1e-9)


def test_a_milestone_acts_at_its_first_batch() -> None:
    rates = factors(scheduler.multistep(STEPS, PER_EPOCH, milestones=[2]))
    assert rates[2 * PER_EPOCH - 1] == 1.0 and rates[2 * PER_EPOCH] == 0.5


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_cosine_equals_torchs(floor: float, steps: int) -> None:
    got = factors(scheduler.cosine(steps, PER_EPOCH, floor=floor), steps)
    expected = torchs(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, eta_min=floor * LR), steps)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
    assert scheduler.cosine(steps, PER_EPOCH, floor=floor)(steps, []) == pytest.approx(floor)


@pytest.mark.parametrize(("rise", "start", "floor"), [(0.3, 0.04, 4e-6), (0.5, 0.1, 0.01), (0.2, 0.04, 0.0)])
@pytest.mark.parametrize("steps", [10, STEPS])
def test_onecycle_equals_torchs(rise: float, start: float, floor: float, steps: int) -> None:
    def build(optimizer: Any) -> Any:
        return lr_scheduler.OneCycleLR(
            optimizer, LR, total_steps=steps, pct_start=rise, div_factor=1 / start, cycle_momentum=False,
            final_div_factor=start / floor if floor else 1e18,
        )  # fmt: skip

    got = factors(scheduler.onecycle(steps, PER_EPOCH, pct_start=rise, start=start, floor=floor), steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], LR)
    other, expected = build(optimizer), []
    for step in range(steps):
        expected.append(optimizer.param_groups[0]["lr"] / LR)
        optimizer.step()
        if step < steps - 1:
            other.step()
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


def test_onecycle_has_torchs_defaults() -> None:
    got = factors(scheduler.onecycle(50, PER_EPOCH), 49)
    np.testing.assert_allclose(got, torchs(lambda o: lr_scheduler.OneCycleLR(o, LR, 50, cycle_momentum=False), 49))


@pytest.mark.parametrize("rise", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_onecycle_stays_within_its_bounds_at_the_edges(rise: float, steps: int) -> None:
    assert all(0 <= rate <= 1 for rate in factors(scheduler.onecycle(steps, PER_EPOCH, pct_start=rise), steps))


SCORES = [0.1, 0.3, 0.3, 0.2, 0.29, 0.31, 0.3, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]


@pytest.mark.parametrize(
    ("factor", "wait", "floor"), [(0.5, 2, 0.0), (0.1, 0, 0.0), (0.5, 1, 0.2), (0.9, 5, 0.0), (0.5, 30, 0.0)]
)
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_plateau_equals_torchs(factor: float, wait: int, floor: float, seed: int | None) -> None:
    scores = SCORES if seed is None else np.random.default_rng(seed).random(25).round(1).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], LR)
    other = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=factor, patience=wait, threshold=0, min_lr=floor * LR, eps=0
    )
    schedule = scheduler.plateau(STEPS, PER_EPOCH, factor=factor, patience=wait, floor=floor)
    for epoch in range(len(scores)):
        expected = optimizer.param_groups[0]["lr"] / LR
        assert schedule(epoch * PER_EPOCH, scores[:epoch]) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        other.step(scores[epoch])


WARMED = {
    "constant": lambda warmup: scheduler.constant(STEPS, PER_EPOCH, warmup=warmup),
    "step": lambda warmup: scheduler.step(STEPS, PER_EPOCH, step_size=4, warmup=warmup),
    "multistep": lambda warmup: scheduler.multistep(STEPS, PER_EPOCH, milestones=[4, 8], warmup=warmup),
    "cosine": lambda warmup: scheduler.cosine(STEPS, PER_EPOCH, warmup=warmup),
    "plateau": lambda warmup: scheduler.plateau(STEPS, PER_EPOCH, warmup=warmup),
}  # fmt: skip


@pytest.mark.parametrize("name", WARMED)
@pytest.mark.parametrize("warmup", [0.5, 1.0, 2.5])
def test_warm_up_rises_by_equal_shares_and_then_leaves_the_schedule_alone(name: str, warmup: float) -> None:
    plain, warm = factors(WARMED[name](0.0)), factors(WARMED[name](warmup))
    steps = round(warmup * PER_EPOCH)
    assert warm[steps:] == plain[steps:]
    shares = [a / b for a, b in zip(warm[:steps], plain[:steps], strict=True)]
    np.testing.assert_allclose(shares, np.arange(1, steps + 1) / (steps + 1))


@pytest.mark.parametrize("name", WARMED)
def test_a_schedule_keeps_no_state(name: str) -> None:
    schedule = WARMED[name](1.0)
    first = factors(schedule)
    again = [schedule(step, [0.0] * (step // PER_EPOCH)) for step in reversed(range(STEPS))]
    assert first == again[::-1]


def test_schedules_but_plateau_do_not_look_at_the_scores() -> None:
    for (name, build), step in itertools.product(WARMED.items(), (0, 20, STEPS - 1)):
        if name != "plateau":
            assert build(1.0)(step, [0.5, 0.1, 0.1, 0.1, 0.1]) == build(1.0)(step, [])
