"""Label errors planted at random: wrong values of groups, and swapped values of two images of a group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import Attribute, Task
from maskcls.evaluation.number_errors import number_step

MIN_STEPS = 10  # between the old and the planted number: a smaller difference is a matter of opinion
PLANTED_COLUMNS = ["kind", "person", "id"]
Columns = dict[str, npt.NDArray[np.generic]]  # of an attribute: class and, if it is made of a number, number
Rows = npt.NDArray[np.intp]
Plant = Callable[[Rows], Rows | None]  # changes the rows of a group


def count_errors(table: pd.DataFrame, share: float, task: Task) -> dict[str, int]:
    """Return the number of groups to get an error of each kind, a share of all groups, at least one."""
    return dict.fromkeys(task.names, max(1, round(share * table["person"].nunique())))


def plant_errors(
    table: pd.DataFrame, counts: Mapping[str, int], rng: np.random.Generator, group_names: Collection[str], task: Task
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a copy of labelled rows with planted errors, and the list of them.

    A wrong value of a group, or its number, is one in all of its images; a swap exchanges the values of two images.
    A planted number has another class and differs by MIN_STEPS or more; where numbers are unknown the class changes.

    Args:
        table: rows with the columns id, person, label, and of each attribute its value's index, or number (or NaN)
        counts: number of groups with an error of each attribute; fewer where there are too few
        rng: source of randomness
        group_names: attributes that belong to the group
        task: the attributes

    Returns:
        the copy, and rows of kind, person and id (of each image of a swap; "" for the value of a group)
    """
    table = table.copy()
    groups = {str(person): np.asarray(rows) for person, rows in table.groupby("person").indices.items()}
    parts = {attribute.name: read_columns(table, attribute, task) for attribute in task}
    planted: list[tuple[str, str, str]] = []
    for attribute in task:
        kind, columns, of_group = attribute.name, parts[attribute.name], attribute.name in group_names
        plant = find_plant(columns, attribute, of_group, rng)
        remaining = counts.get(kind, 0)
        for person in rng.permutation(sorted(groups)) if remaining else ():
            if (rows := plant(groups[person])) is not None:
                planted += [(kind, person, name) for name in ([""] if of_group else table["id"].iloc[rows])]
                remaining -= 1
            if not remaining:
                break
        table[attribute.source] = columns["number" if attribute.is_number else "class"]
    table["label"] = task.encode(*(columns["class"] for columns in parts.values()))
    return table, pd.DataFrame(planted, columns=PLANTED_COLUMNS)


def read_columns(table: pd.DataFrame, attribute: Attribute, task: Task) -> Columns:
    """Return the classes of an attribute and its numbers, if it is made of a number."""
    own = table[attribute.source].to_numpy(copy=True)
    classes = task.decode(table["label"].to_numpy())[task.axis(attribute.name)].copy()
    return {"class": classes, "number": own} if attribute.is_number else {"class": own}


def find_plant(columns: Columns, attribute: Attribute, of_group: bool, rng: np.random.Generator) -> Plant:
    """Return the function that plants an error of an attribute in the rows of a group."""
    if not of_group:
        return partial(swap_values, columns, rng)
    if attribute.is_number:
        return partial(change_number, columns, MIN_STEPS * number_step(columns["number"], attribute), rng)
    return partial(change_value, columns, len(attribute.values), rng)


def swap_values(columns: Columns, rng: np.random.Generator, rows: Rows) -> Rows | None:
    """Exchange the values of two images of a group and return their rows, None if all values are equal."""
    own = columns["class"]
    classes = np.unique(own[rows])
    if len(classes) < 2:
        return None
    pair = np.array([rng.choice(rows[own[rows] == value]) for value in rng.choice(classes, 2, replace=False)])
    for column in columns.values():
        column[pair] = column[pair[::-1]]
    return pair


def change_value(columns: Columns, num_values: int, rng: np.random.Generator, rows: Rows) -> Rows:
    """Give a group another value, one that other groups have if there is any, and return the rows."""
    own = columns["class"]
    existing, others = np.unique(own[own != own[rows[0]]]), np.arange(num_values)
    columns["class"][rows] = rng.choice(existing if len(existing) else others[others != own[rows[0]]])
    return rows


def change_number(columns: Columns, least: float, rng: np.random.Generator, rows: Rows) -> Rows | None:
    """Give a group the number of another class and return the rows, None if no other number differs enough."""
    numbers, classes = columns["number"].astype(float), columns["class"]
    differs = classes != classes[rows[0]]
    if not np.isnan(numbers[rows[0]]):
        differs &= ~(np.abs(numbers - numbers[rows[0]]) < least) & ~np.isnan(numbers)
    values = np.unique(classes[differs])
    if not len(values):
        return None
    donor = rng.choice(np.flatnonzero(differs & (classes == rng.choice(values))))
    columns["number"][rows], classes[rows] = columns["number"][donor], classes[donor]
    return rows
