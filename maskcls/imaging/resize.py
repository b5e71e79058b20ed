"""Resizing and box fitting."""

from __future__ import annotations

import cv2
import numpy as np

from maskcls.imaging.face_detection import Box
from maskcls.imaging.image_decoding import Image


def center_box(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest centered box (top, left, bottom, right) of an image with the aspect ratio of `size`."""
    return fit_box((-shape[1], -shape[0], 2 * shape[1], 2 * shape[0]), shape, size)


def fit_box(box: Box, shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box (top, left, bottom, right) of an image around another box, with the aspect ratio of `size`.

    The box is enlarged to the aspect ratio of `size`, then shrunk and moved to fit inside the image, without padding.
    """
    left, top, right, bottom = box
    per = max((bottom - top) / size[0], (right - left) / size[1], 1 / min(size))
    per = min(per, shape[0] / size[0], shape[1] / size[1])  # image pixels per crop pixel
    high, wide = max(1, round(size[0] * per)), max(1, round(size[1] * per))
    up = min(max(round((top + bottom - high) / 2), 0), shape[0] - high)
    aside = min(max(round((left + right - wide) / 2), 0), shape[1] - wide)
    return up, aside, up + high, aside + wide


def resize_image(image: Image, height: int, width: int, clahe: float) -> Image:
    """Return an image resized (by area when downscaling) and, with a clip limit above 0, equalized by CLAHE.

    CLAHE (Zuiderveld 1994) equalizes the lightness L of CIELAB over 8 × 8 tiles, like albumentations.
    """
    if image.shape[:2] != (height, width):
        shrinks = image.shape[0] >= height and image.shape[1] >= width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), np.uint8)
    if clahe:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(clahe, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
        image = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
    return image


def shrink_image(image: Image, side: int) -> Image:
    """Return an image reduced to a longer side of at most `side` pixels, and a shorter side of at least one."""
    scale = min(1.0, side / max(image.shape[:2]))
    height, width = (max(1, round(scale * length)) for length in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
