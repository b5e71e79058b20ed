"""Reliability bins of predicted probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    pass


BINS = 10  # of confidence


def calibration_bins(held: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return each filled bin's mean confidence, accuracy and photos, and the expected calibration error."""
    right = (held["label"] == held["guess"]).astype(float)
    place = np.minimum((held["sure"] * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"sure": held["sure"], "right": right, "bin": place, "n": 1})
    table = frame.groupby("bin").agg(sure=("sure", "mean"), right=("right", "mean"), n=("n", "sum"))
    return table, float(((table["sure"] - table["right"]).abs() * table["n"]).sum() / max(len(held), 1))
