"""Geometry that is the same for each photo: applied once, before the cache."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from maskcls.errors import DataError
from maskcls.registry import Count, Registry

word = Registry("crop")
Image = npt.NDArray[np.uint8]
Crop = Callable[[Image], Image]


@word
def none() -> Crop:
    """Leave the photos as they are; all must have one size."""
    return lambda image: image


@word
def center(*, height: Count = 400, width: Count = 200) -> Crop:
    """Cut height × width pixels out of the middle, as albumentations' CenterCrop; a smaller photo is an error."""

    def cut(image: Image) -> Image:
        h, w = image.shape[:2]
        if h < height or w < width:
            raise DataError(f"crop.height × crop.width {height} × {width} is larger than a photo of {h} × {w} pixels")
        top, left = (h - height) // 2, (w - width) // 2
        return image[top : top + height, left : left + width]

    return cut


@word
def resize(*, height: Count = 80, width: Count = 60) -> Crop:
    """Scale the whole photo to height × width pixels (by area when it shrinks)."""

    def scale(image: Image) -> Image:
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)

    return scale
