"""Errors by attribute and by age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import ATTRIBUTES, decode
from maskcls.evaluation.intervals import mean_interval


def count_wrong_attributes(preds: pd.DataFrame) -> dict[str, int]:
    """Count the wrong predictions by their wrong attribute."""
    wrong = preds[preds["label"] != preds["guess"]]
    differs = np.stack([a != b for a, b in zip(decode(wrong["label"]), decode(wrong["guess"]), strict=True)])  # (3, N)
    is_only = differs.sum(0) == 1
    counts = {f"{name} only": int((row & is_only).sum()) for name, row in zip(ATTRIBUTES, differs, strict=True)}
    return counts | {"several": int((~is_only).sum())}


def error_by_age(preds: pd.DataFrame) -> pd.DataFrame:
    """Return for each year of age the number of images and the fractions predicted too young and too old."""
    rows = preds[preds["years"].notna()]
    errors = {"young": rows["age_guess"] < rows["age_truth"], "old": rows["age_guess"] > rows["age_truth"]}
    frame = pd.DataFrame(errors | {"n": 1, "year": rows["years"].astype(int)}, index=rows.index)
    return frame.groupby("year").agg(young=("young", "mean"), old=("old", "mean"), n=("n", "sum"))


def age_error(
    truth: npt.NDArray[Any], expected: npt.NDArray[Any], is_open: npt.NDArray[np.bool_], groups: Sequence[str]
) -> dict[str, Any]:
    """Return the mean absolute error of expected ages in years, its interval over people, and the numbers of images.

    Images without an age (NaN), or with one that means "this age or older" (`is_open`), have no error.
    """
    used = ~np.isnan(truth) & ~is_open
    numbers = {"age_images": int(used.sum()), "open_ended": int(is_open.sum())}
    if not used.any():
        return numbers
    errors = np.abs(expected - truth)[used]
    interval = mean_interval(errors, np.asarray(groups, dtype=object)[used].tolist())
    return numbers | {"age_mae": float(errors.mean())} | ({"age_mae_interval": interval} if interval else {})
