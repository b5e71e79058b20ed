"""Crops: the center as by albumentations, resizing as by OpenCV."""

from __future__ import annotations

import albumentations
import cv2
import numpy as np
import pytest

from maskcls.components.crop import center, none, resize
from maskcls.core.errors import DataError


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("photo", [(64, 48), (65, 48), (64, 49), (65, 49)])
@pytest.mark.parametrize("size", [(40, 20), (41, 20), (40, 21), (41, 21), (64, 48), (1, 1)])
def test_center_equals_albumentations(photo: tuple[int, int], size: tuple[int, int]) -> None:
    expected = albumentations.CenterCrop(*size)(image=image(*photo))["image"]
    assert np.array_equal(center(height=size[0], width=size[1])(image(*photo)), expected)


def test_center_defaults_to_the_first_teams_crop() -> None:
    expected = albumentations.CenterCrop(400, 200)(image=image(512, 384))["image"]
    assert np.array_equal(center()(image(512, 384)), expected)


@pytest.mark.parametrize("size", [(65, 10), (10, 49)])
def test_center_of_a_smaller_photo_is_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=f"{size[0]} × {size[1]} exceeds the image size 64 × 48"):
        center(height=size[0], width=size[1])(image(64, 48))


def test_none_leaves_photos_as_they_are() -> None:
    photo = image(9, 7)
    assert none()(photo) is photo


@pytest.mark.parametrize(("size", "way"), [((32, 24), cv2.INTER_AREA), ((96, 72), cv2.INTER_LINEAR), ((32, 72), 1)])
def test_resize_scales_by_area_where_it_shrinks(size: tuple[int, int], way: int) -> None:
    photo = image(64, 48)
    scaled = resize(height=size[0], width=size[1])(photo)
    assert scaled.shape == (*size, 3) and scaled.dtype == np.uint8
    assert np.array_equal(scaled, cv2.resize(photo, size[::-1], interpolation=way))


def test_resize_by_area_keeps_the_mean_of_whole_blocks() -> None:
    photo = image(64, 48)
    blocks = photo.reshape(32, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(resize(height=32, width=24)(photo) - blocks).max() <= 0.5
