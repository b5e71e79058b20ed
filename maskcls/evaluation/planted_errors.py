"""Label errors planted at random: wrong genders and ages of people, and swapped masks of a person's images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import ATTRIBUTES, decode, encode

MIN_YEARS = 10  # between the old and the planted age: a smaller difference is a matter of opinion
PLANTED_COLUMNS = ["kind", "person", "id"]


def count_errors(table: pd.DataFrame, share: float) -> dict[str, int]:
    """Return the number of people to get an error of each kind, a share of all people, at least one."""
    return dict.fromkeys(ATTRIBUTES, max(1, round(share * table["person"].nunique())))


def plant_errors(
    table: pd.DataFrame, counts: Mapping[str, int], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a copy of labelled rows with planted errors, and the list of them.

    A wrong gender or age is one of the person, in all images; a swap exchanges the masks of two images of a person.
    A planted age has another class and differs by MIN_YEARS or more; where ages are unknown the class changes.

    Args:
        table: rows with the columns id, person, mask, gender, age (years, or NaN) and label
        counts: number of people with an error of each kind, mask, gender and age; fewer where there are too few
        rng: source of randomness

    Returns:
        the copy, and rows of kind, person and id (of each image of a swap; "" for a person's gender and age)
    """
    table = table.copy()
    groups = {str(person): np.asarray(rows) for person, rows in table.groupby("person").indices.items()}
    columns = {name: table[name].to_numpy(copy=True) for name in ("mask", "gender", "age")}
    columns["class"] = decode(table["label"].to_numpy())[2]
    planted: list[tuple[str, str, str]] = []
    for kind, plant in (("mask", swap_masks), ("gender", flip_gender), ("age", change_age)):
        remaining = counts.get(kind, 0)
        for person in rng.permutation(sorted(groups)) if remaining else ():
            if (rows := plant(columns, groups[person], rng)) is not None:
                planted += [(kind, person, name) for name in (table["id"].iloc[rows] if kind == "mask" else [""])]
                remaining -= 1
            if not remaining:
                break
    table["label"] = encode(columns["mask"], columns["gender"], columns.pop("class"))
    return table.assign(**columns), pd.DataFrame(planted, columns=PLANTED_COLUMNS)


Columns = dict[str, npt.NDArray[np.generic]]
Rows = npt.NDArray[np.intp]


def swap_masks(columns: Columns, rows: Rows, rng: np.random.Generator) -> Rows | None:
    """Exchange the masks of two images of a person and return their rows, None if all masks are equal."""
    mask = columns["mask"]
    classes = np.unique(mask[rows])
    if len(classes) < 2:
        return None
    pair = np.array([rng.choice(rows[mask[rows] == value]) for value in rng.choice(classes, 2, replace=False)])
    mask[pair] = mask[pair[::-1]]
    return pair


def flip_gender(columns: Columns, rows: Rows, rng: np.random.Generator) -> Rows:
    """Change a person's gender and return the rows."""
    columns["gender"][rows] = 1 - columns["gender"][rows[0]]
    return rows


def change_age(columns: Columns, rows: Rows, rng: np.random.Generator) -> Rows | None:
    """Give a person the age of somebody in another class and return the rows, None if nobody differs enough."""
    age, classes = columns["age"].astype(float), columns["class"]
    differs = classes != classes[rows[0]]
    if not np.isnan(age[rows[0]]):
        differs &= ~(np.abs(age - age[rows[0]]) < MIN_YEARS) & ~np.isnan(age)
    values = np.unique(classes[differs])
    if not len(values):
        return None
    donor = rng.choice(np.flatnonzero(differs & (classes == rng.choice(values))))
    columns["age"][rows], classes[rows] = columns["age"][donor], classes[donor]
    return rows
