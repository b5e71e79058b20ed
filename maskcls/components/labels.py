"""What the labels of training photos are taken to be; the labels that photos are scored on move only with a patch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.core.errors import and_others
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.table import AGE_COLUMNS
from maskcls.core.task import AGE_THRESHOLDS, AGES, ATTRIBUTES, bin_age, decode, encode

registry = Registry("labels")
Note = Callable[[str], None]
TIERS = ("none", "core", "extended")
PATCHES = Path(__file__).parent / "patches.csv"


def check_age_ranges(values: list[list[int]]) -> list[list[int]]:
    """Return pairs of ages, the younger one first."""
    for value in values:
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"{value} is no pair of ages in years, the younger one first")
    return values


@registry.register
def plain(
    table: pd.DataFrame, note: Note, *, patches: Literal["none", "core", "extended"] = "none",
    border: Annotated[int, Field(gt=AGE_THRESHOLDS[0])] = AGE_THRESHOLDS[1], soft: NonNegativeFloat = 0.0,
    drop: Annotated[list[list[int]], AfterValidator(check_age_ranges)] = [],
) -> pd.DataFrame:  # fmt: skip
    """Return the table with mended labels, and with what training takes them to be.

    `patches` mends known label errors of the competition's set, up to a tier. `border` is the age in years from which
    training counts a person to the oldest class, `soft` the width in years over which an age class fades into the next
    one, `drop` pairs of ages (both included) that are not trained on. Added columns: age0, age1, age2 (the age class as
    a distribution), age_class (the one class that training counts the row to: samplers and mixing choose by it) and
    trained. Scoring knows the borders 30 and 60 alone.
    """
    table = apply_patches(table, patches, note)
    table["trained"] &= table["part"] != "eval"
    years, known = table["age"].to_numpy(float), table["age"].notna().to_numpy()
    borders = (AGE_THRESHOLDS[0], border)
    hard = np.where(known, bin_age(np.nan_to_num(years), borders), decode(table["label"].clip(0))[2])
    ages = np.eye(len(AGES))[hard]
    if soft:
        open_ended = find_open_ended(table, border)
        faded = known & ~open_ended
        ages[faded] = soft_age_bins(years[faded], borders, soft)
        note_open_ended(years[open_ended], note)
    table[AGE_COLUMNS], table["age_class"] = ages.astype(np.float32), hard
    for low, high in drop:
        dropped = (years >= low) & (years <= high)
        table["trained"] &= ~dropped
        if not dropped.any():
            note(f"labels.drop: no photo is of an age from {low} to {high}")
    if (drop or soft or border != AGE_THRESHOLDS[1]) and (unknown := int((table["trained"] & ~known).sum())):
        note(f"labels: {unknown} training photos have no age in years, so border, soft and drop do not change them")
    return table


def soft_age_bins(years: np.ndarray, borders: tuple[int, ...], soft: float) -> np.ndarray:
    """Return (N, 3) distributions over age classes that fade into each other over `soft` years.

    Ages are whole years, so that 59.5 lies between the last age of a class, 59, and the first of the next one, 60:
    there the two are half and half, and at each whole age the larger share is that of the age's own class.
    """
    above = [np.clip(years - (border - 0.5), -soft / 2, soft / 2) / soft + 0.5 for border in borders]
    return np.stack([1 - above[0], above[0] - above[1], above[1]], 1).clip(0)


def find_open_ended(table: pd.DataFrame, border: int) -> np.ndarray:
    """Return a mask of the rows whose age stands for itself and all above it: it does not fade into the class below.

    The competition's people of 60 and more all have the age 60. So an age is taken as open-ended where it is a source's
    oldest (extra photos are a source of their own) and begins the oldest class, in scoring or in training.
    """
    oldest = table.groupby(table["part"] == "extra")["age"].transform("max")
    begins = table["age"].isin([AGE_THRESHOLDS[1], border]) & (table["age"] >= border)
    return ((table["age"] == oldest) & begins).to_numpy()


def note_open_ended(years: np.ndarray, note: Note) -> None:
    """Say how many photos have an age that is taken as open-ended."""
    for age in np.unique(years):
        photos = np.sum(years == age)
        note(f"labels: nobody is older than {age:g}: {photos} photos of that age count as {age:g} or more")


def apply_patches(table: pd.DataFrame, tier: str, note: Note) -> pd.DataFrame:
    """Return the table with the patches of a tier applied and counted; what is mended already stays as it is.

    A patch knows its rows by the id that begins the folder's name and by the photo, and sets a field to its new value
    where it has the expected old one. In a set without the competition's people nothing is changed. The column trained
    is added; where it is there already, it stays (NaN of rows that came later is True).
    """
    left_out = table["trained"].eq(False) if "trained" in table else pd.Series(False, table.index)
    table = table.assign(trained=~left_out)
    if tier == "none":
        return table
    rules = pd.read_csv(PATCHES, dtype=str, keep_default_na=False)
    rules = rules[rules["tier"].map(TIERS.index) <= TIERS.index(tier)]
    before = table[["mask", "gender", "age", "trained"]]
    person = table["person"].str.partition("_")[0].where(table["part"] == "train")
    absent = sorted(set(rules.loc[rules["tier"] == "core", "person"]) - set(person))
    if not absent:
        photo = table["id"].str.rpartition("/")[2].str.rpartition(".")[0]
        for rule in rules.itertuples():
            apply_patch(table, (person == rule.person) & (photo == rule.photo if rule.photo else True), rule)
        relabel(table)
    changed = int((table[before.columns].fillna(-1) != before.fillna(-1)).any(axis=1).sum())
    why = f". They are for the competition's data, and this data lacks {and_others(absent)}" if absent else ""
    note(f"labels: {changed} photos were mended by the {len(rules)} patches of tier {tier}{why}")
    return table


def apply_patch(table: pd.DataFrame, rows: pd.Series, rule: Any) -> None:
    """Set a field of some rows to a patch's new value where it has the patch's old one."""
    if rule.field == "age":
        table.loc[rows & (bin_age(table["age"].fillna(0)) == AGES.index(rule.old)), "age"] = float(rule.new)
    elif rule.field == "trained":
        table.loc[rows, "trained"] = rule.new == "true"
    else:
        words = ATTRIBUTES[rule.field]
        table.loc[rows & (table[rule.field] == words.index(rule.old)), rule.field] = words.index(rule.new)


def relabel(table: pd.DataFrame) -> None:
    """Give labelled rows the class of their mask, gender and age; without an age in years its class stays."""
    label = table["label"].clip(0)
    ages = np.where(table["age"].notna(), bin_age(table["age"].fillna(0)), decode(label)[2])
    table["label"] = np.where(table["label"] >= 0, encode(table["mask"], table["gender"], ages), table["label"])
