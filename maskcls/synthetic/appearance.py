"""Random people whose appearance depends on gender and age, and the camera settings of their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = tuple[float, float, float]
Hair = Literal["crop", "fringe", "side", "back", "long", "bob", "tied", "perm", "bald"]
Neckline = Literal["round", "vee", "collar", "suit", "hood", "roll"]

HAIRS: dict[str, tuple[Hair, ...]] = {  # by gender and age third; a style named twice is worn twice as often
    "male young": ("fringe", "fringe", "side", "crop", "crop", "crop"),
    "male middle": ("side", "crop", "side", "fringe", "back"),
    "male old": ("side", "back", "crop", "bald", "back"),
    "female young": ("long", "long", "long", "bob", "tied", "tied"),
    "female middle": ("bob", "long", "tied", "perm", "bob", "bob"),
    "female old": ("perm", "perm", "perm", "perm", "bob"),
}


def _palette(codes: str) -> list[Colour]:
    return [(float(r), float(g), float(b)) for r, g, b in map(bytes.fromhex, codes.split())]


_CLOTHES = _palette("eeece8 24252a 263256 787c82 5678a0 963c3e ceba9e 5c684c e2bec4 765c4c d0a84c 54426e 3c706c b0cede")
_WALLS = _palette("e2e0dc ced2d6 bcb2a4 a8b8c4 d6ccba 8c9092 786858 b0beac e8e4d6 62707c")
_LIKING = np.array([0, -1, -1, -1, -0.5, 1, 0.6, -1, 1.5, -0.4, 0.5, 0.8, 0.4, 0.4])  # of each, by women less by men


@dataclass(frozen=True)
class Identity:
    """What stays the same over the photos of one person; lengths in half widths of a face, amounts from 0 to 1."""

    gender: int
    age: int
    skin: Colour
    tone: float  # unevenness of the skin
    hair: Hair
    hair_colour: Colour
    grey: float
    recede: float
    volume: float
    part: float
    wave: float
    locks: int  # seed of the strands
    width: float
    jaw: float
    chin: float
    sag: float
    eye: float
    eye_gap: float
    eye_tilt: float
    lid: float
    iris: Colour
    brow: float
    brow_height: float
    nose: float
    mouth: float
    lips: float
    lip_colour: Colour
    makeup: float
    stubble: float
    moustache: bool
    wrinkles: float
    bags: float
    spots: float
    moles: tuple[tuple[float, float], ...]
    glasses: float  # 0 none, else the strength of the frame
    frame: Colour
    earrings: bool
    neckline: Neckline
    cloth: Colour
    second: Colour
    print: int  # 0 plain, 1 stripes, 2 checks
    shoulders: float
    wall: Colour
    wall_two: Colour
    scene: int  # 0 plain wall, 1 wall with a dark corner, 2 shelves, 3 blurred lights
    light: float  # where the light usually comes from, -1 left to 1 right


@dataclass(frozen=True)
class Shot:
    """What differs between the photos of one person; angles in radians, `shift` in parts of the height."""

    shift: tuple[float, float]
    scale: float
    tilt: float
    yaw: float
    pitch: float
    light: tuple[float, float]  # from where, right and below
    contrast: float
    exposure: float
    warmth: float
    blur: float
    noise: float
    smile: float
    open: float
    gaze: float
    seed: int


def sample_identity(rng: np.random.Generator, gender: int, age: int) -> Identity:
    """Return a random person of a gender (0 male, 1 female) and age in years."""
    looks = age + rng.normal(0, 3.0) + (3 + rng.gamma(2.0, 4.0) if age >= 60 else 0)  # 60 stands for "60 and over"
    feminine = (1 if gender else -1) + rng.normal(0, 0.36)
    liking = np.exp(0.65 * feminine * _LIKING)
    cloth, second = rng.choice(len(_CLOTHES), 2, replace=False, p=liking / liking.sum())
    wall, other = rng.choice(len(_WALLS), 2, replace=False)
    return Identity(
        gender=gender,
        age=age,
        print=int(rng.choice(3, p=[0.66, 0.2, 0.14])),
        cloth=_near(_CLOTHES[cloth], rng, 12),
        second=_near(_CLOTHES[second], rng, 12),
        wall=_near(_WALLS[wall], rng, 10),
        wall_two=_near(_WALLS[other], rng, 10),
        scene=int(rng.integers(4)),
        light=float(rng.uniform(-1, 1)),
        neckline=_neckline(rng, feminine, looks),
        shoulders=float(2.32 - 0.2 * feminine + rng.normal(0, 0.1)),
        **_hair(rng, feminine, looks),
        **_skin(rng, feminine, looks),
        **_shape(rng, feminine, looks),
        **_features(rng, feminine, looks),
        **_extras(rng, feminine, looks),
    )


def sample_shot(rng: np.random.Generator, who: Identity) -> Shot:
    """Return a random photo to be taken of a person: pose, light, camera and expression."""
    return Shot(
        shift=(float(rng.normal(0, 0.018)), float(rng.normal(0, 0.016))),
        scale=float(rng.normal(1, 0.05)),
        tilt=float(rng.normal(0, 0.05)),
        yaw=float(np.clip(rng.normal(0, 0.09), -0.24, 0.24)),
        pitch=float(rng.normal(0, 0.05)),
        light=(float(0.5 * who.light + rng.normal(0, 0.22)), float(rng.normal(-0.3, 0.12))),
        contrast=float(rng.uniform(0.22, 0.42)),
        exposure=float(np.exp(rng.normal(0, 0.08))),
        warmth=float(rng.normal(0, 0.025)),
        blur=float(rng.gamma(2.0, 0.13)),
        noise=float(rng.uniform(1.5, 4.5)),
        smile=float(np.clip(rng.normal(0.25, 0.35), -0.3, 1)),
        open=float(np.clip(rng.normal(1, 0.14), 0.5, 1.25)),
        gaze=float(rng.normal(0, 0.12)),
        seed=int(rng.integers(2**31)),
    )


def _near(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    r, g, b = np.clip(np.asarray(colour) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 14, 248)
    return float(r), float(g), float(b)


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    r, g, c = (x + (y - x) * share for x, y in zip(a, b, strict=True))
    return r, g, c


def _ramp(looks: float, low: float, high: float) -> float:
    return float(np.clip((looks - low) / (high - low), 0, 1.15))


def _neckline(rng: np.random.Generator, feminine: float, looks: float) -> Neckline:
    weights = np.array([2.2, 1 + 0.6 * max(feminine, 0), 1.4, 1.3 - 0.5 * feminine, 1.4, 0.8])
    weights *= np.array([1, 1, 1.3, 1.3, 0.5, 1.2]) ** ((looks - 40) / 20)
    weights = np.maximum(weights, 0.1)
    return rng.choice(["round", "vee", "collar", "suit", "hood", "roll"], p=weights / weights.sum()).item()


def _hair(rng: np.random.Generator, feminine: float, looks: float) -> dict:
    third = "young" if looks < 32 else "middle" if looks < 51 else "old"
    styles = HAIRS[("female " if feminine + rng.normal(0, 0.4) > 0 else "male ") + third]
    dyed = rng.random() < (0.2 if looks < 35 else 0.3 if looks < 60 else 0.1)
    black = _near((34, 29, 28), rng, 6)
    brown = _near(((96, 62, 42), (132, 88, 56), (70, 42, 34), (150, 110, 70))[rng.integers(4)], rng, 8)
    grey = float(np.clip(_ramp(looks, 44, 66) ** 1.5 + rng.normal(0, 0.09), 0, 1)) if looks > 36 else 0.0
    lost = max(-feminine, 0.15) * _ramp(looks, 30, 64)
    return {
        "hair": styles[rng.integers(len(styles))],
        "grey": grey * (0.4 if dyed else 1.0),
        "locks": int(rng.integers(2**31)),
        "hair_colour": _mix(black, brown, float(rng.uniform(0.6, 1)))
        if dyed
        else _mix(black, brown, float(rng.uniform(0, 0.25))),
        "recede": float(np.clip(0.9 * lost + rng.normal(0, 0.12), 0, 1)),
        "volume": float(np.clip(rng.normal(0.2, 0.05) - 0.05 * _ramp(looks, 40, 70), 0.07, 0.34)),
        "part": float(rng.choice([-1, 1]) * rng.uniform(0.1, 0.6)),
        "wave": float(rng.gamma(1.5, 0.12)),
    }


def _skin(rng: np.random.Generator, feminine: float, looks: float) -> dict:
    fair = _mix((238, 206, 184), (196, 148, 116), float(np.clip(rng.beta(2, 2.6) - 0.12 * feminine, 0, 1)))
    old = _ramp(looks, 27, 62) ** 0.7
    skin = _mix(fair, (186, 144, 112), 0.45 * old)
    bare = (skin[0] * 0.86, skin[1] * 0.66, skin[2] * 0.66)
    lips = _mix(bare, (196, 62, 74), float(np.clip(0.23 + 0.28 * feminine + rng.normal(0, 0.13), 0, 0.8)))
    return {
        "skin": _near(skin, rng, 4),
        "tone": float(np.clip(0.25 + 0.6 * old + rng.normal(0, 0.15), 0.05, 1.1)),
        "lip_colour": _mix(lips, skin, 0.3 * old),
        "wrinkles": float(np.clip(_ramp(looks, 27, 60) ** 0.7 + rng.normal(0, 0.12), 0, 1.2)),
        "bags": float(np.clip(0.15 + 0.75 * _ramp(looks, 27, 62) ** 0.7 + rng.normal(0, 0.15), 0, 1.1)),
        "spots": float(np.clip(_ramp(looks, 42, 64) + rng.normal(0, 0.2), 0, 1)),
        "moles": tuple((float(x), float(y)) for x, y in rng.uniform((-0.7, 0.15), (0.7, 1.15), (rng.poisson(0.6), 2))),
    }


def _shape(rng: np.random.Generator, feminine: float, looks: float) -> dict:
    return {
        "width": float(rng.normal(1, 0.045)),
        "jaw": float(0.79 - 0.055 * feminine + rng.normal(0, 0.04)),
        "chin": float(1.43 - 0.02 * feminine + rng.normal(0, 0.05)),
        "sag": float(np.clip(_ramp(looks, 29, 64) ** 0.8 + rng.normal(0, 0.15), 0, 1.2)),
    }


def _features(rng: np.random.Generator, feminine: float, looks: float) -> dict:
    old = _ramp(looks, 27, 65) ** 0.8
    return {
        "eye": float(1.0 + 0.07 * feminine - 0.18 * old + rng.normal(0, 0.08)),
        "eye_gap": float(rng.normal(0.43, 0.02)),
        "eye_tilt": float(rng.normal(0.06, 0.06) - 0.1 * old),
        "lid": float(np.clip(rng.normal(0.5, 0.3) + 0.2 * old, 0, 1.2)),
        "iris": _near((58, 38, 28), rng, 8),
        "brow": float(np.clip(1 - 0.3 * feminine - 0.2 * old + rng.normal(0, 0.2), 0.35, 1.6)),
        "brow_height": float(rng.normal(0.28, 0.025)),
        "nose": float(1 - 0.05 * feminine + 0.08 * old + rng.normal(0, 0.09)),
        "mouth": float(rng.normal(0.37, 0.03)),
        "lips": float(np.clip(1 + 0.1 * feminine - 0.35 * old + rng.normal(0, 0.16), 0.4, 1.5)),
    }


def _extras(rng: np.random.Generator, feminine: float, looks: float) -> dict:
    beard = feminine < -0.3 and rng.random() < 0.4
    glasses = rng.random() < 0.24 + 0.1 * _ramp(looks, 35, 60)
    return {
        "makeup": float(np.clip(0.4 * feminine + rng.normal(0.1, 0.22), 0, 1)),
        "stubble": float(np.clip(0.18 - 0.2 * feminine + rng.normal(0, 0.09), 0, 0.45) * (1.7 if beard else 1)),
        "moustache": bool(beard and rng.random() < 0.3),
        "glasses": float(rng.uniform(0.35, 1)) if glasses else 0.0,
        "frame": _near(((26, 24, 26), (96, 62, 40), (150, 140, 124), (60, 40, 44))[rng.integers(4)], rng, 8),
        "earrings": bool(rng.random() < 0.12 + 0.14 * np.clip(feminine + 1, 0, 2)),
    }
