"""Faces without a mask behind something else: a hand, an object, a scarf or a beard, of random shape and color.

A network that sees them does not take everything in front of a mouth for a mask.
"""

from __future__ import annotations

import numpy as np

from maskcls.imaging.face_masks import Image
from maskcls.imaging.landmarks import FaceFrame, Landmarks
from maskcls.imaging.random_cloth import smooth_noise
from maskcls.imaging.random_masks import fill_with_cloth
from maskcls.imaging.raster import (
    Floats,
    bounding_box,
    coverage,
    curve,
    fill,
    mirror,
    oval,
    quantize,
    ribbon,
    shade,
    shift,
)


def draw_random_cover(image: Image, landmarks: Landmarks, rng: np.random.Generator) -> Image:
    """Return a copy of an RGB image (H, W, 3) of a face without a mask: often behind a hand, an object or a scarf."""
    face, canvas = FaceFrame(landmarks), image.astype(np.float32)
    covers = (_draw_hand, _draw_object, _draw_scarf, _draw_beard)
    if (kind := rng.choice(5, p=[0.2, 0.15, 0.1, 0.15, 0.4])) < len(covers):
        covers[kind](canvas, face, rng)
    return quantize(canvas)


def _skin(canvas: Floats, face: FaceFrame) -> Floats:
    """Return the median RGB color of the cheeks."""
    box = bounding_box(canvas.shape, face.to_pixels([(-0.6, 0.4), (0.6, 0.75)]), 1)
    return np.median(canvas[box].reshape(-1, 3), 0) if canvas[box].size else np.full(3, 140, np.float32)


def _draw_hand(canvas: Floats, face: FaceFrame, rng: np.random.Generator) -> None:
    """Draw fingers and a palm of the color of the face over its lower part."""
    skin, angle = _skin(canvas, face) * rng.uniform(0.75, 1.2) + rng.normal(0, 6, 3), rng.uniform(-1.3, 1.3)
    along, across = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
    tip, width = np.array([rng.normal(0, 0.35), rng.uniform(0.6, 1.4)]), rng.uniform(0.2, 0.3)
    palm = tip - along * 0.95
    shape = oval(0, 0, 0.5, 0.55, angle) + palm
    parts = [shape.astype(np.float32)]
    for k in range(rng.integers(2, 5)):
        end = tip + across * (k - 1.5) * width * 1.05 - along * rng.uniform(0, 0.25)
        parts.append(ribbon([end - along * 0.9, end - along * 0.4, end], width, taper=0.3))
    for part in parts:
        polygon = face.to_pixels(part)
        shade(canvas, shift(polygon, 0, 0.03 * face.unit), 0.7, soft=0.04 * face.unit)
        fill(canvas, polygon, skin * rng.uniform(0.92, 1.05), soft=0.02 * face.unit)


def _draw_object(canvas: Floats, face: FaceFrame, rng: np.random.Generator) -> None:
    """Draw an object in front of the mouth: a cup, a phone or a microphone."""
    x, y = rng.normal(0, 0.2), rng.uniform(0.7, 1.5)
    shape = oval(x, y, rng.uniform(0.15, 0.45), rng.uniform(0.2, 0.6), rng.uniform(-1, 1))
    fill_with_cloth(canvas, face, shape[:: rng.choice([1, 5])], 1.0, rng)


def _draw_scarf(canvas: Floats, face: FaceFrame, rng: np.random.Generator) -> None:
    """Draw a scarf or a collar below the chin."""
    top, dip, wide = face.chin + rng.uniform(-0.08, 0.15), rng.uniform(0, 0.25), rng.uniform(1.1, 1.6)
    edge = [(-wide, -dip - 0.1), (-0.5, -dip / 3), (0, 0), (0.5, -dip / 3), (wide, -dip - 0.1)]
    ring = np.concatenate([curve(edge, closed=False), [(wide, 1.2), (-wide, 1.2)]]) + np.array([0, top])
    fill_with_cloth(canvas, face, ring.astype(np.float32), 1.0, rng)


def _draw_beard(canvas: Floats, face: FaceFrame, rng: np.random.Generator) -> None:
    """Draw a beard: hair of one color over cheeks and chin that leaves the lips free."""
    low, wide, top = face.chin + rng.uniform(0, 0.3), rng.uniform(0.6, 1), rng.uniform(0.55, 0.85)
    cheek = [(wide * 0.8, top + 0.2), (wide, top), (wide * 0.95, 1.2)]
    polygon = face.to_pixels(curve(mirror([(0, 0.8), (0.3, 0.85), *cheek, (0.5, low - 0.1), (0, low)])))
    box = bounding_box(canvas.shape, polygon, 0.2 * face.unit)
    part = canvas[box]
    if not part.size:
        return
    lips = coverage(face.to_pixels(oval(0, 1.0, 0.32, 0.11)), box, 0.03 * face.unit)
    rows, columns = (max(4, side // 2) for side in part.shape[:2])
    hair = 1 + 0.3 * smooth_noise(part.shape, rows, columns, rng)
    alpha = coverage(polygon, box, rng.uniform(0.03, 0.12) * face.unit) * (1 - lips) * rng.uniform(0.4, 0.95)
    alpha = np.clip(alpha * (1 + 0.3 * smooth_noise(part.shape, rows, columns, rng)), 0, 1)
    color = rng.choice([25, 45, 70, 150, 200]) * np.array([1, rng.uniform(0.75, 1), rng.uniform(0.6, 1)], np.float32)
    part += (color * hair[..., None] - part) * alpha[..., None]
