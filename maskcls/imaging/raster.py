"""Anti-aliased shapes on float images, for synthetic people and drawn masks."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Box = tuple[slice, slice]

_TIMES = np.linspace(0, 1, 6, endpoint=False)
_SPLINE = (
    0.5
    * np.stack([np.ones(6), _TIMES, _TIMES**2, _TIMES**3], 1)
    @ np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]])
)  # (6, 4): Catmull-Rom weights of the four neighbouring points
_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1).astype(np.float32)  # (20, 2)


def curve(points: ArrayLike, closed: bool = True) -> Floats:
    """Return a smooth curve through the points, (n, 2) to about (6n, 2)."""
    p = np.asarray(points, np.float32)
    if closed:
        around = np.concatenate([p[-1:], p, p[:2]])
    else:
        around = np.concatenate([p[:1], p, p[-1:]])
    quads = np.stack([around[:-3], around[1:-2], around[2:-1], around[3:]], 1)  # (n, 4, 2)
    line = np.einsum("tk,nkc->ntc", _SPLINE, quads).reshape(-1, 2)
    return (line if closed else np.concatenate([line, p[-1:]])).astype(np.float32)


def mirror(half: ArrayLike) -> Floats:
    """Return a closed ring of points from its right half, which is listed from top to bottom of the axis."""
    right = np.asarray(half, np.float32)
    return np.concatenate([right, right[-2:0:-1] * (-1, 1)]).astype(np.float32)


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Floats:
    """Return an ellipse of 20 points; `tilt` in radians."""
    c, s = math.cos(tilt), math.sin(tilt)
    return _CIRCLE @ np.array([[rx * c, rx * s], [-ry * s, ry * c]], np.float32) + np.array([x, y], np.float32)


def ribbon(points: ArrayLike, width: float, taper: float = 1.0) -> Floats:
    """Return the outline of a stroke; `taper` 1 tapers both ends to zero, 0 keeps the width."""
    line = curve(points, closed=False)
    along = np.empty_like(line)
    along[1:-1], along[0], along[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    thick = (1 - taper * np.linspace(-1, 1, len(line)) ** 2) * (width / 2) / (np.hypot(along[:, 0], along[:, 1]) + 1e-6)
    offset = along[:, ::-1] * (-1, 1) * thick[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]]).astype(np.float32)


def shift(points: Floats, x: float, y: float) -> Floats:
    """Return the points shifted by (x, y)."""
    return points + np.array([x, y], np.float32)


def bounding_box(shape: tuple[int, ...], polygon: Floats, margin: float) -> Box:
    """Return the bounding box of a polygon with a margin, clipped to the image; it may be empty."""
    (left, top), (right, bottom) = polygon.min(0).tolist(), polygon.max(0).tolist()
    x = [min(max(int(k), 0), shape[1]) for k in (left - margin, right + margin + 2)]
    y = [min(max(int(k), 0), shape[0]) for k in (top - margin, bottom + margin + 2)]
    return slice(*y), slice(*x)


def coverage(polygon: Floats, box: Box, soft: float = 0.0) -> Floats:
    """Return the fraction of each pixel of the box inside the polygon, 0 to 1; `soft` is a blur in pixels."""
    coarse = 1 << max(0, int(math.log2(max(soft, 1) / 1.2)))  # a wide blur allows a coarse raster
    height, width = box[0].stop - box[0].start, box[1].stop - box[1].start
    inside = np.zeros((-(-height // coarse), -(-width // coarse)), np.uint8)
    corners = (polygon - (box[1].start - 0.5, box[0].start - 0.5)) * (16 / coarse) - 8
    cv2.fillPoly(inside, [np.rint(corners).astype(np.int32)], 255, cv2.LINE_AA, 4)
    if soft > 0.3:
        inside = cv2.GaussianBlur(inside, (0, 0), soft / coarse).reshape(inside.shape)
    if coarse > 1:
        inside = cv2.resize(inside, None, fx=coarse, fy=coarse)[:height, :width]
    return np.multiply(inside, np.float32(1 / 255), dtype=np.float32)


def fill(
    canvas: Floats,
    polygon: Floats,
    color: ArrayLike,
    opacity: float = 1.0,
    soft: float = 0.0,
    clip: Floats | None = None,
) -> None:
    """Fill a polygon with a color or an image; `clip` limits it to another polygon."""
    box = bounding_box(canvas.shape, polygon, 3 * soft + 1)
    part = canvas[box]
    if not part.size:
        return
    alpha = coverage(polygon, box, soft) * opacity
    if clip is not None:
        alpha = alpha * coverage(clip, box)
    paint = np.asarray(color, np.float32)
    part += ((paint[box] if paint.ndim == 3 else paint) - part) * alpha[..., None]


def shade(canvas: Floats, polygon: Floats, gain: float, soft: float = 0.0, clip: Floats | None = None) -> None:
    """Multiply the pixels in a polygon by `gain`; an invisible change is skipped."""
    if abs(gain - 1) < 0.015:
        return
    box = bounding_box(canvas.shape, polygon, 3 * soft + 1)
    part = canvas[box]
    if not part.size:
        return
    alpha = coverage(polygon, box, soft) * (gain - 1)
    if clip is not None:
        alpha = alpha * coverage(clip, box)
    part *= 1 + alpha[..., None]


def quantize(canvas: Floats) -> NDArray[np.uint8]:
    """Return the image as uint8; the canvas is overwritten."""
    canvas += 0.5
    return np.clip(canvas, 0, 255.5, out=canvas).astype(np.uint8)


class Frame:
    """Coordinate frame of a head: (0, 0) between the eyes, the cheeks at x = -1 and 1, y downwards."""

    def __init__(self, center: tuple[float, float], unit: float, tilt: float, yaw: float, pitch: float) -> None:
        self.center, self.unit, self.tilt, self.yaw, self.pitch = np.array(center), unit, tilt, yaw, pitch
        c, s = np.cos(tilt) * unit, np.sin(tilt) * unit
        self.axes = np.array([[c, s], [-s, c]])

    def to_pixels(self, points: ArrayLike, flat: bool = False) -> Floats:
        """Map face units to pixels; protruding points move with the rotation of the head, unless `flat`."""
        p = np.array(points, np.float64).reshape(-1, 2)
        if not flat:
            depth = np.sqrt(np.maximum(1 - 0.85 * p[:, 0] ** 2 - 0.2 * p[:, 1] ** 2, 0))
            p += depth[:, None] * (self.yaw, self.pitch)
        return (self.center + p @ self.axes).astype(np.float32)

    def grid(self, box: Box) -> tuple[Floats, Floats]:
        """Return x and y, in face units, of every pixel of a box."""
        y, x = np.mgrid[box].astype(np.float32)
        x, y = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        c, s = np.float32(np.cos(self.tilt) / self.unit), np.float32(np.sin(self.tilt) / self.unit)
        return x * c + y * s, y * c - x * s
