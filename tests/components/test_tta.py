"""Views of a photo at test time: a mirrored photo has the same mirrored views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from maskcls.components import tta
from maskcls.components.hardware import cpu
from maskcls.components.head import single
from maskcls.core.competition import MASK18
from maskcls.inference.forward import predict_probs


class Left(nn.Module):
    """A network that sees nothing but the mean of the left half."""

    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        half = images[:, :, :, : images.shape[3] // 2].mean((1, 2, 3))
        return half[:, None] * torch.arange(18) / 9


def photos() -> np.ndarray:
    """Return photos that are not their own mirror images."""
    return np.random.default_rng(0).integers(0, 256, (5, 16, 12, 3), dtype=np.uint8) // (
        1 + np.arange(12)[:, None] // 6
    ).astype(np.uint8)


def probabilities(pixels: np.ndarray, views: tta.Views) -> np.ndarray:
    """Return what the left-sided network says of some views."""
    return predict_probs(Left(), single(task=MASK18), pixels, np.arange(len(pixels)), cpu(), "fp32", views)


def test_flipping_makes_a_photo_and_its_mirror_image_equal() -> None:
    plain, mirrored = photos(), np.ascontiguousarray(photos()[:, :, ::-1])
    assert not np.allclose(probabilities(plain, tta.none()), probabilities(mirrored, tta.none()), atol=1e-3)
    np.testing.assert_allclose(probabilities(plain, tta.flip()), probabilities(mirrored, tta.flip()), atol=1e-6)
    np.testing.assert_allclose(probabilities(plain, tta.scales()), probabilities(mirrored, tta.scales()), atol=1e-5)


def test_flip_is_the_mean_of_the_two() -> None:
    plain, mirrored = photos(), np.ascontiguousarray(photos()[:, :, ::-1])
    mean = (probabilities(plain, tta.none()) + probabilities(mirrored, tta.none())) / 2
    np.testing.assert_allclose(probabilities(plain, tta.flip()), mean, atol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_a_scaled_view_keeps_the_size_and_a_flat_colour(factor: float) -> None:
    flat = torch.full((2, 3, 17, 13), 0.3)
    torch.testing.assert_close(tta.rescale_centered(flat, factor), flat)


def test_the_number_of_views() -> None:
    images = torch.zeros(1, 3, 8, 8)
    assert [len(word()(images)) for word in (tta.none, tta.flip, tta.scales)] == [1, 2, 6]
    assert len(tta.scales(factors=[1.2], mirror=False)(images)) == 2
