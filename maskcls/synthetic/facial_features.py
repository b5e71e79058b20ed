"""Facial features of a synthetic portrait: eyes, brows, nose, mouth, wrinkles and glasses."""

from __future__ import annotations

import numpy as np

from maskcls.imaging.raster import Floats, Frame, curve, fill, oval, ribbon, shade, shift
from maskcls.synthetic.appearance import Identity, Shot

_LASH = (30, 22, 22)


def eyes(canvas: Floats, who: Identity, shot: Shot, face: Frame) -> None:
    """Paint both eyes with their sockets."""
    for side in (-1, 1):
        _socket(canvas, who, face, side)
        _eye(canvas, who, shot, face, side)


def _socket(canvas: Floats, who: Identity, face: Frame, side: int) -> None:
    x = side * who.eye_gap
    shade(canvas, face.to_pixels(oval(x, -0.06, 0.27, 0.17)), 0.9 - 0.06 * who.bags, 0.07 * face.unit)
    shade(canvas, face.to_pixels(oval(side * 0.2, -0.02, 0.09, 0.16)), 0.88, 0.06 * face.unit)
    if who.makeup > 0.25:
        fill(canvas, face.to_pixels(oval(x, -0.08, 0.23, 0.09)), (150, 96, 92), 0.4 * who.makeup, 0.04 * face.unit)


def _eye(canvas: Floats, who: Identity, shot: Shot, face: Frame, side: int) -> None:
    size, high = 0.205 * who.eye, 0.088 * who.eye * shot.open
    droop = 0.03 * who.sag
    lift = who.eye_tilt * size

    def at(points: list[tuple[float, float]]) -> Floats:
        p = np.array(points)
        return np.stack([side * (who.eye_gap + size * p[:, 0]), high * p[:, 1] - lift * p[:, 0]], 1)

    lid = at([(-1, 0.35), (-0.55, -0.55), (0, -0.95), (0.5, -0.7), (1, 0.1)])
    upper = curve(shift(lid, 0, 0.3 * droop), closed=False)
    lower = curve(at([(1, 0.1), (0.45, 0.62), (0, 0.72), (-0.5, 0.6), (-1, 0.35)]), closed=False)
    almond = face.to_pixels(np.concatenate([upper, lower]))
    fill(canvas, almond, (232, 226, 222), soft=0.3)
    x, y, r = side * who.eye_gap + shot.gaze * size, -0.01 - high * 0.08, 0.098 * who.eye
    fill(canvas, face.to_pixels(oval(x, y, r, r)), who.iris, 1, 0.3, almond)
    fill(canvas, face.to_pixels(oval(x, y, r * 0.48, r * 0.48)), (10, 8, 8), 1, 0, almond)
    shade(canvas, face.to_pixels(shift(upper, 0, 0.02)), 0.7, 0.02 * face.unit, almond)
    fill(canvas, face.to_pixels(oval(x + 0.03 * np.sign(shot.light[0]), y - 0.035, 0.02, 0.022)), (255, 255, 252), 0.95)
    lash = 0.032 + 0.03 * who.makeup
    fill(canvas, face.to_pixels(ribbon(upper[::5], lash, taper=0.7)), _LASH, 0.85, 0.3)
    fill(canvas, face.to_pixels(ribbon(shift(lower[::5], 0, 0.008), 0.018)), (110, 70, 62), 0.5, 0.3)
    crease = shift(upper[::5], 0, droop - 0.055 - 0.01 * who.lid)
    fill(canvas, face.to_pixels(ribbon(crease, 0.03)), np.asarray(who.skin) * 0.5, 0.65 * who.lid, 0.012 * face.unit)
    if who.makeup > 0.35:
        end = upper[-1]
        fill(
            canvas,
            face.to_pixels(ribbon([upper[-8], end, (end[0] + side * 0.06, end[1] - 0.035)], 0.03)),
            _LASH,
            0.8,
            0.3,
        )


def brows(canvas: Floats, who: Identity, shot: Shot, face: Frame) -> None:
    """Paint both brows in the colour of the hair."""
    colour = np.asarray(who.hair_colour) * 0.9 + 8 + (110 - np.asarray(who.hair_colour)) * 0.8 * max(0, who.grey - 0.45)
    lift = 0.03 * shot.smile + 0.03 * (shot.open - 1)
    for side in (-1, 1):
        x, y = side * who.eye_gap, -who.brow_height - lift
        points = [
            (x - side * 0.25, y + 0.05),
            (x - side * 0.05, y - 0.01),
            (x + side * 0.14, y - 0.03),
            (x + side * 0.31, y + 0.05),
        ]
        fill(
            canvas,
            face.to_pixels(ribbon(points, 0.095 * who.brow, taper=0.85)),
            colour,
            0.5 + 0.3 * who.brow,
            0.016 * face.unit,
        )


def nose(canvas: Floats, who: Identity, face: Frame) -> None:
    """Paint the nose by its light and shadow."""
    unit, wide, tip = face.unit, 0.2 * who.nose, 0.53 * who.nose
    for side, gain in ((-1, 0.84), (1, 0.79)):
        shade(
            canvas,
            face.to_pixels(ribbon([(side * 0.13, -0.1), (side * 0.1, 0.2), (side * (wide + 0.02), tip - 0.02)], 0.1)),
            gain,
            0.035 * unit,
        )
        shade(
            canvas,
            face.to_pixels(
                ribbon(
                    [(side * wide, tip - 0.06), (side * (wide + 0.03), tip + 0.03), (side * wide * 0.8, tip + 0.11)],
                    0.035,
                )
            ),
            0.64,
            0.016 * unit,
        )
        fill(
            canvas,
            face.to_pixels(oval(side * wide * 0.5, tip + 0.095, 0.058, 0.034, 0.3 * side)),
            np.asarray(who.skin) * (0.34, 0.22, 0.2),
            0.9,
            0.01 * unit,
        )
    shade(canvas, face.to_pixels(ribbon([(0, -0.2), (0, 0.1), (0, tip - 0.08)], 0.11)), 1.1, 0.03 * unit)
    shade(canvas, face.to_pixels(oval(0, tip - 0.02, 0.07, 0.06)), 1.1, 0.025 * unit)
    shade(canvas, face.to_pixels(oval(0, tip + 0.15, wide, 0.05)), 0.78, 0.03 * unit)


def mouth(canvas: Floats, who: Identity, shot: Shot, face: Frame) -> None:
    """Paint the lips; a smile lifts and widens them and, when broad, shows the teeth."""
    unit, wide, full = face.unit, who.mouth * (1 + 0.12 * shot.smile), 0.075 * who.lips
    up, y = 0.055 * shot.smile, 0.93
    gap = 0.07 * max(0, shot.smile - 0.55)
    colour = np.asarray(who.lip_colour)
    left, right = (-wide, y - up), (wide, y - up)
    middle = [(-wide * 0.45, y + 0.012), (0, y + 0.016), (wide * 0.45, y + 0.012)]
    upper = [
        (wide * 0.6, y - full * 0.62),
        (wide * 0.2, y - full * 1.05),
        (0, y - full * 0.82),
        (-wide * 0.2, y - full * 1.05),
        (-wide * 0.6, y - full * 0.62),
    ]
    lower = [(wide * 0.6, y + full * 0.95 + gap), (0, y + full * 1.5 + gap), (-wide * 0.6, y + full * 0.95 + gap)]
    fill(canvas, face.to_pixels(curve([left, *middle, right, *lower])), colour * 1.05, 0.85, 0.012 * unit)
    fill(canvas, face.to_pixels(curve([left, *middle, right, *upper])), colour * 0.86, 0.85, 0.012 * unit)
    if gap > 0:
        fill(
            canvas,
            face.to_pixels(
                curve([(-wide * 0.7, y + 0.004), (0, y + 0.01), (wide * 0.7, y + 0.004), (0, y + 0.03 + 1.6 * gap)])
            ),
            (238, 232, 224),
            0.9,
            0.4,
        )
    fill(canvas, face.to_pixels(ribbon([left, *middle, right], 0.026, taper=0.6)), (74, 30, 30), 0.75, 0.008 * unit)
    shade(canvas, face.to_pixels(oval(0, y + full * 0.85 + gap, wide * 0.35, full * 0.25)), 1.14, 0.02 * unit)
    shade(canvas, face.to_pixels(oval(0, y + full * 1.5 + 0.08 + gap, wide * 0.55, 0.04)), 0.86, 0.035 * unit)


def wrinkles(canvas: Floats, who: Identity, shot: Shot, face: Frame, ring: Floats) -> None:
    """Paint what age and a smile fold: cheeks, forehead, corners of eyes and mouth, bags, hollow temples and jowls."""
    unit, w, s = face.unit, who.wrinkles, max(0.0, shot.smile)

    def crease(points: list[tuple[float, float]], depth: float, width: float = 0.05) -> None:
        if depth < 0.06:
            return
        line = face.to_pixels(ribbon(points, width))
        shade(canvas, line, 1 - 0.5 * min(depth, 1.2), 0.014 * unit, ring)
        shade(canvas, shift(line, 0, 0.045 * unit), 1 + 0.16 * min(depth, 1.2), 0.02 * unit, ring)

    for side in (-1, 1):
        crease([(side * 0.24, 0.5), (side * 0.4, 0.72), (side * 0.47, 0.96)], 0.1 + 0.75 * w + 0.2 * s, 0.07)
        if w > 0.35:
            crease([(side * 0.42, 1.0), (side * 0.46, 1.14), (side * 0.43, 1.26)], 0.8 * (w - 0.25), 0.06)
            for k in (-1, 0, 1):
                crease(
                    [(side * 0.67, 0.02 + 0.03 * k), (side * 0.78, 0.03 + 0.07 * k), (side * 0.87, 0.04 + 0.11 * k)],
                    0.55 * w - 0.1 + 0.2 * s,
                    0.03,
                )
        x = side * who.eye_gap
        crease([(x - side * 0.19, 0.13), (x, 0.21 + 0.03 * who.bags), (x + side * 0.19, 0.12)], 0.62 * who.bags, 0.06)
        shade(canvas, face.to_pixels(oval(x, 0.15, 0.18, 0.06)), 1 - 0.16 * who.bags, 0.03 * unit, ring)
        shade(
            canvas,
            face.to_pixels(oval(side * 0.74, 0.68, 0.13, 0.26, 0.4 * side)),
            1 - 0.22 * who.sag,
            0.09 * unit,
            ring,
        )
        shade(canvas, face.to_pixels(oval(side * 0.88, -0.4, 0.12, 0.2)), 1 - 0.14 * who.sag, 0.07 * unit, ring)
        shade(canvas, face.to_pixels(oval(side * 0.58, 0.3, 0.2, 0.1)), 1.08, 0.07 * unit, ring)
    for k in range(4):
        y = -0.46 - 0.11 * k
        crease([(-0.5, y + 0.03), (-0.2, y), (0.2, y + 0.01), (0.5, y + 0.03)], 0.6 * w - 0.12 - 0.05 * k, 0.045)
    if w > 0.5:
        crease([(-0.07, -0.32), (-0.06, -0.2), (-0.08, -0.1)], 0.6 * w - 0.2, 0.035)
        crease([(0.08, -0.32), (0.06, -0.2), (0.08, -0.1)], 0.6 * w - 0.2, 0.035)
    shade(canvas, face.to_pixels(oval(0, -0.6, 0.5, 0.22)), 1.06, 0.14 * unit, ring)
    shade(canvas, face.to_pixels(oval(0, who.chin - 0.16, 0.16, 0.08)), 1.07, 0.05 * unit, ring)


def glasses(canvas: Floats, who: Identity, face: Frame) -> None:
    """Paint the person's glasses, if any."""
    if not who.glasses:
        return
    thick = 0.03 + 0.045 * who.glasses
    for side in (-1, 1):
        x = side * (who.eye_gap + 0.02)
        squarish = np.sign(ring := oval(0, 0, 1, 1)) * np.abs(ring) ** 0.7
        lens = squarish * (0.33, 0.24) + (x, 0.04)
        shade(canvas, face.to_pixels(lens), 1.04)
        fill(
            canvas,
            face.to_pixels(
                np.concatenate(
                    [
                        lens,
                        lens[:1],
                        (lens[:1] - (x, 0.04)) * (1 - thick / 0.3) + (x, 0.04),
                        ((lens - (x, 0.04)) * (1 - thick / 0.3) + (x, 0.04))[::-1],
                    ]
                )
            ),
            who.frame,
            0.92,
            0.3,
        )
        fill(
            canvas,
            face.to_pixels(ribbon([(x + side * 0.32, -0.04), (side * 0.86, 0.0), (side * 1.02, 0.02)], thick, taper=0)),
            who.frame,
            0.9,
            0.3,
        )
    fill(canvas, face.to_pixels(ribbon([(-0.13, 0.0), (0, -0.04), (0.13, 0.0)], thick, taper=0)), who.frame, 0.92, 0.3)
