"""Face masks of random shape, cloth, fit and light on photos (domain randomization, Tobin et al. 2017).

No two masks are alike, so that a network trained on them cannot learn one way of drawing.
"""

from __future__ import annotations

import cv2
import numpy as np

from maskcls.imaging.face_masks import OUTLINES, Image, Style, hanging_outline, illumination
from maskcls.imaging.landmarks import FaceFrame, Landmarks
from maskcls.imaging.random_cloth import draw_cloth, sample_color
from maskcls.imaging.raster import Floats, bounding_box, coverage, curve, fill, quantize, ribbon, shade, shift

WHITE = np.array([236, 236, 234], np.float32)


def draw_random_mask(image: Image, landmarks: Landmarks, style: Style, rng: np.random.Generator) -> Image:
    """Return a copy of an RGB image (H, W, 3) with a random mask, worn or worn incorrectly."""
    face, canvas = FaceFrame(landmarks), image.astype(np.float32)
    if style == "ear":
        outline, corners = _rotate_outline(*hanging_outline(face, image.shape[1], rng), rng)
    else:
        outline, corners = _random_outline(face, style, rng)
    if rng.random() < 0.75:
        _draw_loops(canvas, face, corners, style, rng)
    opacity = 1.0 if rng.random() < 0.93 else rng.uniform(0.55, 0.85)  # a few are sheer
    fill_with_cloth(canvas, face, outline, opacity, rng)
    return quantize(canvas)


def _random_outline(face: FaceFrame, style: Style, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the outline of a mask on the face, a random mixture of the cuts, and its four corners."""
    top, bottom, wide = {
        "worn": (rng.uniform(0.18, min(0.5, face.nose - 0.1)), rng.uniform(-0.05, 0.25), rng.uniform(0.88, 1.15)),
        "nose": (face.nose + rng.uniform(0.15, 0.36), rng.uniform(-0.05, 0.3), rng.uniform(0.82, 1.1)),
        "chin": (rng.uniform(1.17, 1.45), rng.uniform(0.05, 0.5), rng.uniform(0.65, 1.0)),
    }[style]
    bottom += face.chin
    if rng.random() < 0.08:  # a neck gaiter or bandana
        bottom, wide = bottom + rng.uniform(0.2, 0.8), max(wide, 1.05)
    share = rng.dirichlet(np.full(len(OUTLINES), 0.4))
    upper, lower = (np.tensordot(share, np.array([pair[i] for pair in OUTLINES.values()]), 1) for i in (0, 1))
    upper[1:, 1] += rng.normal(0, 0.05) * np.arange(1, 4) / 3 + rng.normal(0, 0.02, 3)
    lower[:-1] += rng.normal(0, 0.04, (3, 2))
    half = np.concatenate([curve(upper, closed=False), curve(lower, closed=False)])
    sides = half * (rng.uniform(0.92, 1.04), 1), half[::-1] * (-rng.uniform(0.92, 1.04), 1)
    corners = np.array([(side * u, v) for side in (-1, 1) for u, v in (upper[-1], lower[0])])
    fit, move = np.array([wide * face.wide, bottom - top]), np.array([rng.normal(0, 0.03), top])
    slant = np.array([[1, rng.normal(0, 0.05)], [0, 1]])
    rise = {"worn": rng.uniform(-0.1, 0.1), "nose": rng.uniform(-0.05, 0.4), "chin": rng.uniform(0, 0.6)}[style]
    ring, ends = (points * fit @ slant + move for points in (np.concatenate(sides), corners))
    for points in (ring, ends):  # a slipped mask sags in the middle and follows the jaw up to the ears
        points[:, 1] -= rise * np.minimum(np.abs(points[:, 0]), 1) ** 2
    return ring.astype(np.float32), ends.astype(np.float32)


def _rotate_outline(outline: Floats, corners: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return a hanging outline and its corners, turned and scaled about its upper end."""
    angle, size, pivot = rng.normal(0, 0.3), rng.uniform(0.8, 1.35), corners.mean(0)
    turn = size * np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return ((outline - pivot) @ turn + pivot).astype(np.float32), ((corners - pivot) @ turn + pivot).astype(np.float32)


def _draw_loops(canvas: Floats, face: FaceFrame, corners: Floats, style: Style, rng: np.random.Generator) -> None:
    """Draw loops from the corners to the ears, or bands around the head."""
    band, width = rng.random() < 0.15, rng.uniform(0.02, 0.09) * face.unit
    color = WHITE if rng.random() < 0.5 else sample_color(rng)
    high, out = rng.uniform(0.15, 0.4), rng.uniform(1.15, 1.35) * face.wide
    for i, (u, v) in enumerate(corners):
        side = np.sign(u)
        end = (side * out, high + (0 if style == "ear" else 0.2 * (i % 2)))
        if band and style != "ear":
            end = (side * 1.45 * face.wide, (0.9 if i % 2 else -0.2) + rng.normal(0, 0.1))
        middle = ((u + end[0]) / 2 + side * rng.normal(0.03, 0.04), (v + end[1]) / 2 + 0.03)
        line = ribbon(face.to_pixels([(u, v), middle, end]), max(1.0, width), taper=0)
        shade(canvas, shift(line, 0, 0.03 * face.unit), 0.8, soft=0.02 * face.unit)
        fill(canvas, line, color * rng.uniform(0.75, 1), opacity=0.9, soft=0.35)


def fill_with_cloth(canvas: Floats, face: FaceFrame, outline: Floats, opacity: float, rng: np.random.Generator) -> None:
    """Draw random cloth inside an outline in face coordinates, with its shadow and the light of the face."""
    polygon = face.to_pixels(outline)
    box = bounding_box(canvas.shape, polygon, 2)
    if not canvas[box].size:
        return
    light = illumination(canvas, box, polygon) ** rng.uniform(0.4, 1.3) * rng.uniform(0.85, 1.12)
    drop = shift(polygon, rng.normal(0, 0.03) * face.unit, rng.uniform(0, 0.07) * face.unit)
    shade(canvas, drop, rng.uniform(0.55, 0.95), soft=rng.uniform(0.02, 0.1) * face.unit)
    cloth = draw_cloth(face.grid(box), outline, rng) * light[..., None]
    if (blur := rng.uniform(-0.01, 0.02) * face.unit) > 0.3:
        cloth = np.asarray(cv2.GaussianBlur(cloth, (0, 0), blur), np.float32)
    alpha = opacity * coverage(polygon, box, soft=max(0.4, rng.uniform(0.004, 0.025) * face.unit))
    canvas[box] += (cloth - canvas[box]) * alpha[..., None]
    edge = np.concatenate([polygon, polygon[:1]])[::3]
    hem = ribbon(edge + (edge.mean(0) - edge) * 0.05, max(1.0, 0.02 * face.unit), taper=0)
    shade(canvas, hem, rng.uniform(0.75, 1.15), soft=0.4)
