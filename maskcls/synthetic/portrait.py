"""Synthetic portraits: background, clothes, head, features and hair, then camera effects."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskcls.imaging.landmarks import Landmarks
from maskcls.imaging.raster import Floats, Frame, bounding_box, coverage, curve, fill, mirror, oval, quantize, shade
from maskcls.synthetic.appearance import Identity, Shot
from maskcls.synthetic.clothing import backdrop, dress
from maskcls.synthetic.facial_features import brows, eyes, glasses, mouth, nose, wrinkles
from maskcls.synthetic.hair import hair_behind, hair_colours, hair_front

Image = NDArray[np.uint8]
EARLESS = ("long", "bob")  # hair that covers the ears


def portrait(who: Identity, shot: Shot, height: int, width: int) -> tuple[Image, Landmarks]:
    """Return the photo of a person before the camera's blur and noise, RGB (height, width, 3), and its landmarks."""
    rng = np.random.default_rng(shot.seed)
    face = place(who, shot, height, width)
    canvas = backdrop(who, shot, height, width, rng)
    colours = hair_colours(who, shot, face, height, width)
    hair_behind(canvas, who, face, colours)
    dress(canvas, who, shot, face)
    _head(canvas, who, shot, face)
    hair_front(canvas, who, face, colours)
    glasses(canvas, who, face)
    return quantize(canvas), landmarks(who, shot, face)


def apply_camera(image: Image, shot: Shot) -> Image:
    """Return the photo as the camera records it: exposure, colour cast, blur, vignette and noise."""
    rng = np.random.default_rng(shot.seed + 1)
    height, width = image.shape[:2]
    cast = shot.exposure * np.array([1 + shot.warmth, 1.0, 1 - shot.warmth])
    picture = image.astype(np.float32) * cast.astype(np.float32)
    if shot.blur > 0.15:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), shot.blur * height / 256), np.float32)
    y, x = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)
    picture *= (1.03 - 0.06 * (x**2 + y**2))[..., None]
    tint = cv2.resize(_grain(rng, (height // 2 + 1, width // 2 + 1, 3)), (width, height))
    picture += shot.noise * (_grain(rng, (height, width, 1)) + 0.5 * tint)
    return quantize(picture)


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Return noise of deviation 1: the difference of two random bytes, drawn much faster than a normal number."""
    bytes_ = rng.integers(0, 256, (2, *shape), np.uint8)
    return np.subtract(bytes_[0], bytes_[1], dtype=np.float32) * np.float32(1 / 104.5)


def place(who: Identity, shot: Shot, height: int, width: int) -> Frame:
    """Return where the head of a photo lies in the picture."""
    unit = 0.23 * height * shot.scale
    center = (width * 0.5 + shot.shift[0] * height, height * (0.455 + shot.shift[1]))
    return Frame(center, unit, shot.tilt, shot.yaw, shot.pitch)


def landmarks(who: Identity, shot: Shot, face: Frame) -> Landmarks:
    """Return the five points and the chin of a drawn face, in pixels."""
    gap, wide = who.eye_gap, who.mouth * (1 + 0.1 * shot.smile)
    points = face.to_pixels([(-gap, 0), (gap, 0), (0, 0.53 * who.nose), (-wide, 0.93), (wide, 0.93), (0, who.chin)])
    left, right, tip, low_left, low_right, chin = ((float(x), float(y)) for x, y in points)
    return Landmarks(left, right, tip, low_left, low_right, chin)


def outline(who: Identity) -> Floats:
    """Return the contour of the head in face units, (n, 2)."""
    droop = 0.07 * who.sag
    return curve(
        mirror(
            [
                (0, -1.42),
                (0.52, -1.27),
                (0.86, -0.85),
                (0.96, -0.35),
                (0.96, 0.1),
                (0.91, 0.5),
                (who.jaw - 0.02 + 0.5 * droop, 0.88 + droop),
                (0.6 * who.jaw + 0.6 * droop, 1.2 + 0.5 * droop),
                (0.3 * who.jaw, who.chin - 0.04),
                (0, who.chin),
            ]
        )
        * (who.width, 1)
    )


def _head(canvas: Floats, who: Identity, shot: Shot, face: Frame) -> None:
    skin = np.asarray(who.skin, np.float32)
    ring = face.to_pixels(outline(who))
    if who.hair not in EARLESS:
        for side in (-1, 1):
            _ear(canvas, who, face, side)
    fill(canvas, ring, skin, soft=0.4)
    _complexion(canvas, who, face, ring)
    _beard(canvas, who, face, ring)
    wrinkles(canvas, who, shot, face, ring)
    nose(canvas, who, face)
    mouth(canvas, who, shot, face)
    eyes(canvas, who, shot, face)
    brows(canvas, who, shot, face)
    _lighten(canvas, shot, face, ring)


def _ear(canvas: Floats, who: Identity, face: Frame, side: int) -> None:
    skin = np.asarray(who.skin, np.float32)
    x = side * 1.01 * who.width
    fill(canvas, face.to_pixels(oval(x, 0.2, 0.12, 0.27, -0.15 * side)), skin * (0.93, 0.86, 0.84), soft=0.5)
    shade(canvas, face.to_pixels(oval(x + 0.01 * side, 0.2, 0.06, 0.17, -0.15 * side)), 0.8, soft=0.03 * face.unit)
    if who.earrings:
        fill(canvas, face.to_pixels(oval(x - 0.01 * side, 0.5, 0.045, 0.05)), (236, 222, 180), opacity=0.95)


def _complexion(canvas: Floats, who: Identity, face: Frame, ring: Floats) -> None:
    """Paint what colours bare skin: blush, unevenness, spots and moles."""
    unit, skin = face.unit, np.asarray(who.skin, np.float32)
    rng = np.random.default_rng(who.locks)
    for side in (-1, 1):
        cheek = face.to_pixels(oval(side * 0.56, 0.5, 0.26, 0.22))
        fill(canvas, cheek, skin * (1.02, 0.8, 0.78), 0.35 + 0.4 * who.makeup, 0.14 * unit, ring)
    for _ in range(int(8 * who.tone)):
        x, y, wide, high = rng.uniform((-0.85, -0.8, 0.08, 0.08), (0.85, 1.3, 0.25, 0.2))
        shade(canvas, face.to_pixels(oval(x, y, wide, high)), 1 + rng.normal(0, 0.06), 0.06 * unit, ring)
    for _ in range(int(9 * who.spots)):
        x, y, size = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9), rng.uniform(-0.9, 0.9), rng.uniform(0.02, 0.07)
        fill(canvas, face.to_pixels(oval(x, y, size, size * 0.8)), skin * (0.7, 0.62, 0.55), 0.55, 0.02 * unit, ring)
    for x, y in who.moles:
        fill(canvas, face.to_pixels(oval(x, y, 0.03, 0.03)), (64, 40, 34), 0.85, 0.3)


def _beard(canvas: Floats, who: Identity, face: Frame, ring: Floats) -> None:
    """Paint the shadow of a shaved jaw and a moustache, greying with the hair."""
    if who.stubble > 0.06:
        jaw = curve(mirror([(0, 0.72), (0.3, 0.68), (0.6, 0.7), (0.9, 0.45), (0.84, 1.0), (0.4, 1.6), (0, 1.6)]))
        fill(
            canvas,
            face.to_pixels(jaw),
            np.array((78, 76, 80)) + 70 * who.grey,
            0.8 * who.stubble,
            0.09 * face.unit,
            ring,
        )
    if who.moustache:
        grey = np.array((60, 54, 52)) + 90 * who.grey
        fill(canvas, face.to_pixels(oval(0, 0.76, 0.32, 0.075)), grey, 0.7, 0.04 * face.unit)


def _lighten(canvas: Floats, shot: Shot, face: Frame, ring: Floats) -> None:
    """Lets the light fall on the head as on an egg, redder where it is dark."""
    box = bounding_box(canvas.shape, ring, 2)
    if not canvas[box].size:
        return
    u, v = face.grid(box)
    x, y = u / 1.12 - 0.6 * shot.yaw, v / 1.75
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0.02))
    lx, ly = shot.light
    lit = (
        (x * lx + y * ly + z * np.sqrt(max(0.2, 1 - lx * lx - ly * ly))) * shot.contrast * 1.5
        + 1.02
        - shot.contrast * 1.12
    )
    gain = np.clip(lit, 0.35, 1.2).astype(np.float32)[..., None] ** np.array([0.85, 1.0, 1.1], np.float32)
    alpha = coverage(ring, box, 0.5)[..., None]
    canvas[box] *= 1 + (gain - 1) * alpha
