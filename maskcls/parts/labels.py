"""What the labels of training photos are taken to be; the labels that photos are scored on move only with a patch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.labels import AGES, ATTRIBUTES, BORDERS, band, decode, encode
from maskcls.registry import NonNegative, Registry

word = Registry("labels")
Note = Callable[[str], None]
TIERS = ("none", "core", "extended")
PATCHES = Path(__file__).parent / "patches.csv"
AGE_COLUMNS = [f"age{i}" for i in range(len(AGES))]


def spans(values: list[list[int]]) -> list[list[int]]:
    """Return pairs of ages, the younger one first."""
    for value in values:
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"{value} is no pair of ages in years, the younger one first")
    return values


@word
def plain(
    table: pd.DataFrame, note: Note, *, patches: Literal["none", "core", "extended"] = "none",
    border: Annotated[int, Field(gt=BORDERS[0])] = BORDERS[1], soft: NonNegative = 0.0,
    drop: Annotated[list[list[int]], AfterValidator(spans)] = [],
) -> pd.DataFrame:  # fmt: skip
    """Return the table with mended labels, and with what training takes them to be.

    `patches` mends known label errors of the competition's set, up to a tier. `border` is the age in years from which
    training counts a person to the oldest class, `soft` the width in years over which an age class fades into the next
    one, `drop` pairs of ages (both included) that are not trained on. Added columns: age0, age1, age2 (the age class as
    a distribution) and trained. Scoring knows the borders 30 and 60 alone.
    """
    table = patched(table, patches, note)
    years, known = table["age"].to_numpy(float), table["age"].notna().to_numpy()
    hard = np.eye(len(AGES))[decode(table["label"].clip(0))[2]]
    ages = np.where(known[:, None], shares(np.nan_to_num(years), (BORDERS[0], border), soft), hard)
    table[AGE_COLUMNS] = ages.astype(np.float32)
    for low, high in drop:
        table["trained"] &= ~((years >= low) & (years <= high))
    return table


def shares(years: np.ndarray, borders: tuple[int, ...], soft: float) -> np.ndarray:
    """Return (N, 3) distributions over age classes, half and half at a border, `soft` years wide; 0 is hard."""
    if not soft:
        return np.eye(len(AGES))[band(years, borders)]
    above = [np.clip((years - border) / soft + 0.5, 0, 1) for border in borders]
    return np.stack([1 - above[0], above[0] - above[1], above[1]], 1).clip(0)


def patched(table: pd.DataFrame, tier: str, note: Note) -> pd.DataFrame:
    """Return the table with the patches of a tier applied and counted; what is mended already stays as it is.

    A patch knows its rows by the id that begins the folder's name and by the photo, and sets a field to its new value
    where it has the expected old one. In a set without the competition's people nothing is changed.
    """
    table = table.assign(trained=(table["part"] != "eval"))
    if tier == "none":
        return table
    rules = pd.read_csv(PATCHES, dtype=str, keep_default_na=False)
    rules = rules[rules["tier"].map(TIERS.index) <= TIERS.index(tier)]
    before = table[["mask", "gender", "age", "trained"]]
    person = table["person"].str.partition("_")[0].where(table["part"] == "train")
    if set(rules.loc[rules["tier"] == "core", "person"]) <= set(person):
        photo = table["id"].str.rpartition("/")[2].str.rpartition(".")[0]
        for rule in rules.itertuples():
            mend(table, (person == rule.person) & (photo == rule.photo if rule.photo else True), rule)
        relabel(table)
    changed = int((table[before.columns].fillna(-1) != before.fillna(-1)).any(axis=1).sum())
    note(f"labels: {changed} photos were mended by the {len(rules)} patches of tier {tier}")
    return table


def mend(table: pd.DataFrame, rows: pd.Series, rule: Any) -> None:
    """Set a field of some rows to a patch's new value where it has the patch's old one."""
    if rule.field == "age":
        table.loc[rows & (band(table["age"].fillna(0)) == AGES.index(rule.old)), "age"] = float(rule.new)
    elif rule.field == "trained":
        table.loc[rows, "trained"] = rule.new == "true"
    else:
        words = ATTRIBUTES[rule.field]
        table.loc[rows & (table[rule.field] == words.index(rule.old)), rule.field] = words.index(rule.new)


def relabel(table: pd.DataFrame) -> None:
    """Give labelled rows the class of their mask, gender and age; without an age in years its class stays."""
    label = table["label"].clip(0)
    ages = np.where(table["age"].notna(), band(table["age"].fillna(0)), decode(label)[2])
    table["label"] = np.where(table["label"] >= 0, encode(table["mask"], table["gender"], ages), table["label"])
