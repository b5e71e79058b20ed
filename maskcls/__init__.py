"""Experiments that classify photos of people by mask, gender and age."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskcls.predictor import Predictor

__version__ = "0.1.0"


def load(run: str | Path, runs_dir: str | Path = "runs") -> Predictor:
    """Return a finished run as a function: photos (uint8 RGB arrays or paths) → probabilities (N, 18) float32.

    `run` is its folder, or its name below `runs_dir`; RunError for any other. The mean of the folds, with the
    preprocessing that they were trained with, on the GPU where there is one.
    """
    from maskcls import predictor

    return predictor.load(run, runs_dir)
