"""Photos as another camera may take them."""

from __future__ import annotations

import cv2
import numpy as np

from maskcls.imaging.face_masks import Image
from maskcls.imaging.raster import quantize

MIN_SIDE = 48  # pixels of the shorter side of a photo of low resolution


def photograph(image: Image, rng: np.random.Generator) -> Image:
    """Return an RGB image as another camera may take it: resolution, light, color and noise vary."""
    height, width = image.shape[:2]
    scale = max(np.exp(rng.uniform(np.log(0.25), 0)), min(1, MIN_SIDE / min(height, width)))
    view = image.astype(np.float32)
    if rng.random() < 0.5:
        small = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        view = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    gamma, gain = np.exp(rng.normal(0, 0.15)), np.exp(rng.normal(0, 0.05, 3))
    canvas = (255 * (view / 255) ** gamma * gain).astype(np.float32)
    canvas += rng.normal(0, 1, image.shape).astype(np.float32) * np.float32(rng.uniform(0, 6))
    return quantize(canvas)
