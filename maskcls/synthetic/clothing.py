"""Background, neck, shoulders and clothes of a synthetic portrait."""

from __future__ import annotations

import cv2
import numpy as np

from maskcls.imaging.raster import Floats, Frame, bounding_box, curve, fill, mirror, ribbon, shade, shift
from maskcls.synthetic.appearance import Identity, Shot


def backdrop(who: Identity, shot: Shot, height: int, width: int, rng: np.random.Generator) -> Floats:
    """Return the wall behind a person, out of focus, RGB (height, width, 3)."""
    wall, other = np.asarray(who.wall, np.float32), np.asarray(who.wall_two, np.float32)
    small = np.empty((32, 24, 3), np.float32)
    small[:] = wall
    own = np.random.default_rng(who.locks + 3)
    move = shot.shift[0] * 40 + rng.normal(0, 1.0)
    if who.scene == 1:
        edge = int(np.clip(own.integers(4, 20) + move, 1, 23))
        small[:, :edge] = wall * 0.8
    elif who.scene == 2:
        for row in range(int(own.integers(1, 6)), 32, int(own.integers(6, 11))):
            small[row : row + 2] = other * 0.8
    elif who.scene == 3:
        for _ in range(7):
            x, y = own.uniform(0, 24) + move, own.uniform(0, 26)
            cv2.circle(
                small,
                (int(x), int(y)),
                int(own.integers(2, 5)),
                tuple(float(c) for c in own.choice([other, wall * 1.15, wall * 0.7])),
                -1,
            )
    soft = cv2.GaussianBlur(small, (0, 0), 0.9)
    slope = (
        1
        + 0.16 * shot.light[0] * np.linspace(-1, 1, 24, dtype=np.float32)
        - 0.1 * np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    )
    return np.asarray(cv2.resize(soft * slope[..., None], (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def dress(canvas: Floats, who: Identity, shot: Shot, face: Frame) -> None:
    """Paint neck, shoulders and clothes."""
    body = Frame((float(face.center[0]), float(face.center[1])), face.unit, 0.3 * face.tilt, 0, 0)
    skin = np.asarray(who.skin, np.float32)
    wide = 0.5 + 0.3 * (who.shoulders - 2.3) + 0.04 * who.sag
    neck = body.to_pixels(
        curve(mirror([(0, 0.8), (wide, 0.9), (wide, 1.5), (wide + 0.12, 1.85), (1.1, 2.15), (0.7, 2.8), (0, 3.0)])),
        flat=True,
    )
    fill(canvas, neck, skin * (0.9, 0.85, 0.83), soft=0.5)
    if who.wrinkles > 0.4:
        for y in (1.62, 1.78):
            shade(
                canvas,
                body.to_pixels(ribbon([(-0.4, y), (0, y + 0.06), (0.4, y)], 0.04), flat=True),
                1 - 0.25 * who.wrinkles,
                0.02 * face.unit,
            )
    _torso(canvas, who, shot, body)
    jaw = face.to_pixels(
        curve(mirror([(0, 0.3), (0.86, 0.5), (0.8, 1.15), (0.4, who.chin + 0.2), (0, who.chin + 0.26)])), flat=True
    )
    shade(canvas, jaw, 0.62, 0.1 * face.unit, neck)


def _torso(canvas: Floats, who: Identity, shot: Shot, body: Frame) -> None:
    s, unit = who.shoulders, body.unit
    dip = {"round": 2.1, "vee": 2.6, "collar": 2.2, "suit": 2.7, "hood": 2.0, "roll": 1.55}[who.neckline]
    open_ = 0.66 if who.neckline != "roll" else 0.53
    top = 1.84 if who.neckline != "roll" else 1.45
    right = [(open_, top), (0.95, 1.96), (s * 0.8, 2.2), (s, 2.6), (s * 1.06, 3.4), (s * 1.06, 4.2)]
    hole = [
        (-0.5 * open_, (top + dip) / 2 if who.neckline in ("vee", "suit") else dip - 0.08),
        (0, dip),
        (0.5 * open_, (top + dip) / 2 if who.neckline in ("vee", "suit") else dip - 0.08),
    ]
    ring = np.concatenate(
        [curve(right, closed=False), curve([(-x, y) for x, y in right[::-1]], closed=False), curve(hole, closed=False)]
    )
    if who.neckline == "suit":
        fill(
            canvas,
            body.to_pixels(curve(mirror([(0, 1.9), (0.6, 1.8), (0.9, 2.4), (0.4, 4), (0, 4.2)])), flat=True),
            (232, 232, 230),
            soft=0.5,
        )
        fill(
            canvas,
            body.to_pixels([(-0.09, 2.12), (0.09, 2.12), (0.14, 3.2), (0, 3.4), (-0.14, 3.2)], flat=True),
            who.second,
            soft=0.4,
        )
    polygon = body.to_pixels(ring, flat=True)
    shade(canvas, shift(polygon, 0, -0.04 * unit), 0.75, 0.05 * unit)
    fill(canvas, polygon, _cloth(canvas, who, shot, body, polygon), soft=0.5)
    _trim(canvas, who, body, hole, open_, top, dip)


def _cloth(canvas: Floats, who: Identity, shot: Shot, body: Frame, polygon: Floats) -> Floats:
    """Return the clothes' colour at every pixel of the picture; only the torso's box is painted."""
    paint = np.zeros_like(canvas)
    box = bounding_box(canvas.shape, polygon, 2)
    u, v = body.grid(box)
    cloth = np.empty((*u.shape, 3), np.float32)
    cloth[:] = who.cloth
    if who.print:
        ink = (
            np.sin(v * 16) > 0.35
            if who.print == 1
            else (np.sin(v * 12) > 0.3).astype(np.float32) + (np.sin(u * 12) > 0.3)
        )
        cloth += (np.asarray(who.second, np.float32) - cloth) * (0.5 * ink.astype(np.float32))[..., None]
    own = np.random.default_rng(who.locks + 4)
    drape = cv2.resize(own.normal(0, 0.06, (3, 9)).astype(np.float32), u.shape[::-1], interpolation=cv2.INTER_CUBIC)
    gain = 1.04 - 0.08 * (u / 1.9) ** 2 + 0.28 * shot.light[0] * u / 1.9 - 0.06 * (v - 2.4) + drape
    paint[box] = cloth * np.clip(gain, 0.5, 1.3)[..., None]
    return paint


def _trim(
    canvas: Floats, who: Identity, body: Frame, hole: list[tuple[float, float]], open_: float, top: float, dip: float
) -> None:
    """Paint collar, lapels or hood."""
    cloth, unit = np.asarray(who.cloth, np.float32), body.unit
    if who.neckline in ("round", "vee", "roll"):
        edge = body.to_pixels(ribbon([(-open_, top), *hole, (open_, top)], 0.1, taper=0.2), flat=True)
        fill(canvas, edge, cloth * 0.84, 0.8, 0.5)
        return
    for side in (-1, 1):
        if who.neckline == "collar":
            flap = [(side * 0.56, 1.7), (side * 0.02, dip), (side * 0.34, dip + 0.32), (side * 0.78, 1.95)]
        elif who.neckline == "suit":
            flap = [
                (side * 0.62, 1.78),
                (side * 0.02, dip),
                (side * 0.5, dip + 0.1),
                (side * 0.82, 2.2),
                (side * 0.78, 1.9),
            ]
        else:
            flap = curve(
                [
                    (side * 0.6, 1.5),
                    (side * 0.2, dip),
                    (side * 0.05, dip + 0.12),
                    (side * 0.6, 2.3),
                    (side * 1.05, 1.95),
                ]
            ).tolist()
        polygon = body.to_pixels(np.asarray(flap), flat=True)
        shade(canvas, shift(polygon, 0, 0.05 * unit), 0.75, 0.03 * unit)
        fill(canvas, polygon, np.clip(cloth * 1.08 + 6, 0, 250), soft=0.5)
