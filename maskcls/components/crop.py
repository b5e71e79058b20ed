"""Geometry that is the same for each photo: applied once, before the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator

from maskcls.core.errors import DataError
from maskcls.core.registry import Component, Registry
from maskcls.core.schema import ImageSide, NonNegativeFloat
from maskcls.imaging.face_detection import Box, Detector, Face, FaceDetector
from maskcls.imaging.image_decoding import Image
from maskcls.imaging.image_io import ImageInfo
from maskcls.imaging.resize import center_box, fit_box, resize_image

registry = Registry("crop")
Crop = Callable[[Image], Image]

PARTS = {  # left, top, right, bottom in a face whose eyes lie at (-0.5, 0) and (0.5, 0) and whose mouth at (0, 1)
    "forehead": (-1.0, -1.1, 1.0, -0.1),
    "nose_chin": (-0.9, 0.2, 0.9, 1.6),
    "chin_neck": (-1.1, 1.2, 1.1, 2.6),
}


def check_pair(value: list[int] | None) -> list[int] | None:
    """Return a height and a width."""
    if value is not None and len(value) != 2:
        raise ValueError(f"{value} is no [height, width]")
    return value


@registry.register
def none() -> Crop:
    """Leave the photos as they are; all must have one size."""
    return lambda image: image


@registry.register
def center(
    *, height: ImageSide = 400, width: ImageSide = 200,
    out: Annotated[list[ImageSide] | None, AfterValidator(check_pair)] = None, clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut height × width pixels out of the middle, as albumentations' CenterCrop, then scale them to `out`.

    `out` is [height, width] in pixels; null leaves the cut as it is. A photo smaller than the cut is an error.
    """

    def cut(image: Image) -> Image:
        h, w = image.shape[:2]
        if h < height or w < width:
            raise DataError(crop_too_large(height, width, h, w))
        top, left = (h - height) // 2, (w - width) // 2
        part = image[top : top + height, left : left + width]
        high, wide = out or (height, width)
        return resize_image(part, high, wide, clahe)

    return cut


@registry.register
def resize(*, height: ImageSide = 80, width: ImageSide = 60, clahe: NonNegativeFloat = 0.0) -> Crop:
    """Scale the whole photo to height × width pixels (by area when it shrinks)."""
    return lambda image: resize_image(image, height, width, clahe)


@registry.register
def face(
    *, detector: Detector = "mtcnn", margin: NonNegativeFloat = 0.2, height: ImageSide = 224, width: ImageSide = 224,
    clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut the face that a detector finds, with a margin (a share of its width and height) on each side."""

    def area(found: Face) -> Box:
        left, top, right, bottom = found.box
        aside, up = margin * (right - left), margin * (bottom - top)
        return left - aside, top - up, right + aside, bottom + up

    return FaceCrop(FaceDetector(detector), area, height, width, clahe)


@registry.register
def region(
    *, part: Literal["forehead", "nose_chin", "chin_neck"] = "nose_chin", detector: Detector = "mtcnn",
    height: ImageSide = 112, width: ImageSide = 144, clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut a part of the face, placed by the detector's five landmarks."""

    def area(found: Face) -> Box:
        left, top, right, bottom = PARTS[part]
        points = found.landmarks.put([(left, top), (right, top), (right, bottom), (left, bottom)])
        return (*map(float, points.min(0)), *map(float, points.max(0)))  # type: ignore[return-value]

    return FaceCrop(FaceDetector(detector), area, height, width, clahe)


class FaceCrop:
    """A crop around what a detector finds; where it finds nothing it is the middle of the photo, and is counted."""

    def __init__(
        self, find: Callable[[Image], Face | None], area: Callable[[Face], Box], height: int, width: int, clahe: float
    ) -> None:
        self.find, self.area, self.size, self.clahe = find, area, (height, width), clahe
        self.fallbacks, self.lock = 0, threading.Lock()

    def __call__(self, image: Image) -> Image:
        found = self.find(image)
        if found is None:
            with self.lock:
                self.fallbacks += 1
        box = center_box(image.shape, self.size) if found is None else fit_box(self.area(found), image.shape, self.size)
        top, left, bottom, right = box
        return resize_image(image[top:bottom, left:right], *self.size, self.clahe)


def crop_error(crop: Component, look: ImageInfo) -> str | None:
    """Return why a photo of a known size is too small for a crop, None where it is not."""
    high, wide = crop.params.get("height", 1), crop.params.get("width", 1)
    if crop.builder is not center or (look.height >= high and look.width >= wide):
        return None
    return f"is too small: {crop_too_large(high, wide, look.height, look.width)}"


def crop_too_large(height: int, width: int, h: int, w: int) -> str:
    """Return the words for a cut that a photo cannot hold."""
    return f"crop.height × crop.width {height} × {width} is larger than a photo of {h} × {w} pixels"


def mixed_sizes_message(crop: str, sizes: Sequence[str]) -> str:
    """Return the message for images whose sizes differ after a crop."""
    return f"crop={crop} needs images of one size, got {' and '.join(sizes[:2])}. Use crop=resize or crop=center"
