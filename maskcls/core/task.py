"""The 18 classes: mask (worn, incorrect, none) × gender (male, female) × age (<30, 30–59, ≥60)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MASKS = ("worn", "incorrect", "none")
GENDERS = ("male", "female")
AGES = ("<30", "30-59", ">=60")
SHAPE = (len(MASKS), len(GENDERS), len(AGES))
ATTRIBUTES = {"mask": MASKS, "gender": GENDERS, "age": AGES}
CLASSES = tuple(f"{m} {g} {a}" for m in MASKS for g in GENDERS for a in AGES)
AGE_THRESHOLDS = (30, 60)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


def bin_age(age: npt.ArrayLike, thresholds: Sequence[int] = AGE_THRESHOLDS) -> IntArray:
    """Return the age class (0, 1, 2) of ages in years; a threshold belongs to the class above it."""
    return np.searchsorted(np.asarray(thresholds), np.asarray(age), side="right").astype(np.int64)


def encode(mask: npt.ArrayLike, gender: npt.ArrayLike, age: npt.ArrayLike) -> IntArray:
    """Return class = mask·6 + gender·3 + age class."""
    return (np.asarray(mask) * 6 + np.asarray(gender) * 3 + np.asarray(age)).astype(np.int64)


def decode(label: npt.ArrayLike) -> tuple[IntArray, IntArray, IntArray]:
    """Return (mask, gender, age class) of labels 0–17."""
    mask, gender, age = np.unravel_index(np.asarray(label, dtype=np.int64), SHAPE)
    return mask, gender, age


def marginals(probs: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the sums of (N, 18) over the other attributes: mask (N, 3), gender (N, 2), age (N, 3)."""
    cube = probs.reshape(-1, *SHAPE)  # (N, 3, 2, 3)
    return cube.sum((2, 3)), cube.sum((1, 3)), cube.sum((1, 2))


def one_hot(label: npt.ArrayLike) -> FloatArray:
    """Return labels as distributions, (N, 18)."""
    return np.eye(len(CLASSES), dtype=np.float32)[np.asarray(label, dtype=np.int64)]
