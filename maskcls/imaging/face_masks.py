"""Face masks drawn on photos of people, placed by five landmarks of the face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from maskcls.imaging.landmarks import FaceFrame, Landmarks, Point
from maskcls.imaging.raster import Box, Floats, bounding_box, coverage, curve, fill, quantize, ribbon, shade, shift

Style = Literal["worn", "nose", "chin", "ear"]
MaskShape = Literal["surgical", "fold", "cup", "cloth"]
Pattern = Literal["plain", "stripes", "checks", "dots"]
Image = NDArray[np.uint8]

STYLES: tuple[Style, ...] = get_args(Style)
COLORS: dict[MaskShape, list[tuple[int, int, int]]] = {
    "surgical": [(150, 190, 214), (176, 208, 224), (240, 243, 244), (150, 204, 188), (232, 186, 200), (52, 54, 60)],
    "fold": [(243, 243, 241), (243, 243, 241), (38, 39, 43), (216, 214, 208), (150, 152, 158), (214, 226, 232)],
    "cup": [(240, 240, 238), (46, 47, 52), (122, 128, 138), (176, 186, 200), (90, 60, 66)],
    "cloth": [(40, 42, 50), (34, 48, 88), (142, 40, 48), (70, 120, 130), (92, 110, 84), (222, 176, 184),
              (120, 96, 140)],
}  # fmt: skip

OUTLINES: dict[
    MaskShape, tuple[list[Point], list[Point]]
] = {  # right halves, from the center outwards: (u, fraction of the height)
    "surgical": ([(0, 0), (0.22, 0.03), (0.55, 0.12), (1.02, 0.2)], [(0.98, 0.68), (0.62, 0.93), (0.3, 0.99), (0, 1)]),
    "fold": ([(0, 0), (0.2, 0.06), (0.6, 0.2), (1.1, 0.3)], [(1.06, 0.52), (0.72, 0.82), (0.36, 0.98), (0, 1)]),
    "cup": ([(0, 0), (0.25, 0.05), (0.6, 0.2), (0.9, 0.34)], [(0.88, 0.6), (0.66, 0.86), (0.34, 0.98), (0, 1)]),
    "cloth": ([(0, 0), (0.2, 0.04), (0.6, 0.15), (1.06, 0.26)], [(1.02, 0.58), (0.7, 0.86), (0.34, 0.98), (0, 1)]),
}


@dataclass(frozen=True)
class MaskAppearance:
    """Appearance of a mask: shape, cloth and straps; colors are RGB, 0 to 255."""

    cut: MaskShape
    color: tuple[int, int, int]
    pattern: Pattern
    accent: tuple[int, int, int]
    strap: tuple[int, int, int]


def sample_mask(rng: np.random.Generator) -> MaskAppearance:
    """Return a random mask with realistic frequencies: mostly white, black and light blue."""
    cut: MaskShape = rng.choice(["surgical", "fold", "cup", "cloth"], p=[0.36, 0.3, 0.12, 0.22]).item()
    color = _jitter_color(COLORS[cut][rng.integers(len(COLORS[cut]))], rng)
    pattern: Pattern = rng.choice(get_args(Pattern), p=[0.4, 0.2, 0.2, 0.2]).item() if cut == "cloth" else "plain"
    accent = _jitter_color(COLORS["cloth"][rng.integers(len(COLORS["cloth"]))], rng)
    strap = (236, 236, 234) if cut == "surgical" or rng.random() < 0.3 else color
    return MaskAppearance(cut, color, pattern, accent, strap)


def draw_mask(
    image: Image, landmarks: Landmarks, look: MaskAppearance, style: Style, rng: np.random.Generator
) -> Image:
    """Return a copy of an RGB image (H, W, 3) with the mask worn or, for the other styles, worn incorrectly."""
    face = FaceFrame(landmarks)
    outline, corners = (
        hanging_outline(face, image.shape[1], rng) if style == "ear" else _worn_outline(face, look.cut, style, rng)
    )
    canvas = image.astype(np.float32)
    polygon = face.to_pixels(outline)
    box = bounding_box(canvas.shape, polygon, 2)
    if not canvas[box].size:
        return image.copy()
    light = illumination(canvas, box, polygon)
    _draw_straps(canvas, face, corners, look, style)
    shade(canvas, shift(polygon, 0, 0.05 * face.unit), 0.72, soft=0.07 * face.unit)
    cloth = _draw_cloth(face.grid(box), outline, look, style, rng) * light[..., None]
    alpha = coverage(polygon, box, soft=max(0.4, 0.012 * face.unit))[..., None]
    canvas[box] += (cloth - canvas[box]) * alpha
    _draw_border(canvas, polygon, face.unit, look)
    return quantize(canvas)


def _jitter_color(color: tuple[int, int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    r, g, b = (int(c) for c in np.clip(color + rng.normal(0, 7, 3) + rng.normal(0, 6), 12, 250))
    return r, g, b


def _worn_outline(face: FaceFrame, cut: MaskShape, style: Style, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the outline of a mask on the face and its four corners (left and right, upper and lower)."""
    top, bottom, wide = {
        "worn": (rng.uniform(0.3, 0.42), face.chin + rng.uniform(0.03, 0.14), rng.uniform(1.02, 1.1)),
        "nose": (face.nose + rng.uniform(0.22, 0.37), face.chin + rng.uniform(0.1, 0.25), rng.uniform(0.95, 1.04)),
        "chin": (rng.uniform(1.2, 1.36), face.chin + rng.uniform(0.3, 0.5), rng.uniform(0.82, 0.92)),
    }[style]
    wide *= face.wide
    upper, lower = OUTLINES[cut]
    half = np.concatenate([curve(upper, closed=False), curve(lower, closed=False)])
    slant = rng.normal(0, 0.03)
    ring = np.concatenate([half, half[::-1] * (-1, 1)]) * (wide, bottom - top) + (0, top)
    ring[:, 1] += slant * ring[:, 0]
    ends = np.array([upper[-1], lower[0]]) * (wide, bottom - top) + (0, top)
    return ring.astype(np.float32), np.concatenate([ends * (-1, 1), ends]).astype(np.float32)


def hanging_outline(face: FaceFrame, width: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the outline and corners of a mask that hangs from one ear, on the side with more space."""
    side = rng.choice([-1, 1]) if abs(face.turn) < 0.1 else -np.sign(face.turn)
    wide, high, swing = rng.uniform(0.34, 0.6), rng.uniform(1.0, 1.25), side * rng.uniform(-0.05, 0.25)
    x, y = rng.uniform(1.08, 1.22) * face.wide, rng.uniform(0.6, 0.8)
    # In a tight crop the mask hangs on the side with space, or in front of the cheek.
    room = {end: _free_space(face, end, width) for end in (-1, 1)}
    if room[side] < x + wide / 2 and room[-side] > room[side]:
        side, swing = -side, -swing
    x = side * max(min(x, room[side] - 0.3 * wide), 0.4 + wide)
    upper, lower = [(-1, 0.04), (0, 0), (1, 0.03), (1.04, 0.5)], [(0.9, 1), (0, 1.05), (-0.9, 0.98), (-1, 0.5)]
    quad = np.array(upper + lower) * (wide, high)
    turn = np.array([(np.cos(swing), np.sin(swing)), (-np.sin(swing), np.cos(swing))])
    ring = quad @ turn + (x, y)
    return curve(ring), np.stack([ring[0], ring[2]]).astype(np.float32)


def _free_space(face: FaceFrame, side: int, width: int) -> float:
    """Return how far, in u, the image extends to one side of the face."""
    steps = np.linspace(0.5, 2, 31)
    at = face.to_pixels(np.stack([side * steps, np.full(31, 1.0)], 1))[:, 0]
    return float(steps[(at >= 0) & (at < width)].max(initial=0.5))


def _draw_straps(canvas: Floats, face: FaceFrame, corners: Floats, look: MaskAppearance, style: Style) -> None:
    """Draw the elastic straps from the corners of the mask to the ears."""
    for u, v in corners:
        side = np.sign(u)
        ear = (side * 1.26 * face.wide, 0.28 + 0.2 * (v > 0.9)) if style != "ear" else (side * 1.2 * face.wide, 0.3)
        middle = ((u + ear[0]) / 2 + side * 0.03, (v + ear[1]) / 2 + 0.03)
        line = ribbon(face.to_pixels([(u, v), middle, ear]), max(1.0, 0.045 * face.unit), taper=0)
        shade(canvas, shift(line, 0, 0.03 * face.unit), 0.8, soft=0.02 * face.unit)
        fill(canvas, line, np.asarray(look.strap) * 0.86, opacity=0.9, soft=0.35)


def illumination(canvas: Floats, box: Box, polygon: Floats) -> Floats:
    """Return the illumination of the box: smoothed luminance of the face, 1 on average."""
    grey = canvas[box].mean(2)
    alpha = coverage(polygon, box) + 1e-3
    weight = cv2.resize(alpha, (6, 6), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(grey * alpha, (6, 6), interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    mean = float((grey * alpha).sum() / alpha.sum())
    # Cells that barely overlap the mask are unreliable and are shrunk to the mean.
    coarse = mean + (coarse - mean) * np.minimum(1, 3 * weight)
    coarse = cv2.GaussianBlur(coarse, (3, 3), 0)
    fall = cv2.resize((coarse / max(mean, 1)) ** 0.8, grey.shape[::-1], interpolation=cv2.INTER_CUBIC)
    level = np.clip((mean / 165) ** 0.55, 0.35, 1.12)
    return (np.clip(fall, 0.55, 1.35) * level).astype(np.float32)


def _draw_cloth(
    grid: tuple[Floats, Floats], outline: Floats, look: MaskAppearance, style: Style, rng: np.random.Generator
) -> Floats:
    """Return the RGB cloth of the mask in a box, with pattern, pleats and curvature."""
    u, v = grid
    (left, top), (right, bottom) = outline.min(0), outline.max(0)
    s = (2 * u - left - right) / (right - left)  # -1 at the left edge to 1 at the right
    t = (v - top) / (bottom - top)  # 0 at the upper edge to 1 at the lower
    cloth = np.empty((*u.shape, 3), np.float32)
    cloth[:] = look.color
    if look.pattern != "plain":
        ink = _draw_pattern(u, v, look.pattern, rng)[..., None]
        cloth += (np.asarray(look.accent, np.float32) - cloth) * ink
    relief = 1.05 - 0.2 * s**2 - 0.14 * np.maximum(t - 0.35, 0) + _creases(s, t, look.cut, style)
    relief += cv2.resize(rng.normal(0, 0.035, (9, 9)).astype(np.float32), u.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return cloth * relief[..., None]


def _draw_pattern(u: Floats, v: Floats, pattern: Pattern, rng: np.random.Generator) -> Floats:
    pitch = rng.uniform(0.14, 0.3)
    a, b = (np.sin(2 * np.pi * x / pitch + rng.uniform(0, 6)) for x in (u + 0.1 * v, v * 0.95))
    ink = {"stripes": b, "checks": (a + b) * 0.7, "dots": a * b * 2 - 0.7}[pattern]
    return np.clip(ink * 2.5 + 0.5, 0, 1).astype(np.float32) * 0.8


def _creases(s: Floats, t: Floats, cut: MaskShape, style: Style) -> Floats:
    """Return the pleats, folds or seam of a mask shape as lighter and darker lines."""
    if style == "ear":
        return crease(t - 0.35 - 0.05 * s, 0.03) + crease(t - 0.62 + 0.05 * s, 0.03)
    if cut == "surgical":
        bend = 0.1 * s**2
        return crease(t - 0.36 + bend, 0.022) + crease(t - 0.52 + bend, 0.022) + crease(t - 0.68 + bend, 0.022)
    if cut == "fold":
        low = 0.7 - 0.16 * s**2
        return crease(t - 0.36 - 0.06 * s**2, 0.03) + crease(t - low, 0.03) - 0.1 * (t > low)
    return crease(s, 0.03) * np.float32(0.8)


def crease(distance: Floats, width: float) -> Floats:
    """Return the change of brightness across a crease: dark at distance 0, lighter beside it."""
    return (-0.2 * np.exp(-((distance / width) ** 2)) + 0.1 * np.exp(-((distance / width - 2) ** 2))).astype(np.float32)


def _draw_border(canvas: Floats, polygon: Floats, unit: float, look: MaskAppearance) -> None:
    """Draw the stitched border of the mask."""
    ring = np.concatenate([polygon, polygon[:1]])[::3]
    inner = ring + (ring.mean(0) - ring) * 0.05
    fill(canvas, ribbon(inner, max(1.0, 0.02 * unit), taper=0), np.asarray(look.color) * 0.72, opacity=0.35, soft=0.4)
