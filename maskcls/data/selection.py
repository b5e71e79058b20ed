"""The rows of a source that a run is about: put in order, mended, then chosen by people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from maskcls.components import labels, split
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component


def prepared(cfg: Config, table: pd.DataFrame, note: Callable[[str], None]) -> pd.DataFrame:
    """Return the rows of a source that a run is about: training rows in an order of their own, mended, then chosen."""
    train = table["part"] == "train"
    table = table.loc[[*split.in_order(table[train]).index, *table.index[~train]]].reset_index(drop=True)
    tier = cfg.labels.params["patches"] if cfg.labels.builder is labels.plain else "none"
    table = labels.apply_patches(table, tier, note)  # before people are chosen: it knows the competition by its people
    if cfg.exam is not None and (unused := int((~train).sum())):
        note(f"exam: the data's own {unused} evaluation photos are not used")
    return select_people(table, cfg.people, cfg.exam)


def after_patches(word: Component) -> Component:
    """Return a word of labels without the patches that `prepared` has applied."""
    return replace(word, params={**word.params, "patches": "none"}) if word.builder is labels.plain else word


def select_people(table: pd.DataFrame, people: int | None, exam: float | None) -> pd.DataFrame:
    """Return the rows of `people` of the training people, a share `exam` of them as evaluation rows.

    Who is chosen depends on nothing but the data: neither seed nor folds. More people hold the fewer.
    """
    if people is None and exam is None:
        return table
    train = table["part"] == "train"
    order = stratified_order(table[train], 0)
    if people is not None and people > len(order):
        raise ConfigError(f"people: {people} are asked for and the data has {len(order)}")
    kept = order[:people]
    table = table[~train | table["person"].isin(kept)]
    if exam is not None:
        table = table[table["part"] == "train"]
        held = stratified_order(table, 1)[: round(exam * len(kept))]
        if not held:
            raise ConfigError(f"exam: a share of {exam} of {len(kept)} people is nobody")
        table = table.assign(part=np.where(table["person"].isin(held), "eval", "train"))
    return table.reset_index(drop=True)


def stratified_order(table: pd.DataFrame, seed: int) -> list[str]:
    """Return the people in a random order of which any beginning has the shares of gender × age."""
    persons = split.people(table).sort_index()
    shuffled = persons.iloc[np.random.default_rng(seed).permutation(len(persons))]
    groups = shuffled.groupby("stratum")["stratum"]
    place = (groups.cumcount() + 0.5) / groups.transform("size")
    return place.sort_values(kind="stable").index.tolist()
