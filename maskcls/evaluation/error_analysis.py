"""Errors by attribute and by age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from maskcls.core.task import ATTRIBUTES, decode

if TYPE_CHECKING:
    pass


def count_wrong_attributes(held: pd.DataFrame) -> dict[str, int]:
    """Count the wrong photos by which attribute of the guessed class is wrong."""
    wrong = held[held["label"] != held["guess"]]
    differs = np.stack([a != b for a, b in zip(decode(wrong["label"]), decode(wrong["guess"]), strict=True)])  # (3, N)
    alone = differs.sum(0) == 1
    counts = {f"{name} only": int((row & alone).sum()) for name, row in zip(ATTRIBUTES, differs, strict=True)}
    return counts | {"several": int((~alone).sum())}


def error_by_age(held: pd.DataFrame) -> pd.DataFrame:
    """Return for each year of age its photos and the shares whose age class was guessed too young and too old."""
    known = held[held["years"].notna()]
    signs = {"young": known["age_guess"] < known["age_truth"], "old": known["age_guess"] > known["age_truth"]}
    frame = pd.DataFrame(signs | {"n": 1, "year": known["years"].astype(int)}, index=known.index)
    return frame.groupby("year").agg(young=("young", "mean"), old=("old", "mean"), n=("n", "sum"))
