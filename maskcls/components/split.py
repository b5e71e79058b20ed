"""Folds: which photos a model is scored on; by person unless a published, leaking split is asked for."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from maskcls.core.errors import ConfigError
from maskcls.core.registry import Registry
from maskcls.core.schema import Proportion
from maskcls.core.task import IntArray, decode

registry = Registry("split")


@registry.register
def by_person(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Return folds stratified on gender × age over people, so that a person's photos stay together."""
    persons = people(table)
    numbers = stratified_folds(persons["stratum"].to_numpy(), folds, seed, "people")
    return table["person"].map(dict(zip(persons.index, numbers, strict=True)))


@registry.register
def stratified_label(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Return folds stratified on the 18 classes over photos, as published: a person stands on both sides."""
    rows = in_order(table)
    return pd.Series(stratified_folds(rows["label"].to_numpy(), folds, seed, "photos"), rows.index).loc[table.index]


@registry.register
def stratified_age(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
    """Return folds stratified on the age class over photos, as published: a person stands on both sides."""
    rows = in_order(table)
    return pd.Series(stratified_folds(decode(rows["label"])[2], folds, seed, "photos"), rows.index).loc[table.index]


@registry.register
def holdout(table: pd.DataFrame, folds: int, seed: int, *, share: Proportion = 0.2) -> pd.Series:
    """Return one fold, 0, of a share of the people, stratified on gender × age; the others, −1, are trained on.

    Who is held out depends on the people alone and not on the seed: the scores of several seeds are of the same photos.
    """
    persons = people(table)
    strata, held = persons["stratum"].to_numpy(), round(share * len(persons))
    if not 0 < held < len(persons):
        raise ConfigError(f"split holdout: a share of {share} holds out {held} of {len(persons)} people")
    counts = np.bincount(strata)
    strata = np.where(counts[strata] < 2, counts.argmax(), strata)  # one alone cannot stand on both sides
    if min(held, len(strata) - held) < len(np.unique(strata)):
        strata = np.zeros_like(strata)  # too few people to hold one of each stratum
    splitter = StratifiedShuffleSplit(1, test_size=held, random_state=0)
    _, rows = next(splitter.split(strata, strata))
    return table["person"].map(dict.fromkeys(persons.index[rows], 0)).fillna(-1).astype(int)


IMAGE_LEVEL_SPLITS = (stratified_label, stratified_age)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows by person, mask and id: an order that does not depend on the one in which they are given.

    It is the order of the competition's layout. scikit-learn deals folds by position.
    """
    return table.sort_values(["person", "mask", "id"], kind="stable")


def people(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each person with its stratum gender·3 + age class, sorted by person."""
    rows = in_order(table)
    _, gender, age = decode(rows["label"])
    return rows.assign(stratum=gender * 3 + age).groupby("person", sort=False)[["stratum"]].first()


def stratified_folds(strata: IntArray, folds: int, seed: int, what: str) -> IntArray:
    """Return each row's fold, 0 … folds − 1, with the shares of the strata as equal as can be."""
    if len(strata) < folds:
        raise ConfigError(f"folds: {folds} folds cannot be made of {len(strata)} {what}")
    numbers = np.full(len(strata), -1, np.int64)
    common = np.bincount(strata)[strata] >= folds
    strata = np.where(common, strata, strata.max() + 1)  # strata too rare to stand in each fold are spread together
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for k, (_, held) in enumerate(fold_rows(strata, folds, seed)):
            numbers[held] = k
    return numbers


def fold_rows(strata: IntArray, folds: int, seed: int):  # type: ignore[no-untyped-def]
    """Return scikit-learn's stratified folds; unstratified where no stratum is large enough."""
    if np.bincount(strata).max() < folds:
        strata = np.zeros_like(strata)
    return StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata)
