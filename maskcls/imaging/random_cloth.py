"""Random cloth: color, print, pleats, wrinkles and shading, drawn anew for each mask."""

from __future__ import annotations

import cv2
import numpy as np

from maskcls.imaging.face_masks import COLORS, crease
from maskcls.imaging.raster import Floats

COMMON_COLORS = [color for colors in COLORS.values() for color in colors]


def sample_color(rng: np.random.Generator) -> Floats:
    """Return an RGB color, 0 to 255: near a common color of masks, or any."""
    if rng.random() < 0.5:
        color = COMMON_COLORS[rng.integers(len(COMMON_COLORS))] + rng.normal(0, 10, 3)
        return np.clip(color, 10, 252).astype(np.float32)
    hsv = np.array([rng.uniform(0, 180), 255 * rng.random(), rng.uniform(25, 252)], np.uint8)
    return cv2.cvtColor(hsv[None, None], cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def smooth_noise(shape: tuple[int, ...], rows: int, columns: int, rng: np.random.Generator) -> Floats:
    """Return an image of smooth noise of unit variance, interpolated from rows × columns random values."""
    coarse = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def draw_cloth(grid: tuple[Floats, Floats], outline: Floats, rng: np.random.Generator) -> Floats:
    """Return RGB cloth (H, W, 3) on a grid of face coordinates u and v, shaped by the outline that it fills."""
    u, v = grid
    (left, top), (right, bottom) = outline.min(0), outline.max(0)
    s = (2 * u - left - right) / (right - left)  # -1 at the left edge to 1 at the right
    t = (v - top) / (bottom - top)  # 0 at the upper edge to 1 at the lower
    cloth = np.empty((*u.shape, 3), np.float32)
    cloth[:] = sample_color(rng)
    for _ in range(rng.choice(3, p=[0.55, 0.3, 0.15])):
        cloth += (sample_color(rng) - cloth) * _draw_print(u, v, rng)[..., None]
    _draw_valve(cloth, s, t, rng)
    return cloth * _relief(s, t, rng)[..., None]


def _draw_print(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Return the ink of a print, 0 to 1: stripes, checks, dots, blots or two halves, turned and warped at random."""
    angle, pitch, warp = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(0.06), np.log(0.5))), rng.uniform(0, 0.08)
    a = u * np.cos(angle) + v * np.sin(angle) + warp * smooth_noise(u.shape, 5, 5, rng)
    b = v * np.cos(angle) - u * np.sin(angle) + warp * smooth_noise(u.shape, 5, 5, rng)
    x, y = (np.sin(2 * np.pi * c / pitch + rng.uniform(0, 6)) for c in (a, b))
    cells = int(rng.integers(4, 24))
    levels = [x, x * y, x + y - rng.uniform(0.6, 1.4), smooth_noise(u.shape, cells, cells, rng), a - np.median(a)]
    level = levels[rng.choice(len(levels))]
    return np.clip(level * rng.uniform(2, 12) + 0.5, 0, 1).astype(np.float32) * np.float32(rng.uniform(0.5, 1))


def _draw_valve(cloth: Floats, s: Floats, t: Floats, rng: np.random.Generator) -> None:
    """Draw, on some masks, the valve of a respirator or a label on one side."""
    if rng.random() > 0.12:
        return
    x, y, radius = rng.choice([-1, 0, 1]) * rng.uniform(0.25, 0.5), rng.uniform(0.4, 0.7), rng.uniform(0.08, 0.2)
    power = rng.choice([2, 6])  # round or square
    inside = np.clip((1 - np.abs((s - x) / radius) ** power - np.abs((t - y) / radius) ** power) * 6, 0, 1)
    cloth += (sample_color(rng) - cloth) * (inside * rng.uniform(0.5, 1)).astype(np.float32)[..., None]


def _relief(s: Floats, t: Floats, rng: np.random.Generator) -> Floats:
    """Return the brightness of the cloth: curvature, direction of the light, pleats, seam, nose wire and wrinkles."""
    tilt_s, tilt_t = rng.normal(0, 0.1, 2)
    relief = 1.05 + tilt_s * s + tilt_t * (t - 0.5)
    relief -= rng.uniform(0, 0.35) * s**2 + rng.uniform(0, 0.3) * np.maximum(t - 0.35, 0)
    bend, depth, count = rng.normal(0, 0.12), rng.uniform(0.2, 1.3), rng.choice(5, p=[0.35, 0.15, 0.15, 0.2, 0.15])
    for at in np.linspace(0.2, 0.8, count + 2)[1:-1] + rng.normal(0, 0.04, count):
        relief += depth * crease(t - at + bend * s**2, rng.uniform(0.012, 0.05))
    if rng.random() < 0.35:  # seam of a folded or sewn mask
        relief += rng.uniform(0.2, 1.2) * crease(s - rng.normal(0, 0.05), rng.uniform(0.01, 0.05))
    if rng.random() < 0.35:  # nose wire or hem
        relief += rng.uniform(0.3, 1.2) * crease(t - rng.uniform(0.05, 0.15) - 0.15 * s**2, rng.uniform(0.01, 0.03))
    rows, columns = rng.integers(3, 18, 2).tolist()
    relief += rng.uniform(0.01, 0.09) * smooth_noise(s.shape, rows, columns, rng)
    return np.clip(relief, 0.25, 1.5).astype(np.float32)
