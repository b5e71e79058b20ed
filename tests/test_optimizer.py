"""Optimizers: to the number those of torch, timm and adamp; each goes downhill."""

from __future__ import annotations

from typing import Any

import adamp
import pytest
import torch
from timm.optim.madgrad import MADGRAD

from maskcls.parts import optimizer
from maskcls.registry import signature

PAIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"lr": 0.05, "weight_decay": 0.01, "momentum": 0.8, "nesterov": True},
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.8, weight_decay=0.01, nesterov=True),
    ),
    "adam": ({"lr": 0.05, "weight_decay": 0.01}, lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.01)),
    "adamw": ({"lr": 0.05, "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1)),
    "adamp": ({"lr": 0.05, "weight_decay": 0.1}, lambda p: adamp.AdamP(p, lr=0.05, weight_decay=0.1)),
    "madgrad": (
        {"lr": 0.05, "weight_decay": 0.01, "momentum": 0.8},
        lambda p: MADGRAD(p, lr=0.05, momentum=0.8, weight_decay=0.01),
    ),
}


def parameters() -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape, generator=random)) for shape in ((4, 3), (4,), (2, 3, 3, 3))]


def quadratic(params: list[torch.nn.Parameter]) -> torch.Tensor:
    return torch.stack([((p - 0.5) ** 2 * (i + 1)).sum() for i, p in enumerate(params)]).sum()


def walk(made: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: int) -> float:
    for _ in range(steps):
        made.zero_grad()
        quadratic(params).backward()
        made.step()
    return quadratic(params).item()


def test_every_optimizer_is_held_to_another() -> None:
    assert set(PAIRS) == set(optimizer.word.words)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("fused", [False, True])
def test_each_equals_the_published_one(name: str, fused: bool) -> None:
    options, other = PAIRS[name]
    assert set(options) == set(signature(optimizer.word.words[name])), "each of its parameters is tried"
    mine, theirs = parameters(), parameters()
    walk(optimizer.word.words[name](mine, fused, **options), mine, 6)
    walk(other(theirs), theirs, 6)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_each_goes_downhill(name: str) -> None:
    params = parameters()
    before = quadratic(params).item()
    after = walk(optimizer.word.words[name](params, True, lr=0.02, weight_decay=0.0), params, 150)
    assert after < 0.05 * before


@pytest.mark.parametrize("name", sorted(set(PAIRS) - {"madgrad"}))  # whose average still moves to its last point
def test_the_rate_is_read_at_each_step(name: str) -> None:
    params = parameters()
    made = optimizer.word.words[name](params, True, lr=0.02, weight_decay=0.0)
    walk(made, params, 2)
    before = [p.detach().clone() for p in params]
    for group in made.param_groups:
        group["lr"] = 0.0
    walk(made, params, 2)
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))


def test_adamp_takes_weights_in_the_channels_last_layout_and_gives_the_same_steps() -> None:
    from maskcls.parts.optimizer import adamp

    torch.manual_seed(0)
    first = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    second = torch.nn.Parameter(first.detach().clone().to(memory_format=torch.channels_last))
    optimizers = [adamp([weight], False, lr=0.1, weight_decay=0.01) for weight in (first, second)]
    for _ in range(3):
        gradient = torch.randn(8, 4, 3, 3)
        for weight, stepper in zip((first, second), optimizers, strict=True):
            weight.grad = gradient.clone(memory_format=torch.preserve_format)
            stepper.step()
    torch.testing.assert_close(first, second)
