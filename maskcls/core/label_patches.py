"""Corrections of label errors: the tiers for the competition's data, and lists in a CSV, as of `maskcls audit`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.competition import check_attributes
from maskcls.core.csv_cells import describe_numbers, parse_number
from maskcls.core.csv_reader import Row, parse_decision, raise_errors, read_rows
from maskcls.core.errors import DataError, and_others, unknown_message
from maskcls.core.table import PATCH_COLUMNS, Note, column_indices, value_indices
from maskcls.core.task import IntArray, Task

TIERS = ("none", "core", "extended")
PATCHES = Path(__file__).parent / "patches.csv"


def check_patches(value: str, task: Task) -> str:
    """Return a tier, or the path of a CSV of patches; ValueError for others and for an invalid row.

    ConfigError for a tier of the competition and a task of other attributes.
    """
    if value in TIERS:
        if value != TIERS[0]:
            check_attributes(task, f"labels.patches={value}")
        return value
    if not value.endswith(".csv"):
        raise ValueError(unknown_message("value", value, TIERS))
    try:
        read_patches(value, task)
    except DataError as error:
        raise ValueError("; ".join(error.messages[:3])) from None
    return value


def apply_patches(table: pd.DataFrame, tier: str, note: Note, task: Task) -> pd.DataFrame:
    """Return the table with the patches of a tier applied, and note their number; applying them twice has no effect.

    A patch selects rows by the id at the start of the folder's name and by the image, and sets a field to its new value
    if it has the expected old value. Data without the competition's people are not changed. The column trained is
    added, or kept if it exists (NaN, in rows appended later, becomes True).
    """
    not_trained = table["trained"].eq(False) if "trained" in table else pd.Series(False, table.index)
    table = table.assign(trained=~not_trained)
    if tier == "none":
        return table
    rules = read_patches(tier, task)
    before = table[[*(attribute.source for attribute in task), "trained"]]
    targets = PatchTargets.of(table)
    absent = targets.find_absent(rules, tier)
    if not absent or tier not in TIERS:
        if tier not in TIERS:
            targets.check_clear(rules, tier)
        for rule in rules.itertuples():
            apply_patch(table, targets.find(rule), rule, task)
        relabel(table, task)
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


def applied_patches(table: pd.DataFrame, tier: str, task: Task) -> pd.DataFrame:
    """Return the patches of a tier or CSV that the labels of a table have: all but those that would change it."""
    rules, targets = read_patches(tier, task), PatchTargets.of(table)
    if tier in TIERS and targets.find_absent(rules, tier):
        return rules.iloc[:0]
    is_applied = [not find_changes(table, targets.find(rule), rule, task).any() for rule in rules.itertuples()]
    return rules[np.array(is_applied, bool)]


def required_people(rules: pd.DataFrame, tier: str) -> set[str]:
    """Return the people by whom the competition's data is known; of a file all of its people."""
    return set(rules.loc[(rules["tier"] == "core") | (tier not in TIERS), "person"])


def read_patches(tier: str, task: Task) -> pd.DataFrame:
    """Return the patches up to a tier that are about the task, or those of a CSV without the decision "refused".

    A CSV has the columns person, photo ("" for all images of the person), field, old and new, as `patches.csv`.
    Raise DataError for a row with an unknown field, value or decision.
    """
    if tier in TIERS:
        rules = pd.read_csv(PATCHES, dtype=str, keep_default_na=False)
        is_about_task = rules["field"].isin([*task.names, "trained"])
        return rules[is_about_task & (rules["tier"].map(TIERS.index) <= TIERS.index(tier))]
    optional = ("tier", "source", "decision")
    rows = read_rows(Path(tier), PATCH_COLUMNS[1:-1], optional=optional, ignored=("probability",))
    errors: list[str] = []
    for row in rows:
        check_patch(row, errors, task)
    accepted = [row.cells for row in rows if parse_decision(row, errors) != "refused"]
    raise_errors(errors)
    cells = [{name: row.get(name, "") for name in PATCH_COLUMNS} for row in accepted]
    return pd.DataFrame(cells, columns=PATCH_COLUMNS, dtype=str)


def check_patch(row: Row, errors: list[str], task: Task) -> None:
    """Add a message to `errors` for a field or a value of a patch that does not exist."""
    where, cells = row
    values: dict[str, tuple[str, ...]] = {**task.values, "trained": ("true", "false")}
    field = cells["field"]
    if not cells["person"]:
        errors.append(f"{where}: no person")
    if field not in values:
        errors.append(f"{where}: {unknown_message('field', field, values)}")
        return
    for name in ("old", "new"):
        if name == "new" and field in task.names and task[field].is_number:
            if parse_number(cells["new"], task[field]) is None:
                errors.append(f"{where}: new {describe_numbers(task[field])}, got {cells['new']!r}")
        elif cells[name] not in values[field]:
            errors.append(f"{where}: {unknown_message(f'value of {name}', cells[name], values[field])}")


def apply_patch(table: pd.DataFrame, rows: pd.Series, rule: Any, task: Task) -> None:
    """Set a field of some rows to the patch's new value where it has the old value."""
    if rule.field == "trained":
        table.loc[rows, "trained"] = rule.new == "true"
    else:
        attribute = task[rule.field]
        new = float(rule.new) if attribute.is_number else attribute.values.index(rule.new)
        table.loc[find_changes(table, rows, rule, task), attribute.source] = new


def find_changes(table: pd.DataFrame, rows: pd.Series, rule: Any, task: Task) -> pd.Series[bool]:
    """Return the mask of the rows whose attribute a patch changes: they have its old value, not the new."""
    if rule.field == "trained":
        return rows & False
    attribute = task[rule.field]
    old = attribute.values.index(rule.old)
    if attribute.is_number:
        return rows & (current_indices(table, task)[:, task.axis(rule.field)] == old) & (
            table[attribute.source] != float(rule.new)
        )
    return rows & (table[attribute.source] == old) & (rule.old != rule.new)


def current_indices(table: pd.DataFrame, task: Task) -> IntArray:
    """Return the index of each attribute's value, (N, A): of its column, else that of the label."""
    indices = column_indices(table, task)
    return np.where(indices >= 0, indices, value_indices(table, task))


def relabel(table: pd.DataFrame, task: Task) -> None:
    """Recompute the class of labelled rows from the attributes; without a number the class of the number stays."""
    label = task.encode(*current_indices(table, task).clip(0).T)
    table["label"] = np.where(table["label"] >= 0, label, table["label"])
