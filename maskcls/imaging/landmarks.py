"""Face landmarks and the coordinate frame of a face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskcls.imaging.raster import Box, Floats

Point = tuple[float, float]


@dataclass(frozen=True)
class Landmarks:
    """Five landmarks of a face in pixels (x, y), left and right as seen in the image; a missing chin is estimated.

    `wide` is the ratio of face width to eye distance relative to that of the synthetic people.
    """

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point
    chin: Point | None = None
    wide: float = 1.0

    def to_pixels(self, points: ArrayLike) -> Floats:
        """Map (u, v) to pixels: the eyes are at u = -0.5 and 0.5, the mouth at v = 1; head rotation is ignored."""
        return FaceFrame(self).to_pixels(points, flat=True)


class FaceFrame:
    """Coordinate frame of a face: u along the eyes (at -0.5 and 0.5), v from the eyes down (mouth at 1)."""

    def __init__(self, at: Landmarks) -> None:
        left, right, nose = (np.asarray(p, np.float64) for p in (at.left_eye, at.right_eye, at.nose))
        mouth = (np.asarray(at.left_mouth, np.float64) + np.asarray(at.right_mouth, np.float64)) / 2
        self.origin = (left + right) / 2
        down, across = mouth - self.origin, right - left
        # The eyes of a strongly turned face appear close together: estimate its width from its height.
        across *= max(1.0, 0.7 * float(np.hypot(*down)) / max(float(np.hypot(*across)), 1e-3))
        self.axes = np.stack([across, down])  # (2, 2)
        if abs(np.linalg.det(self.axes)) < 1e-3:
            raise ValueError("the landmarks are collinear")
        self.inverse = np.linalg.inv(self.axes)
        self.unit = float(np.hypot(*across))
        self.nose = float(np.clip(self.to_face(nose)[1], 0.4, 0.8))
        self.turn = float(np.clip(self.to_face(nose)[0], -0.4, 0.4))
        self.wide = float(np.clip(at.wide, 0.8, 1.15))
        self.chin = 1.66 if at.chin is None else float(np.clip(self.to_face(at.chin)[1], 1.35, 2.0))

    def to_face(self, point: ArrayLike) -> NDArray[np.float64]:
        """Map pixels to (u, v)."""
        return (np.asarray(point, np.float64) - self.origin) @ self.inverse

    def to_pixels(self, points: ArrayLike, flat: bool = False) -> Floats:
        """Map (u, v) to pixels; the half of the face that is turned away is narrower, unless `flat`."""
        p = np.array(points, np.float64).reshape(-1, 2)
        if not flat:
            p[:, 0] += self.turn * np.clip(1.2 - p[:, 0] ** 2, -0.2, 1.2)
        return (self.origin + p @ self.axes).astype(np.float32)

    def grid(self, box: Box) -> tuple[Floats, Floats]:
        """Return u and v of every pixel of a box, ignoring the rotation of the head."""
        y, x = np.mgrid[box].astype(np.float32)
        (a, b), (c, d) = self.inverse
        x, y = x - self.origin[0], y - self.origin[1]
        return (x * a + y * c).astype(np.float32), (x * b + y * d).astype(np.float32)
