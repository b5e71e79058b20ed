"""Experiments that classify photos of people by mask, gender and age."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskcls.inference.predictor import Predictor


__version__ = "0.1.0"

# Before torch loads its OpenMP (GNU's, which reads this once): a thread that has nothing to do sleeps. By default it
# spins, and where other programs want the cores, in place of the thread that it waits for: 3 to 15 images/s, against 29
# to 56 asleep, on two cores at loads of 5 to 8 (mobilenetv3, runs in turn).
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load(run: str | Path, runs_dir: str | Path = "runs") -> Predictor:
    """Return a finished run as a function: photos (uint8 RGB arrays or paths) → probabilities (N, 18) float32.

    `run` is its folder, or its name below `runs_dir`; RunError for any other. The mean of the folds, with the
    preprocessing that they were trained with, on the GPU where there is one.
    """
    from maskcls.inference import predictor

    return predictor.load(run, runs_dir)
