"""Test-time augmentation: views of each batch (B, 3, H, W), whose predicted probabilities are averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from maskcls.core.registry import Registry

registry = Registry("tta")
Factor = Annotated[float, Field(ge=0.5, le=2)]
Views = Callable[[Tensor], list[Tensor]]


@registry.register
def none() -> Views:
    """The image alone."""
    return lambda images: [images]


@registry.register
def flip() -> Views:
    """The image and its horizontal flip."""
    return lambda images: [images, images.flip(3)]


@registry.register
def scales(*, factors: list[Factor] = [0.9, 1.1], mirror: bool = True) -> Views:
    """The image and its rescaled versions, center-cropped or edge-padded to the same size; each with its flip.

    Args:
        factors: scales of the further versions, such as 0.9
        mirror: also use the horizontal flip of each version
    """

    def views(images: Tensor) -> list[Tensor]:
        sized = [images, *[rescale_centered(images, factor) for factor in factors]]
        return [view for image in sized for view in ([image, image.flip(3)] if mirror else [image])]

    return views


def rescale_centered(images: Tensor, factor: float) -> Tensor:
    """Return images scaled by a factor about their center, at the same size."""
    height, width = images.shape[2:]
    tall, wide = (size + 2 * round(size * (factor - 1) / 2) for size in (height, width))  # equal margins
    scaled = functional.interpolate(images, (tall, wide), mode="bilinear", align_corners=False, antialias=factor < 1)
    top, left = (tall - height) // 2, (wide - width) // 2
    if factor >= 1:
        return scaled[:, :, top : top + height, left : left + width]
    return functional.pad(scaled, (-left, width - wide + left, -top, height - tall + top), mode="replicate")
