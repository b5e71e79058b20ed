"""Reliability bins of predicted probabilities."""

from __future__ import annotations

import numpy as np
import pandas as pd

BINS = 10


def calibration_bins(preds: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """Return mean confidence, accuracy and number of images of each filled bin, and the expected calibration error."""
    correct = (preds["label"] == preds["guess"]).astype(float)
    bins = np.minimum((preds["sure"] * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"sure": preds["sure"], "right": correct, "bin": bins, "n": 1})
    table = frame.groupby("bin").agg(sure=("sure", "mean"), right=("right", "mean"), n=("n", "sum"))
    return table, float(((table["sure"] - table["right"]).abs() * table["n"]).sum() / max(len(preds), 1))
