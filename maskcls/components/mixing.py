"""Mixing of images (B, 3, H, W) and targets (B, T) of a batch on the device, for any loss and head.

A mixing function also takes the hard labels (B,), which may differ from the argmax of soft targets.
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


def check_interval(values: list[float]) -> list[float]:
    """Return a pair of fractions in increasing order."""
    if len(values) != 2 or not 0 <= values[0] <= values[1] <= 1:
        raise ValueError(f"expected [low, high] between 0 and 1, got {values}")
    return values


@registry.register
def none() -> Mix | None:
    """Leave the batches as they are."""
    return None


@registry.register
def mixup(*, alpha: PositiveFloat = 0.2, prob: UnitInterval = 1.0) -> Mix:
    """Blend each image with another of its batch, with a weight from Beta(alpha, alpha) (Zhang et al. 2018).

    Args:
        alpha: parameter of the Beta distribution of the mixing weight
        prob: probability that a batch is mixed
    """

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(prob):
            return images, targets
        weight, partners = sample_beta(alpha), draw_partners(len(images), images.device)
        return images.lerp(images[partners], 1 - weight), targets.lerp(targets[partners], 1 - weight)

    return mix


@registry.register
def cutmix(*, alpha: PositiveFloat = 1.0, prob: UnitInterval = 1.0) -> Mix:
    """Paste a box of another image; targets are weighted by area (Yun et al. 2019).

    Args:
        alpha: parameter of the Beta distribution of the area that is kept
        prob: probability that a batch is mixed
    """

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(prob):
            return images, targets
        height, width = images.shape[2:]
        top, bottom, left, right = sample_box(height, width, 1 - sample_beta(alpha))
        partners = draw_partners(len(images), images.device)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
        area = (bottom - top) * (right - left) / (height * width)
        return mixed, targets.lerp(targets[partners], area)

    return mix


@registry.register
def halfcut(
    *, prob: UnitInterval = 0.7, cut: Annotated[list[float], AfterValidator(check_interval)] = [0.46, 0.54],
    pairs: Literal["any", "within", "between"] = "any",
) -> Mix:  # fmt: skip
    """Join the left part of each image with the right part of another, cut at a fraction of the width from `cut`.

    Vertical half CutMix of the first-placed recipe. An image without such a partner stays as it is.

    Args:
        prob: probability that a batch is mixed
        cut: range of the position of the cut, as fractions of the width
        pairs: classes of the two images: any, the same (within) or different (between)
    """

    def mix(images: Tensor, targets: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if not bernoulli(prob):
            return images, targets
        width = images.shape[3]
        column = round(width * float(torch.empty(()).uniform_(*cut)))
        partners = find_partners(labels, pairs)
        mixed = torch.cat([images[:, :, :, :column], images[partners][:, :, :, column:]], 3)
        return mixed, targets.lerp(targets[partners], 1 - column / width)

    return mix


def bernoulli(prob: float) -> bool:
    """Return True with probability `prob`, drawn from torch's CPU generator."""
    return float(torch.rand(())) < prob


def draw_partners(count: int, device: torch.device) -> Tensor:
    """Return a random cyclic permutation: a partner for each of `count` images, each used once.

    It is drawn on the CPU, so that it is the same on every device, and copied without synchronization.
    """
    cycle = torch.randperm(count)
    partners = torch.empty_like(cycle)
    partners[cycle] = cycle.roll(1)
    return partners.to(device, non_blocking=True)


def sample_beta(alpha: float) -> float:
    """Return a sample of Beta(alpha, alpha)."""
    return float(torch.distributions.Beta(alpha, alpha).sample())


def sample_box(height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of a random box with a fraction of the area, clipped to the image."""
    side = area**0.5
    y, x = float(torch.rand(())) * height, float(torch.rand(())) * width
    half_height, half_width = height * side / 2, width * side / 2
    return (
        max(round(y - half_height), 0), min(round(y + half_height), height),
        max(round(x - half_width), 0), min(round(x + half_width), width),
    )  # fmt: skip


def find_partners(labels: Tensor, pairs: str) -> Tensor:
    """Return each image's partner: any other, or one of the same or another class; itself if none exists."""
    count = len(labels)
    if pairs == "any":
        return draw_partners(count, labels.device)
    same = labels[:, None] == labels[None]
    allowed = same.fill_diagonal_(False) if pairs == "within" else ~same
    scores = torch.rand(count, count).to(labels.device, non_blocking=True) * allowed
    best = scores.max(1)
    return torch.where(best.values > 0, best.indices, torch.arange(count, device=labels.device))
