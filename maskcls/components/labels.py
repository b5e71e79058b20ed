"""Training labels: patches of known label errors; soft classes and dropped ranges of a number, such as age.

Only patches change the labels that images are scored on."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.core.errors import ConfigError
from maskcls.core.label_patches import TIERS, apply_patches, check_patches, read_patches
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.table import Note, value_indices
from maskcls.core.task import Attribute, IntArray, Task

registry = Registry("labels")


def check_ranges(values: list[list[int]]) -> list[list[int]]:
    """Return [lowest, highest] pairs of numbers."""
    for value in values:
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"expected [lowest, highest], got {value}")
    return values


@registry.register
def plain(
    table: pd.DataFrame, note: Note, task: Task, *, patches: str = "none", border: int | float | None = None,
    soft: NonNegativeFloat = 0.0, drop: Annotated[list[list[int]], AfterValidator(check_ranges)] = [],
) -> pd.DataFrame:  # fmt: skip
    """Return the table with patched labels and training targets.

    Added columns: trained, and for an attribute of a number, such as age, the class as a distribution (age0, age1, …)
    and the hard label for samplers and mixing (age_class). Scoring always uses the task's borders.

    Args:
        patches: none; core or extended, for the competition's data; or a list of label errors (maskcls audit), a .csv
        border: lowest number of the last class, such as an age in years, in training only; null: that of the task
        soft: width of the transition between the classes of a number; 0: hard classes
        drop: list of [lowest, highest] numbers, such as ages in years, that are not trained on
    """
    table = apply_patches(table, patches, note, task)
    table["trained"] &= table["part"] != "eval"
    indices = value_indices(table, task)
    for axis, attribute in enumerate(task):
        if attribute.is_number:
            add_number_targets(table, attribute, indices[:, axis], train_borders(attribute, border), soft, note)
    if task.number:
        drop_numbers(table, task.number, drop, note)
        has_number = table[task.number.source].notna().to_numpy()
        is_changed = drop or soft or border not in (None, task.number.borders[-1])
        if is_changed and (num_without := int((table["trained"] & ~has_number).sum())):
            name, unit = task.number.source, f" in {task.number.unit}" if task.number.unit != task.number.source else ""
            what = f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}{unit}"
            note(f"labels: border, soft and drop do not apply to {num_without} training images without {what}")
    return table


def train_borders(attribute: Attribute, border: float | None) -> tuple[float, ...]:
    """Return the borders of an attribute in training; `border` replaces the last one."""
    return attribute.train_borders if border is None else (*attribute.train_borders[:-1], border)


def add_number_targets(
    table: pd.DataFrame, attribute: Attribute, indices: IntArray, borders: tuple[float, ...], soft: float, note: Note
) -> None:
    """Add the columns with the distribution over the classes of a number, and with its hard class in training.

    `indices` (N,) are the classes for scoring, of images without a number; −1 without a label.
    """
    values, has_number = table[attribute.source].to_numpy(float), table[attribute.source].notna().to_numpy()
    hard = np.where(has_number, attribute.bin(np.nan_to_num(values), borders), indices.clip(0))
    shares = np.eye(len(attribute.values))[hard]
    if soft:
        open_ended = find_open_ended(table, attribute, borders[-1])
        is_soft = has_number & ~open_ended
        shares[is_soft] = soften_classes(values[is_soft], borders, soft)
        note_open_ended(values[open_ended], attribute, note)
    table[attribute.soft_columns], table[attribute.class_column] = shares.astype(np.float32), hard


def drop_numbers(table: pd.DataFrame, attribute: Attribute, drop: list[list[int]], note: Note) -> None:
    """Mark rows with a number in one of the ranges as not trained on."""
    values = table[attribute.source].to_numpy(float)
    for low, high in drop:
        dropped = (values >= low) & (values <= high)
        table["trained"] &= ~dropped
        if not dropped.any():
            note(f"labels.drop: no image has an {attribute.source} from {low} to {high}")


@registry.identity(plain)
def plain_content(task: Task, *, patches: str, **params: Any) -> dict[str, Any]:
    """Return the parameters, with the rows of a CSV of patches in place of its path."""
    if patches in TIERS:
        return {"patches": patches, **params}
    rows = read_patches(patches, task).drop(columns=["tier", "source"]).to_numpy().tolist()
    return {"patches": rows, **params}


@registry.task_check(plain)
def check_labels(task: Task, *, patches: str, border: float | None, soft: float, drop: list[list[int]]) -> None:
    """Raise ConfigError for patches, and options about a number, that do not fit the task."""
    try:
        check_patches(patches, task)
    except ValueError as error:
        raise ConfigError(f"labels.patches (plain): {error}") from None
    given = [name for name, value in (("border", border), ("soft", soft), ("drop", drop)) if value]
    if given and task.number is None:
        raise ConfigError(f"labels.{given[0]} needs one attribute of a number, as {{column: days, borders: [10]}}")
    if task.number is None:
        return
    borders = train_borders(task.number, border)
    if len(borders) > 1 and not borders[-1] > borders[-2]:
        raise ConfigError(f"labels.border (plain) must be > {borders[-2]:g}, got {border}")
    gaps = [high - low for low, high in itertools.pairwise(borders)]
    if gaps and soft > min(gaps):
        low, name = borders[int(np.argmin(gaps))], task.number.name
        what = f"the {' '.join(filter(None, [f'{min(gaps):g}', task.number.unit]))} between the {name} thresholds"
        raise ConfigError(f"labels.soft={soft} exceeds {what} {low:g} and {low + min(gaps):g}")


def soften_classes(values: np.ndarray, borders: tuple[float, ...], soft: float) -> np.ndarray:
    """Return (N, classes) distributions over the classes of numbers with a linear transition of width `soft`.

    Numbers count as whole ones, so the transition is centered at 59.5, between 59 and 60. At each whole number its
    class has the largest probability.
    """
    above = [np.clip(values - (border - 0.5), -soft / 2, soft / 2) / soft + 0.5 for border in borders]
    between = [low - high for low, high in itertools.pairwise(above)]
    return np.stack([1 - above[0], *between, above[-1]], 1).clip(0)


def find_open_ended(table: pd.DataFrame, attribute: Attribute, border: float) -> np.ndarray:
    """Return a mask of the rows whose number means "this or more", which soft labels do not change.

    The competition gives everyone of 60 or more the age 60. A number is open-ended if it is the maximum of its source
    (extra images are a separate source) and the lower bound of the last class, in scoring or in training.
    """
    column = attribute.source
    largest = table.groupby(is_from_extra(table))[column].transform("max")
    is_bound = table[column].isin([attribute.borders[-1], border]) & (table[column] >= border)
    return ((table[column] == largest) & is_bound).to_numpy()


def is_from_extra(table: pd.DataFrame) -> pd.Series[bool]:
    """Return the mask of extra images; one with a drawn mask (overlay/<source>/<version>) is what its source is."""
    is_extra = table["part"] == "extra"
    is_drawn = is_extra & table["id"].str.startswith("overlay/")
    sources = table["id"].str.removeprefix("overlay/").str.rpartition("/")[0]
    return sources.isin(table.loc[is_extra & ~is_drawn, "id"]).where(is_drawn, is_extra)


def note_open_ended(values: np.ndarray, attribute: Attribute, note: Note) -> None:
    """Note the number of images with an open-ended number."""
    for value in np.unique(values):
        name, images = attribute.source, f"{np.sum(values == value)} images"
        meaning = f"{value:g} or {attribute.more}"
        note(f"labels: {value:g} is the maximum {name}, so {images} of that {name} count as {meaning}")
