"""Deterministic crops, applied once to each image before the pixel cache."""

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

PARTS = {  # left, top, right, bottom in face coordinates: eyes at (-0.5, 0) and (0.5, 0), mouth at (0, 1)
    "forehead": (-1.0, -1.1, 1.0, -0.1),
    "nose_chin": (-0.9, 0.2, 0.9, 1.6),
    "chin_neck": (-1.1, 1.2, 1.1, 2.6),
}


def check_pair(value: list[int] | None) -> list[int] | None:
    """Return a [height, width] pair or None."""
    if value is not None and len(value) != 2:
        raise ValueError(f"expected [height, width], got {value}")
    return value


@registry.register
def none() -> Crop:
    """Leave the images as they are; all must have the same size."""
    return lambda image: image


@registry.register
def center(
    *, height: ImageSide = 400, width: ImageSide = 200,
    out: Annotated[list[ImageSide] | None, AfterValidator(check_pair)] = None, clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut the central height × width pixels, as albumentations' CenterCrop, then resize them to `out`.

    An image smaller than the cut is an error.

    Args:
        height: height of the cut, in pixels
        width: width of the cut, in pixels
        out: [height, width] that the cut is resized to, in pixels; null: not resized
        clahe: clip limit of CLAHE, a local equalization of the contrast; 0: off
    """

    def cut(image: Image) -> Image:
        h, w = image.shape[:2]
        if h < height or w < width:
            raise DataError(crop_too_large(height, width, h, w))
        top, left = (h - height) // 2, (w - width) // 2
        part = image[top : top + height, left : left + width]
        out_height, out_width = out or (height, width)
        return resize_image(part, out_height, out_width, clahe)

    return cut


@registry.register
def resize(*, height: ImageSide = 80, width: ImageSide = 60, clahe: NonNegativeFloat = 0.0) -> Crop:
    """Resize the full image to height × width pixels (area interpolation for downscaling).

    Args:
        height: height of the images for the model, in pixels
        width: width of the images for the model, in pixels
        clahe: clip limit of CLAHE, a local equalization of the contrast; 0: off
    """
    return lambda image: resize_image(image, height, width, clahe)


@registry.register
def face(
    *, detector: Detector = "mtcnn", margin: NonNegativeFloat = 0.2, height: ImageSide = 224, width: ImageSide = 224,
    clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut the detected face with a margin (a fraction of its width and height) on each side.

    Args:
        detector: face detector that locates the face
        margin: margin on each side, as a fraction of the face's width and height
        height: height of the images for the model, in pixels
        width: width of the images for the model, in pixels
        clahe: clip limit of CLAHE, a local equalization of the contrast; 0: off
    """

    def box_of(face: Face) -> Box:
        left, top, right, bottom = face.box
        dx, dy = margin * (right - left), margin * (bottom - top)
        return left - dx, top - dy, right + dx, bottom + dy

    return FaceCrop(FaceDetector(detector), box_of, height, width, clahe)


@registry.register
def region(
    *, part: Literal["forehead", "nose_chin", "chin_neck"] = "nose_chin", detector: Detector = "mtcnn",
    height: ImageSide = 112, width: ImageSide = 144, clahe: NonNegativeFloat = 0.0,
) -> Crop:  # fmt: skip
    """Cut a part of the face, located by the detector's five landmarks.

    Args:
        part: part of the face
        detector: face detector that locates the face
        height: height of the images for the model, in pixels
        width: width of the images for the model, in pixels
        clahe: clip limit of CLAHE, a local equalization of the contrast; 0: off
    """

    def box_of(face: Face) -> Box:
        left, top, right, bottom = PARTS[part]
        points = face.landmarks.to_pixels([(left, top), (right, top), (right, bottom), (left, bottom)])
        return (*map(float, points.min(0)), *map(float, points.max(0)))  # type: ignore[return-value]

    return FaceCrop(FaceDetector(detector), box_of, height, width, clahe)


class FaceCrop:
    """A crop around a detected face, or the center crop, counted in `fallbacks`, if none is found."""

    def __init__(
        self, detect: Callable[[Image], Face | None], box_of: Callable[[Face], Box], height: int, width: int,
        clahe: float,
    ) -> None:  # fmt: skip
        self.detect, self.box_of, self.image_size, self.clahe = detect, box_of, (height, width), clahe
        self.fallbacks, self.lock = 0, threading.Lock()

    def __call__(self, image: Image) -> Image:
        face = self.detect(image)
        if face is None:
            with self.lock:
                self.fallbacks += 1
            box = center_box(image.shape, self.image_size)
        else:
            box = fit_box(self.box_of(face), image.shape, self.image_size)
        top, left, bottom, right = box
        return resize_image(image[top:bottom, left:right], *self.image_size, self.clahe)


def output_size(component: Component) -> tuple[int, int]:
    """Return the (height, width) of a crop's images; (0, 0) for crop=none, which keeps the size of each image."""
    params = component.params
    height, width = params.get("out") or (params.get("height", 0), params.get("width", 0))
    return height, width


def least_size(component: Component) -> tuple[int, int]:
    """Return the (height, width) that an image must have at least."""
    params = component.params
    return (params["height"], params["width"]) if component.builder is center else (1, 1)


def crop_error(crop: Component, info: ImageInfo) -> str | None:
    """Return the reason why an image is too small for a crop, or None."""
    min_height, min_width = least_size(crop)
    if info.height >= min_height and info.width >= min_width:
        return None
    return f"is too small: {crop_too_large(min_height, min_width, info.height, info.width)}"


def crop_too_large(height: int, width: int, h: int, w: int) -> str:
    """Return the message for a crop that is larger than the image."""
    return f"crop.height × crop.width = {height} × {width} exceeds the image size {h} × {w}"


def mixed_sizes_message(crop: str, sizes: Sequence[str]) -> str:
    """Return the message for images whose sizes differ after a crop."""
    return f"crop={crop} needs images of one size, got {' and '.join(sizes[:2])}. Use crop=resize or crop=center"
