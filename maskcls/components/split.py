"""Cross-validation splits: by person, or by image as in the published recipes, which leak people.

A builder receives the training rows, the number of folds and the run's seed. `split.seed` replaces the run's seed, so
that runs with different seeds share folds, and can be blended and compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from maskcls.core.errors import ConfigError
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt, Proportion
from maskcls.core.table import group_axes, value_indices
from maskcls.core.task import IntArray, Task

registry = Registry("split")
Seed = NonNegativeInt | None  # null: the run's seed


@registry.register
def by_person(table: pd.DataFrame, folds: int, run_seed: int, task: Task, *, seed: Seed = None) -> pd.Series:
    """Return folds of people stratified on their attributes, such as gender × age; a person is in one fold.

    Args:
        seed: seed of the folds; null: the seed of the run
    """
    persons = person_strata(table, task)
    numbers = stratified_folds(persons["stratum"].to_numpy(), folds, run_seed if seed is None else seed, "people")
    return table["person"].map(dict(zip(persons.index, numbers, strict=True)))


@registry.register
def stratified_label(table: pd.DataFrame, folds: int, run_seed: int, task: Task, *, seed: Seed = None) -> pd.Series:
    """Return folds of images stratified on the classes, as published: people are in both training and validation.

    Args:
        seed: seed of the folds; null: the seed of the run
    """
    return image_folds(table, sort_rows(table, task)["label"], folds, run_seed if seed is None else seed)


@registry.register
def stratified_age(table: pd.DataFrame, folds: int, run_seed: int, task: Task, *, seed: Seed = None) -> pd.Series:
    """Return folds of images stratified on the age class, as published: people are in both training and validation.

    Args:
        seed: seed of the folds; null: the seed of the run
    """
    rows = sort_rows(table, task)
    ages = pd.Series(value_indices(rows, task)[:, task.axis("age")], rows.index)
    return image_folds(table, ages, folds, run_seed if seed is None else seed)


@registry.register
def holdout(
    table: pd.DataFrame, folds: int, run_seed: int, task: Task, *, share: Proportion = 0.2, seed: NonNegativeInt = 0
) -> pd.Series:
    """Return one fold, 0, with a fraction of the people, stratified by attributes; −1 marks those only trained on.

    The validation people depend on the data and `seed`, not on the run's seed, so that runs with different seeds are
    comparable.

    Args:
        share: fraction of the people in the validation set
        seed: seed of the choice of people
    """
    persons = person_strata(table, task)
    val_indices = draw_holdout(persons["stratum"].to_numpy(), share, seed, "people")
    return table["person"].map(dict.fromkeys(persons.index[val_indices], 0)).fillna(-1).astype(int)


@registry.register
def holdout_images(
    table: pd.DataFrame, folds: int, run_seed: int, task: Task, *, share: Proportion = 0.2, seed: NonNegativeInt = 0
) -> pd.Series:
    """Return one fold, 0, with a fraction of the images, as the competition's baseline; −1 marks those only trained on.

    People are in both training and validation. The images are stratified on the classes.

    Args:
        share: fraction of the images in the validation set
        seed: seed of the choice of images
    """
    labels = sort_rows(table, task)["label"]
    val_rows = labels.index[draw_holdout(labels.to_numpy(), share, seed, "images")]
    return pd.Series(np.where(table.index.isin(val_rows), 0, -1), table.index)


@registry.task_check(stratified_age)
def check_age(task: Task, **_: object) -> None:
    """Raise ConfigError for a task without the attribute age."""
    if "age" not in task.names:
        raise ConfigError("split=stratified_age needs an attribute age. Set split=by_person or split=stratified_label")


IMAGE_LEVEL_SPLITS = (stratified_label, stratified_age, holdout_images)


def draw_holdout(strata: IntArray, share: float, seed: int, unit: str) -> IntArray:
    """Return the positions of a fraction of the rows, stratified where the strata are large enough."""
    num_val = round(share * len(strata))
    if not 0 < num_val < len(strata):
        raise ConfigError(
            f"split.share={share} selects {num_val} of {len(strata)} {unit} for validation. "
            f"Both sides need at least one {'person' if unit == 'people' else 'image'}"
        )
    counts = np.bincount(strata)
    strata = np.where(counts[strata] < 2, counts.argmax(), strata)  # a stratum of one row cannot be split
    if min(num_val, len(strata) - num_val) < len(np.unique(strata)):
        strata = np.zeros_like(strata)  # too few rows for one of each stratum on each side
    splitter = StratifiedShuffleSplit(1, test_size=num_val, random_state=seed)
    val_indices: IntArray = next(splitter.split(strata, strata))[1]
    return val_indices


def image_folds(table: pd.DataFrame, strata: pd.Series, folds: int, seed: int) -> pd.Series:
    """Return folds of images, given the stratum of each row of the sorted table, in the order of the table."""
    return pd.Series(stratified_folds(strata.to_numpy(), folds, seed, "images"), strata.index).loc[table.index]


def sort_rows(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return rows sorted by person, first attribute and id, the order of the competition's layout.

    scikit-learn assigns folds by position, so folds must not depend on the order of the input.
    """
    return table.sort_values(["person", task.attributes[0].source, "id"], kind="stable")


def person_strata(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return one row per person with its stratum, the combination of its own attributes, sorted by person."""
    rows = sort_rows(table, task)
    indices = value_indices(rows, task)
    axes = list(group_axes(indices, rows["person"].tolist(), task))
    shape = [task.shape[axis] + 1 for axis in axes]
    stratum = np.ravel_multi_index(indices[:, axes].T + 1, shape) if axes else np.zeros(len(rows), np.int64)
    return rows.assign(stratum=stratum).groupby("person", sort=False)[["stratum"]].first()


def stratified_folds(strata: IntArray, folds: int, seed: int, unit: str) -> IntArray:
    """Return the fold of each row, 0 … folds − 1, with proportions of the strata as equal as possible."""
    if len(strata) < folds:
        raise ConfigError(f"folds={folds} exceeds the {len(strata)} {unit} in the training data")
    numbers = np.full(len(strata), -1, np.int64)
    common = np.bincount(strata)[strata] >= folds
    strata = np.where(common, strata, strata.max() + 1)  # strata with fewer rows than folds are merged
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for k, (_, val_indices) in enumerate(iterate_folds(strata, folds, seed)):
            numbers[val_indices] = k
    return numbers


def iterate_folds(strata: IntArray, folds: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Return scikit-learn's stratified folds, unstratified if no stratum is large enough."""
    if np.bincount(strata).max() < folds:
        strata = np.zeros_like(strata)
    splits: Iterator[tuple[IntArray, IntArray]] = StratifiedKFold(folds, shuffle=True, random_state=seed).split(
        strata, strata
    )
    return splits
