"""Corrections of label errors: the tiers for the competition's data, and lists in a CSV, as of `maskcls audit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_reader import MAX_AGE, Row, parse_decision, raise_errors, read_rows
from maskcls.core.errors import DataError, and_others, unknown_message
from maskcls.core.table import PATCH_COLUMNS, Note
from maskcls.core.task import ATTRIBUTES, bin_age, decode, encode

TIERS = ("none", "core", "extended")
PATCHES = Path(__file__).parent / "patches.csv"


def check_patches(value: str) -> str:
    """Return a tier, or the path of a CSV of patches; ValueError for others and for an invalid row."""
    if value in TIERS:
        return value
    if not value.endswith(".csv"):
        raise ValueError(unknown_message("value", value, TIERS))
    try:
        read_patches(value)
    except DataError as error:
        raise ValueError("; ".join(error.messages[:3])) from None
    return value


def apply_patches(table: pd.DataFrame, tier: str, note: Note) -> pd.DataFrame:
    """Return the table with the patches of a tier applied, and note their number; applying them twice has no effect.

    A patch selects rows by the id at the start of the folder's name and by the image, and sets a field to its new value
    if it has the expected old value. Data without the competition's people are not changed. The column trained is
    added, or kept if it exists (NaN, in rows appended later, becomes True).
    """
    not_trained = table["trained"].eq(False) if "trained" in table else pd.Series(False, table.index)
    table = table.assign(trained=~not_trained)
    if tier == "none":
        return table
    rules = read_patches(tier)
    before = table[["mask", "gender", "age", "trained"]]
    targets = PatchTargets.of(table)
    absent = targets.find_absent(rules, tier)
    if not absent or tier not in TIERS:
        if tier not in TIERS:
            targets.check_clear(rules, tier)
        for rule in rules.itertuples():
            apply_patch(table, targets.find(rule), rule)
        relabel(table)
    changed = int((table[before.columns].fillna(-1) != before.fillna(-1)).any(axis=1).sum())
    source, why = (f"tier {tier}", "They are for the competition's data, and this") if tier in TIERS else (tier, "This")
    reason = f". {why} data lacks {and_others(absent)}" if absent else ""
    note(f"labels: {changed} images were changed by the {len(rules)} patches of {source}{reason}")
    return table


@dataclass(frozen=True)
class PatchTargets:
    """The names by which patches select rows, NaN outside the training rows."""

    person: pd.Series[str]
    prefix: pd.Series[str]  # the id at the start of the person's name
    image: pd.Series[str]  # id of the image
    stem: pd.Series[str]

    @classmethod
    def of(cls, table: pd.DataFrame) -> PatchTargets:
        """Return the names of the rows of a table."""
        person = table["person"].where(table["part"] == "train")
        stem = table["id"].str.rpartition("/")[2].str.rpartition(".")[0]
        return cls(person, person.str.partition("_")[0], table["id"], stem)

    def find(self, rule: Any) -> pd.Series[bool]:
        """Return the mask of the rows that a patch names; a whole name goes before the same start of other names."""
        rows = self.person == rule.person
        if not rows.any():
            rows = self.prefix == rule.person
        if not rule.photo:
            return rows
        is_image = rows & (self.image == rule.photo)
        return is_image if is_image.any() else rows & (self.stem == rule.photo)

    def find_absent(self, rules: pd.DataFrame, tier: str) -> list[str]:
        """Return the people of patches that the training rows lack."""
        return sorted(required_people(rules, tier) - set(self.prefix) - set(self.person))

    def check_clear(self, rules: pd.DataFrame, source: str) -> None:
        """Raise DataError for a patch that names several people or, with a photo, several images."""
        errors = []
        for rule in rules.drop_duplicates(["person", "photo"]).itertuples():
            rows = self.find(rule)
            if len(people := sorted(self.person[rows].unique())) > 1:
                errors.append(f"{source}: person {rule.person!r} is {and_others(people)}. Write the whole name")
            elif rule.photo and len(images := sorted(self.image[rows])) > 1:
                what = f"photo {rule.photo!r} of person {rule.person!r}"
                errors.append(f"{source}: {what} is {and_others(images)}. Write the image's id")
        raise_errors(errors)


def applied_patches(table: pd.DataFrame, tier: str) -> pd.DataFrame:
    """Return the patches of a tier or CSV that the labels of a table have: all but those that would change it."""
    rules, targets = read_patches(tier), PatchTargets.of(table)
    if tier in TIERS and targets.find_absent(rules, tier):
        return rules.iloc[:0]
    is_applied = [not find_changes(table, targets.find(rule), rule).any() for rule in rules.itertuples()]
    return rules[np.array(is_applied, bool)]


def required_people(rules: pd.DataFrame, tier: str) -> set[str]:
    """Return the people by whom the competition's data is known; of a file all of its people."""
    return set(rules.loc[(rules["tier"] == "core") | (tier not in TIERS), "person"])


def read_patches(tier: str) -> pd.DataFrame:
    """Return the patches up to a tier, or those of a CSV without the rows of the decision "refused".

    A CSV has the columns person, photo ("" for all images of the person), field, old and new, as `patches.csv`.
    Raise DataError for a row with an unknown field, value or decision.
    """
    if tier in TIERS:
        rules = pd.read_csv(PATCHES, dtype=str, keep_default_na=False)
        return rules[rules["tier"].map(TIERS.index) <= TIERS.index(tier)]
    optional = ("tier", "source", "decision")
    rows = read_rows(Path(tier), PATCH_COLUMNS[1:-1], optional=optional, ignored=("probability",))
    errors: list[str] = []
    for row in rows:
        check_patch(row, errors)
    accepted = [row.cells for row in rows if parse_decision(row, errors) != "refused"]
    raise_errors(errors)
    cells = [{name: row.get(name, "") for name in PATCH_COLUMNS} for row in accepted]
    return pd.DataFrame(cells, columns=PATCH_COLUMNS, dtype=str)


def check_patch(row: Row, errors: list[str]) -> None:
    """Add a message to `errors` for a field or a value of a patch that does not exist."""
    where, cells = row
    values: dict[str, tuple[str, ...]] = {**ATTRIBUTES, "trained": ("true", "false")}
    field = cells["field"]
    if not cells["person"]:
        errors.append(f"{where}: no person")
    if field not in values:
        errors.append(f"{where}: {unknown_message('field', field, values)}")
        return
    is_years = field == "age" and cells["new"].isdecimal() and int(cells["new"]) <= MAX_AGE
    for name in ("old", "new"):
        if name == "new" and field == "age":
            if not is_years:
                errors.append(f"{where}: new must be an age from 0 to {MAX_AGE} years, got {cells['new']!r}")
        elif cells[name] not in values[field]:
            errors.append(f"{where}: {unknown_message(f'value of {name}', cells[name], values[field])}")


def apply_patch(table: pd.DataFrame, rows: pd.Series, rule: Any) -> None:
    """Set a field of some rows to the patch's new value where it has the old value."""
    if rule.field == "trained":
        table.loc[rows, "trained"] = rule.new == "true"
    else:
        new = float(rule.new) if rule.field == "age" else ATTRIBUTES[rule.field].index(rule.new)
        table.loc[find_changes(table, rows, rule), rule.field] = new


def find_changes(table: pd.DataFrame, rows: pd.Series, rule: Any) -> pd.Series[bool]:
    """Return the mask of the rows whose mask, gender or age a patch changes: they have its old value, not the new."""
    if rule.field == "trained":
        return rows & False
    values = ATTRIBUTES[rule.field]
    if rule.field == "age":
        return rows & (age_classes(table) == values.index(rule.old)) & (table["age"] != float(rule.new))
    return rows & (table[rule.field] == values.index(rule.old)) & (rule.old != rule.new)


def age_classes(table: pd.DataFrame) -> np.ndarray:
    """Return the age class of each row: of its age in years, else that of its label."""
    return np.where(table["age"].notna(), bin_age(table["age"].fillna(0)), decode(table["label"].clip(0))[2])


def relabel(table: pd.DataFrame) -> None:
    """Recompute the class of labelled rows from mask, gender and age; without an age in years the age class stays."""
    label = encode(table["mask"], table["gender"], age_classes(table))
    table["label"] = np.where(table["label"] >= 0, label, table["label"])
