"""Errors by attribute and by age."""

from __future__ import annotations

import numpy as np
import pandas as pd

from maskcls.core.task import ATTRIBUTES, decode


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
