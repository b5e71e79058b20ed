"""Hair of a synthetic portrait, behind and in front of the head."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskcls.imaging.raster import Floats, Frame, curve, fill, shade
from maskcls.synthetic.appearance import Identity, Shot

_LENGTH = {"long": 2.3, "bob": 1.12, "perm": 0.75, "tied": 0.2}  # how far the hair reaches down, in face units
_WHITE = np.array((186, 184, 184), np.float32)


def hair_colours(who: Identity, shot: Shot, face: Frame, height: int, width: int) -> Floats:
    """Return what colour hair has at every pixel, (H, W, 3): strands from the crown, grey among them, and a sheen."""
    reach = _LENGTH.get(who.hair, 0.2) + 0.4
    rows = max(2, min(height, int(face.center[1] + reach * face.unit)))  # no hair below
    step = 2 if height > 400 else 1  # a strand of a large picture is wider than its pixels
    u, v = face.grid((slice(0, rows, step), slice(0, width, step)))
    across, down = u - 0.5 * who.part, v + 1.85
    across += who.wave * 0.25 * np.sin(v * 4 + who.part * 9)
    radius, angle = cv2.cartToPolar(down, across)
    rng = np.random.default_rng(who.locks)
    strand = _strands(rng)[(angle * (1024 / (2 * np.pi))).astype(np.int32) & 1023]
    strand *= np.minimum(1, radius)  # strands too near to their root to be told apart
    if who.hair == "perm":
        curls = rng.standard_normal((26, 20)).astype(np.float32)
        strand = 0.4 * strand + cv2.resize(curls, u.shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.55
    temple = 0.25 * np.clip(np.abs(u) * 2 - 1.2, 0, 1) * (v > -0.9)
    share = np.clip(who.grey * (1.05 + temple) + strand * who.grey * (1 - who.grey) * 0.9, 0, 1)[..., None]
    sheen = np.exp(-(((radius - 0.95) / 0.2) ** 2))
    gain = 1 + 0.22 * strand + (0.4 + 0.2 * strand) * sheen * (1 - 0.6 * share[..., 0]) + 0.25 * u * shot.light[0]
    colour = np.asarray(who.hair_colour, np.float32) * (1 - share) + _WHITE * share
    paint = np.zeros((height, width, 3), np.float32)
    paint[:rows] = cv2.resize(colour * np.clip(gain, 0.35, 1.8)[..., None] + 4, (width, rows))
    return paint


def _strands(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a round of 1,024 lighter and darker strands, of several widths."""
    table = np.zeros(1024, np.float32)
    for width, height in ((24, 0.6), (8, 0.5), (3, 0.4)):
        noise = rng.standard_normal(1024 // width + 1).astype(np.float32)
        table += height * np.interp(np.arange(1024) / width, np.arange(len(noise)), noise)
    return np.clip(table, -1.6, 1.6).astype(np.float32)


def hair_behind(canvas: Floats, who: Identity, face: Frame, colours: Floats) -> None:
    """Paint what of the hair lies behind head and neck."""
    reach = _LENGTH.get(who.hair)
    if reach is None:
        return
    vol = who.volume
    if who.hair == "tied":
        side = np.sign(who.part)  # the tail falls over one shoulder
        tail = curve([(side * 0.3, 0.4), (side * 0.95, 0.9), (side * 1.0, 1.7), (side * 0.75, 2.5), (side * 0.5, 1.8)])
        fill(canvas, face.to_pixels(tail, flat=True), np.asarray(who.hair_colour) * 0.9, soft=0.6)
        ring = curve([(0, -1.5 - vol), (0.8, -1.2), (1.04, -0.4), (0.7, 0.6), (-0.7, 0.6), (-1.04, -0.4), (-0.8, -1.2)])
    else:
        wide = 1.06 + vol + (0.14 if who.hair == "perm" else 0)
        low = 0.95 if who.hair == "long" else 0.8
        ring = curve(
            [
                (0, -1.42 - vol),
                (wide * 0.75, -1.2 - vol * 0.6),
                (wide, -0.3),
                (wide * 1.02, min(0.6, reach - 0.3)),
                (wide * low, reach),
                (0, reach + 0.05),
                (-wide * low, reach),
                (-wide * 1.02, min(0.6, reach - 0.3)),
                (-wide, -0.3),
                (-wide * 0.75, -1.2 - vol * 0.6),
            ]
        )
    fill(canvas, face.to_pixels(ring, flat=True), colours * 0.72, soft=0.5)


def hair_front(canvas: Floats, who: Identity, face: Frame, colours: Floats) -> None:
    """Paint the hair from the crown to the hairline, with its shadow on the forehead."""
    if who.hair == "bald":
        _sides(canvas, who, face, colours)
        return
    ring = np.concatenate([_crown(who), _hairline(who)])
    polygon = face.to_pixels(ring, flat=True)
    shadow = face.to_pixels(ring * (0.97, 1) + (0, 0.07), flat=True)
    shade(canvas, shadow, 0.8, 0.05 * face.unit, face.to_pixels(_brow_area(), flat=True))
    fill(canvas, polygon, colours, soft=max(0.5, 0.012 * face.unit))
    if who.hair in ("long", "bob"):
        _curtains(canvas, who, face, colours)


def _brow_area() -> Floats:
    return curve([(-0.94, 0.2), (-0.95, -0.9), (0, -1.3), (0.95, -0.9), (0.94, 0.2)])


def _crown(who: Identity) -> Floats:
    """Return the outer edge of the hair, from the left sideburn over the crown to the right one."""
    rng, vol, w = np.random.default_rng(who.locks + 1), who.volume, who.width
    ear = {"crop": -0.02, "back": 0.0, "tied": -0.1}.get(who.hair, 0.12)
    side = 0.03 if who.hair in ("crop", "back", "tied") else 0.05 + 0.4 * vol
    half = [
        (1.0 + 0.5 * side, ear),
        (1.03 + side, -0.35),
        (0.95 + side, -0.8),
        (0.72 + 0.5 * vol, -1.2 - 0.5 * vol),
        (0.36, -1.42 - vol),
        (0, -1.46 - vol),
    ]
    left = [(-x * w, y) for x, y in half]
    edge = curve(left + [(x * w, y) for x, y in half[-2::-1]], closed=False)
    rough = 0.05 if who.hair == "perm" else 0.012
    return (edge * (1 + rng.normal(0, rough, (len(edge), 1)))).astype(np.float32)


def _hairline(who: Identity) -> Floats:
    """Return the inner edge of the hair, from the right sideburn over the forehead to the left one."""
    rng, lost = np.random.default_rng(who.locks + 2), who.recede
    if who.hair in ("fringe", "bob", "long") and (who.hair == "fringe" or who.locks % 2):
        low = -0.34 - 0.12 * (who.locks % 3) / 2 - 0.2 * lost
        xs = np.linspace(0.84, -0.84, 17)
        teeth = rng.normal(0, 0.035, 17) + np.where(np.arange(17) % 2, 0.035, -0.035)
        middle = [(x, low + t - 0.1 * (abs(x) > 0.75)) for x, t in zip(xs, teeth, strict=True)]
        return np.array([(0.93, 0.1), (0.9, -0.2), *middle, (-0.9, -0.2), (-0.93, 0.1)], np.float32) * (who.width, 1)
    high, corner = -0.84 - 0.3 * lost, -0.68 - 0.52 * lost
    points = [
        (0.92, 0.08),
        (0.87, -0.3),
        (0.72, corner + 0.1),
        (0.5, corner - 0.14),
        (0.22, high - 0.06),
        (0, high + 0.02),
    ]
    points += [(-x, y) for x, y in points[-2::-1]]
    if who.hair in ("side", "long", "bob"):  # the parting sweeps the hair down on one side
        sign = np.sign(who.part)
        points = [(x, y + 0.2 * (1 - lost) * max(0.0, -sign * x) * (y < -0.35)) for x, y in points]
    line = curve(points, closed=False)
    return (line + rng.normal(0, 0.008, line.shape) * (1, 2)).astype(np.float32) * (who.width, 1)


def _curtains(canvas: Floats, who: Identity, face: Frame, colours: Floats) -> None:
    """Paint the locks that fall over the ears."""
    reach = _LENGTH[who.hair]
    for side in (-1, 1):
        tuck = 0.06 * ((who.locks >> 4) % 3)
        ring = curve(
            [
                (side * 0.72, -0.95),
                (side * (1.06 + 0.4 * who.volume), -0.7),
                (side * (1.1 + who.volume), 0.2),
                (side * (1.06 + who.volume), reach * 0.7),
                (side * 0.98, reach),
                (side * (0.82 + tuck), reach * 0.85),
                (side * (0.9 + tuck), 0.5),
                (side * (0.9 + tuck), -0.2),
            ]
        )
        fill(canvas, face.to_pixels(ring * (who.width, 1), flat=True), colours, soft=max(0.5, 0.02 * face.unit))


def _sides(canvas: Floats, who: Identity, face: Frame, colours: Floats) -> None:
    """Paint the ring of hair that is left to the bald."""
    for side in (-1, 1):
        ring = curve(
            [
                (side * 1.04, 0.1),
                (side * 1.08, -0.35),
                (side * 0.96, -0.85),
                (side * 0.84, -0.8),
                (side * 0.88, -0.35),
                (side * 0.94, 0.05),
            ]
        )
        fill(canvas, face.to_pixels(ring * (who.width, 1), flat=True), colours, 0.85, 0.03 * face.unit)
