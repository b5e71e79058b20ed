"""Training labels: patches of known label errors, soft age classes and dropped ages.

Only patches change the labels that images are scored on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.core.csv_reader import MAX_AGE, Row, parse_decision, raise_errors, read_rows
from maskcls.core.errors import DataError, and_others, unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.table import AGE_COLUMNS, PATCH_COLUMNS, Note
from maskcls.core.task import AGE_THRESHOLDS, AGES, ATTRIBUTES, bin_age, decode, encode

registry = Registry("labels")
TIERS = ("none", "core", "extended")
PATCHES = Path(__file__).parent / "patches.csv"


def check_age_ranges(values: list[list[int]]) -> list[list[int]]:
    """Return [youngest, oldest] pairs of ages."""
    for value in values:
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"expected [youngest, oldest] in years, got {value}")
    return values


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
