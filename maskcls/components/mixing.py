"""Mixed photos: maps on a batch's images (B, 3, H, W) and targets (B, 18), on the device, for any loss and head.

A map is also given the class (B,) that training counts each photo to, since the largest of soft targets may be another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from torch import Tensor

from maskcls.core.registry import Registry
from maskcls.core.schema import PositiveFloat, UnitInterval

registry = Registry("mixing")
Mix = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def interval(values: list[float]) -> list[float]:
    """Return a pair of shares, the smaller one first."""
    if len(values) != 2 or not 0 <= values[0] <= values[1] <= 1:
        raise ValueError(f"{values} is no pair of shares from 0 to 1, the smaller one first")
    return values


@registry.register
def none() -> Mix | None:
    """Leave the batches as they are."""
    return None


@registry.register
def mixup(*, alpha: PositiveFloat = 0.2, p: UnitInterval = 1.0) -> Mix:
    """Blend each photo with another of its batch, by a share drawn from Beta(alpha, alpha) (Zhang et al. 2018)."""

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(p):
            return images, targets
        share, other = sample_beta(alpha), draw_partners(len(images), images.device)
        return images.lerp(images[other], 1 - share), targets.lerp(targets[other], 1 - share)

    return mix


@registry.register
def cutmix(*, alpha: PositiveFloat = 1.0, p: UnitInterval = 1.0) -> Mix:
    """Paste a box of another photo; targets are shared by area (Yun et al. 2019)."""

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(p):
            return images, targets
        height, width = images.shape[2:]
        top, bottom, left, right = sample_box(height, width, 1 - sample_beta(alpha))
        other = draw_partners(len(images), images.device)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
        area = (bottom - top) * (right - left) / (height * width)
        return mixed, targets.lerp(targets[other], area)

    return mix


@registry.register
def halfcut(
    *, p: UnitInterval = 0.7, cut: Annotated[list[float], AfterValidator(interval)] = [0.46, 0.54],
    pairs: Literal["any", "within", "between"] = "any",
) -> Mix:  # fmt: skip
    """Join the left part of each photo with the right part of another, cut at a share of the width drawn from `cut`.

    The first-placed recipe's vertical half CutMix. `pairs` joins photos of any classes, of one class, or of different
    ones; a photo without such a partner stays as it is.
    """

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(p):
            return images, targets
        width = images.shape[3]
        at = round(width * float(torch.empty(()).uniform_(*cut)))
        other = find_partners(labels, pairs)
        mixed = torch.cat([images[:, :, :, :at], images[other][:, :, :, at:]], 3)
        return mixed, targets.lerp(targets[other], 1 - at / width)

    return mix


def bernoulli(p: float) -> bool:
    """Tell whether an event of probability p takes place, by torch's generator of the CPU."""
    return float(torch.rand(())) < p


def draw_partners(count: int, device: torch.device) -> Tensor:
    """Return for each of `count` photos another one, each once: the next in a random circle of all of them.

    They are drawn on the CPU, the same for any device, which is not waited for.
    """
    circle = torch.randperm(count)
    partner = torch.empty_like(circle)
    partner[circle] = circle.roll(1)
    return partner.to(device, non_blocking=True)


def sample_beta(alpha: float) -> float:
    """Return a draw of Beta(alpha, alpha)."""
    return float(torch.distributions.Beta(alpha, alpha).sample())


def sample_box(height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a box of about a share of the area, anywhere, cut off at the border."""
    side = area**0.5
    y, x = float(torch.rand(())) * height, float(torch.rand(())) * width
    tall, wide = height * side / 2, width * side / 2
    return (
        max(round(y - tall), 0), min(round(y + tall), height),
        max(round(x - wide), 0), min(round(x + wide), width),
    )  # fmt: skip


def find_partners(labels: Tensor, pairs: str) -> Tensor:
    """Return the partner of each photo: any other one, or one of its class, or of another, where there is one."""
    count = len(labels)
    if pairs == "any":
        return draw_partners(count, labels.device)
    same = labels[:, None] == labels[None]
    allowed = same.fill_diagonal_(False) if pairs == "within" else ~same
    odds = torch.rand(count, count).to(labels.device, non_blocking=True) * allowed
    found = odds.max(1)
    return torch.where(found.values > 0, found.indices, torch.arange(count, device=labels.device))
