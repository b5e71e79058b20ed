"""Training labels: patches of known label errors, soft age classes and dropped ages.

Only patches change the labels that images are scored on."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.core.label_patches import TIERS, apply_patches, check_patches, read_patches
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.table import AGE_COLUMNS, Note
from maskcls.core.task import AGE_THRESHOLDS, AGES, bin_age, decode

registry = Registry("labels")


def check_age_ranges(values: list[list[int]]) -> list[list[int]]:
    """Return [youngest, oldest] pairs of ages."""
    for value in values:
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"expected [youngest, oldest] in years, got {value}")
    return values


@registry.register
def plain(
    table: pd.DataFrame, note: Note, *, patches: Annotated[str, AfterValidator(check_patches)] = "none",
    border: Annotated[int, Field(gt=AGE_THRESHOLDS[0])] = AGE_THRESHOLDS[1], soft: NonNegativeFloat = 0.0,
    drop: Annotated[list[list[int]], AfterValidator(check_age_ranges)] = [],
) -> pd.DataFrame:  # fmt: skip
    """Return the table with patched labels and training targets.

    Added columns: age0, age1, age2 (the age class as a distribution), age_class (the hard label for samplers and
    mixing) and trained. Scoring always uses the age thresholds 30 and 60.

    Args:
        patches: none; core or extended, for the competition's data; or a list of label errors (maskcls audit), a .csv
        border: lowest age in years of the oldest class, in training only
        soft: width in years of the transition between age classes; 0: hard classes
        drop: list of [lowest, highest] ages in years that are not trained on
    """
    table = apply_patches(table, patches, note)
    table["trained"] &= table["part"] != "eval"
    years, has_age = table["age"].to_numpy(float), table["age"].notna().to_numpy()
    borders = (AGE_THRESHOLDS[0], border)
    hard = np.where(has_age, bin_age(np.nan_to_num(years), borders), decode(table["label"].clip(0))[2])
    ages = np.eye(len(AGES))[hard]
    if soft:
        open_ended = find_open_ended(table, border)
        is_soft = has_age & ~open_ended
        ages[is_soft] = soft_age_bins(years[is_soft], borders, soft)
        note_open_ended(years[open_ended], note)
    table[AGE_COLUMNS], table["age_class"] = ages.astype(np.float32), hard
    for low, high in drop:
        dropped = (years >= low) & (years <= high)
        table["trained"] &= ~dropped
        if not dropped.any():
            note(f"labels.drop: no image has an age from {low} to {high}")
    if (drop or soft or border != AGE_THRESHOLDS[1]) and (num_without := int((table["trained"] & ~has_age).sum())):
        note(f"labels: border, soft and drop do not apply to {num_without} training images without an age in years")
    return table


@registry.identity(plain)
def plain_content(*, patches: str, **params: Any) -> dict[str, Any]:
    """Return the parameters, with the rows of a CSV of patches in place of its path."""
    rows = patches if patches in TIERS else read_patches(patches).drop(columns=["tier", "source"]).to_numpy().tolist()
    return {"patches": rows, **params}


def soft_age_bins(years: np.ndarray, borders: tuple[int, ...], soft: float) -> np.ndarray:
    """Return (N, 3) distributions over age classes with a linear transition over `soft` years.

    Ages are whole years, so the transition is centered at 59.5, between 59 and 60. At each whole age the class of that
    age has the largest probability.
    """
    above = [np.clip(years - (border - 0.5), -soft / 2, soft / 2) / soft + 0.5 for border in borders]
    return np.stack([1 - above[0], above[0] - above[1], above[1]], 1).clip(0)


def find_open_ended(table: pd.DataFrame, border: int) -> np.ndarray:
    """Return a mask of the rows whose age means "this age or older", which soft labels do not change.

    The competition gives everyone of 60 or more the age 60. An age is open-ended if it is the maximum of its source
    (extra images are a separate source) and the lower bound of the oldest class, in scoring or in training.
    """
    oldest = table.groupby(is_from_extra(table))["age"].transform("max")
    is_bound = table["age"].isin([AGE_THRESHOLDS[1], border]) & (table["age"] >= border)
    return ((table["age"] == oldest) & is_bound).to_numpy()


def is_from_extra(table: pd.DataFrame) -> pd.Series[bool]:
    """Return the mask of extra images; one with a drawn mask (overlay/<source>/<version>) is what its source is."""
    is_extra = table["part"] == "extra"
    is_drawn = is_extra & table["id"].str.startswith("overlay/")
    sources = table["id"].str.removeprefix("overlay/").str.rpartition("/")[0]
    return sources.isin(table.loc[is_extra & ~is_drawn, "id"]).where(is_drawn, is_extra)


def note_open_ended(years: np.ndarray, note: Note) -> None:
    """Note the number of images with an open-ended age."""
    for age in np.unique(years):
        num_images = np.sum(years == age)
        note(f"labels: {age:g} is the maximum age, so {num_images} images of that age count as {age:g} or older")
