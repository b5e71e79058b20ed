"""Selection of the rows of an experiment: sorted, patched, then limited to some people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from maskcls.components import labels, split
from maskcls.core import label_patches
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component
from maskcls.core.table import Note
from maskcls.core.task import Task


def prepare_rows(cfg: Config, table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """Return the rows of the experiment: training rows sorted (split.sort_rows), then patched and selected."""
    train, task = table["part"] == "train", cfg.task.build()
    table = table.loc[[*split.sort_rows(table[train], task).index, *table.index[~train]]].reset_index(drop=True)
    tier = cfg.labels.params["patches"] if cfg.labels.builder is labels.plain else "none"
    table = label_patches.apply_patches(table, tier, note, task)  # before selection: patches need all of the people
    if cfg.eval_fraction is not None and (unused := int((~train).sum())):
        note(f"eval_fraction: the data's own {unused} evaluation images are not used")
    return select_people(table, cfg.people, cfg.eval_fraction, task)


def without_patches(component: Component) -> Component:
    """Return a labels component without the patches that `prepare_rows` has applied."""
    if component.builder is not labels.plain:
        return component
    return replace(component, params={**component.params, "patches": "none"})


def select_people(
    table: pd.DataFrame, people: int | None, eval_fraction: float | None, task: Task
) -> pd.DataFrame:
    """Return the rows of `people` training people, a fraction `eval_fraction` of them as evaluation rows.

    The selection depends only on the data, not on seed, split.seed or folds: runs of any seeds have the same people. A
    larger number of people includes a smaller one.
    """
    if people is None and eval_fraction is None:
        return table
    train = table["part"] == "train"
    person_ids = stratified_order(table[train], 0, task)
    if people is not None and people > len(person_ids):
        raise ConfigError(f"people={people} exceeds the {len(person_ids)} people in the data")
    selected = person_ids[:people]
    table = table[~train | table["person"].isin(selected)]
    if eval_fraction is not None:
        table = table[table["part"] == "train"]
        eval_people = stratified_order(table, 1, task)[: round(eval_fraction * len(selected))]
        if not eval_people:
            raise ConfigError(
                f"eval_fraction={eval_fraction} of {len(selected)} people selects none. Use a larger eval_fraction"
            )
        table = table.assign(part=np.where(table["person"].isin(eval_people), "eval", "train"))
    return table.reset_index(drop=True)


def stratified_order(table: pd.DataFrame, seed: int, task: Task) -> list[str]:
    """Return the people in a random order whose every prefix has about the same proportions of their attributes."""
    persons = split.person_strata(table, task).sort_index()
    shuffled = persons.iloc[np.random.default_rng(seed).permutation(len(persons))]
    groups = shuffled.groupby("stratum")["stratum"]
    rank = (groups.cumcount() + 0.5) / groups.transform("size")
    return rank.sort_values(kind="stable").index.tolist()
