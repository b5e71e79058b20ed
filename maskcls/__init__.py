"""Experiments with image classifiers: several attributes from photographs that come in groups."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskcls.inference.predictor import Predictor


__version__ = "0.1.0"

# On a busy machine, waiting OpenMP threads sleep instead of spinning; set before torch loads GNU OpenMP, which reads it
# once. On two cores, mobilenetv3 at load 5 to 8: 3 to 15 images/s spinning, 29 to 56 sleeping; the default run on an
# idle machine: 190 to 206 spinning, 143 to 156 sleeping (three pairs).
if "GOMP_SPINCOUNT" not in os.environ and getattr(os, "getloadavg", lambda: (0.0,))()[0] > (os.cpu_count() or 1):
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def load(run: str | Path, runs_dir: str | Path = "runs", calibrated: bool = False) -> Predictor:
    """Return a trained model as a function: images → probabilities (N, C) float32, in the order of `model.classes`.

    Images are paths, PIL images or uint8 RGB arrays, one or many. `model.predict(images)` returns names of classes,
    and `model.predict_numbers(images)` of a model with head=years the expected number and its standard deviation.
    `model.sets(images, coverage=0.9)` of a finished run returns the classes that each image may have. `calibrated`
    scales the probabilities of a finished run by temperatures fitted out of fold; the predicted classes stay.
    `model.show(image)` shows one image in a notebook, with a bar for each value of each attribute.

    `run` is the folder of a run or its name in `runs_dir`, the folder of a fold or a checkpoint file; RunError for any
    other. A run that is not finished has the folds and epochs that are trained so far, and a line reports which. The
    function preprocesses as in training and returns the mean of the folds, computed on the GPU if there is one.
    """
    from maskcls.inference import predictor

    return predictor.load(run, runs_dir, calibrated)
