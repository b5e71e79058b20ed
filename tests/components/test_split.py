"""Splits: no person in both training and validation, equal strata, notes on leaking splits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcls.components import head, sampler, split
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.registry import Component
from maskcls.core.table import (
    count_split_people,
    describe_table,
    eval_indices,
    num_folds,
    table_digest,
    train_indices,
    val_indices,
)
from maskcls.data import assemble
from maskcls.data.assemble import assemble_table, fit_batch_size, with_content

HEADS = {
    "single": Component("head", "single", {}, head.single, task=MASK18),
    "triple": Component("head", "triple", {"mask": 1.0, "gender": 1.0, "age": 1.0}, head.triple, task=MASK18),
}
BY_IMAGE = (split.stratified_label, split.stratified_age)


def persons(people: list[tuple[int, int, int]]) -> pd.DataFrame:
    """Return a table of people given as (gender, age class, photos); of seven photos five wear the mask well."""
    masks = [0, 0, 0, 0, 0, 1, 2]
    lines = [(f"p{i}", masks[j % 7], gender, age) for i, (gender, age, n) in enumerate(people) for j in range(n)]
    table = pd.DataFrame(lines, columns=["person", "mask", "gender", "band"])
    table["label"] = MASK18.encode(table["mask"], table["gender"], table["band"])
    table["age"] = table["band"].map({0: 20.0, 1: 40.0, 2: 60.0})
    table["id"] = table["path"] = [f"{row.person}/{i}" for i, row in enumerate(table.itertuples())]
    return table.assign(part="train")[["id", "path", "person", "mask", "gender", "age", "label", "part"]]


def some(count: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    people = zip(random.integers(0, 2, count), random.choice(3, count, p=[0.45, 0.45, 0.1]), [7] * count, strict=True)
    return persons([(int(g), int(a), n) for g, a, n in people]).sample(frac=1, random_state=seed)


PERSON = st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(1, 8))


@settings(max_examples=40, deadline=None)
@given(st.lists(PERSON, min_size=2, max_size=30), st.integers(2, 6), st.integers(0, 5))
def test_by_person_never_splits_a_person_and_gives_each_row_one_fold(people: list[Any], folds: int, seed: int) -> None:
    table = persons(people).sample(frac=1, random_state=seed)
    if len(people) < folds:
        with pytest.raises(ConfigError):
            split.by_person(table, folds, seed, task=MASK18)
        return
    numbers = split.by_person(table, folds, seed, task=MASK18)
    assert numbers.index.equals(table.index)
    assert sorted(numbers.unique()) == list(range(folds))
    assert (numbers.groupby(table["person"]).nunique() == 1).all()
    sizes = numbers.groupby(table["person"]).first().value_counts()
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 17)), min_size=12, max_size=60), st.integers(0, 3))
def test_by_person_holds_where_labels_of_a_person_disagree(pairs: list[tuple[int, int]], seed: int) -> None:
    table = pd.DataFrame({"person": [f"p{i % 6}" for i, _ in pairs], "label": [label for _, label in pairs]})
    table = table.assign(mask=MASK18.decode(table["label"])[0], id=[f"{i}" for i in range(len(table))])
    folds = min(2, table["person"].nunique())
    if folds == 2:
        numbers = split.by_person(table, folds, seed, task=MASK18)
        assert (numbers.groupby(table["person"]).nunique() == 1).all()


def test_strata_of_people_are_balanced() -> None:
    table = some(200)
    first = table.assign(fold=split.by_person(table, 5, 0, task=MASK18)).groupby("person").first()
    gender, age = MASK18.decode(first["label"])[1:]
    counts = pd.crosstab(gender * 3 + age, first["fold"])
    large = counts.sum(axis=1) >= 5
    assert large.sum() >= 5 and (counts.max(axis=1) - counts.min(axis=1))[large].max() <= 1


def test_people_too_rare_for_each_fold_are_spread_together() -> None:
    table = persons([(0, 0, 7)] * 20 + [(1, 2, 7)] * 2 + [(0, 2, 7)] * 3)
    first = table.assign(fold=split.by_person(table, 5, 0, task=MASK18)).groupby("person", sort=False).first()
    assert first["fold"].iloc[-5:].value_counts().tolist() == [1] * 5


@pytest.mark.parametrize("build", [split.by_person, *BY_IMAGE])
def test_folds_depend_on_the_seed_alone(build: Any) -> None:
    table = some(30)
    assert build(table, 5, 3, task=MASK18).equals(build(table, 5, 3, task=MASK18))
    assert not build(table, 5, 3, task=MASK18).equals(build(table, 5, 4, task=MASK18))


@pytest.mark.parametrize("build", [split.by_person, *BY_IMAGE, split.holdout, split.holdout_images])
def test_a_seed_of_the_split_replaces_the_runs(build: Any) -> None:
    table = some(30)
    assert build(table, 5, 7, seed=3, task=MASK18).equals(build(table, 5, 8, seed=3, task=MASK18))
    assert not build(table, 5, 7, seed=3, task=MASK18).equals(build(table, 5, 7, seed=4, task=MASK18))
    assert build(table, 5, 7, seed=0, task=MASK18).equals(build(table, 5, 0, task=MASK18))  # by default the run's seed; 0 for holdout


@pytest.mark.parametrize("build", BY_IMAGE)
def test_image_level_folds_hold_each_row_once_and_leak(build: Any) -> None:
    table = some(40)
    numbers = build(table, 5, 0, task=MASK18)
    assert numbers.index.equals(table.index) and set(numbers) == set(range(5))
    assert (numbers.groupby(table["person"]).nunique() > 1).mean() > 0.9
    key = table["label"] if build is split.stratified_label else pd.Series(MASK18.decode(table["label"])[2], table.index)
    counts = pd.crosstab(key, numbers)
    large = counts.sum(axis=1) >= 5
    assert (counts.max(axis=1) - counts.min(axis=1))[large].max() <= 1


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_holdout_of_images_takes_its_share_of_each_class_and_leaks(share: float) -> None:
    table = some(60).sample(frac=1, random_state=0)
    numbers = split.holdout_images(table, 5, 0, share=share, task=MASK18)
    assert numbers.index.equals(table.index) and set(numbers) == {-1, 0}
    assert (numbers == 0).sum() == round(share * len(table))
    counts = pd.crosstab(table["label"], numbers)
    assert ((counts[0] - share * counts.sum(axis=1)).abs() < 1).all()
    assert (numbers.groupby(table["person"]).nunique() > 1).mean() > 0.4
    by_id = pd.Series(numbers.to_numpy(), table["id"]).sort_index()
    other = some(60)
    again = split.holdout_images(other, 5, 7, share=share, task=MASK18)
    assert by_id.equals(pd.Series(again.to_numpy(), other["id"]).sort_index()), "the order of rows and the run's seed do not matter"


def test_more_folds_than_people_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="folds=5 exceeds the 4 people in the training data"):
        split.by_person(persons([(0, 0, 7)] * 4), 5, 0, task=MASK18)
    with pytest.raises(ConfigError, match="folds=5 exceeds the 4 images in the training data"):
        split.stratified_label(persons([(0, 0, 4)]), 5, 0, task=MASK18)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_holdout_holds_out_its_share_of_whole_people(share: float) -> None:
    table = some(100)
    numbers = split.holdout(table, 5, 0, share=share, task=MASK18)
    per_person = numbers.groupby(table["person"])
    assert numbers.index.equals(table.index) and set(numbers) == {0, -1} and (per_person.nunique() == 1).all()
    assert (per_person.first() == 0).sum() == round(100 * share)
    first = table.assign(fold=numbers).groupby("person").first()
    held = pd.crosstab(first["gender"], first["fold"], normalize="columns")
    assert abs(held[0][0] - held[-1][0]) < 0.1


@pytest.mark.parametrize("rare", [1, 2])
def test_holdout_manages_with_a_rare_person(rare: int) -> None:
    table = persons([(0, 0, 7)] * 10 + [(1, 1, 7)] * 10 + [(0, 2, 7), (1, 2, 7)][:rare])
    numbers = split.holdout(table, 5, 0, share=0.2, task=MASK18)
    assert (numbers == 0).sum() in (28, 35) and (numbers.groupby(table["person"]).nunique() == 1).all()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.95])
def test_a_holdout_that_cannot_be_made_is_a_config_error(share: float) -> None:
    with pytest.raises(ConfigError, match=r"selects [08] of 8 people for validation"):
        split.holdout(persons([(0, 0, 7)] * 4 + [(1, 1, 7)] * 4), 5, 0, share=share, task=MASK18)
    with pytest.raises(ConfigError, match="Both sides need at least one image"):
        split.holdout_images(persons([(0, 0, 2)]), 5, 0, share=share / 4, task=MASK18)


@pytest.fixture(scope="module")
def base() -> Config:
    return validate(compose("name=t", "model=timm", "model.arch=test_resnet", "batch_size=4"))


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows here speak of no files on disk."""
    monkeypatch.setattr(assemble, "drop_unreadable", lambda cfg, table, note: table)


def config(base: Config, table: pd.DataFrame, build: Any = split.by_person, **values: Any) -> Config:
    word = Component("split", build.__name__, values.pop("params", {}), build, task=MASK18)
    return dataclasses.replace(
        base, data=Component("data", "mine", {}, lambda note: table.copy(), task=MASK18), split=word, **values
    )


def with_others(table: pd.DataFrame) -> pd.DataFrame:
    extra = persons([(1, 2, 3)] * 4).assign(part="extra")
    extra["person"] = "extra " + extra["person"]
    labelled = persons([(0, 1, 2)]).assign(part="eval", person="seen")
    unknown = persons([(0, 1, 2)]).assign(part="eval", person="unseen", label=-1, mask=-1, gender=-1, age=np.nan)
    return pd.concat([table, extra, labelled, unknown], ignore_index=True)


@pytest.mark.parametrize("build", [split.by_person, split.holdout])
def test_no_person_is_trained_on_and_scored(base: Config, build: Any) -> None:
    told: list[str] = []
    table = assemble_table(config(base, some(30).reset_index(drop=True), build), told.append)
    assert not told and count_split_people(table) == 0
    assert num_folds(table) == (5 if build is split.by_person else 1)
    seen = np.zeros(len(table), int)
    for k in range(num_folds(table)):
        train, scored = train_indices(table, k), val_indices(table, k)
        assert len(train) and len(scored) and not set(train) & set(scored)
        assert not set(table["person"].iloc[train]) & set(table["person"].iloc[scored])
        assert len(train) + len(scored) == len(table)
        seen[scored] += 1
    assert seen.max() == 1 and seen.sum() == (table["fold"] >= 0).sum() == table["scored"].sum()
    if build is split.by_person:
        assert (seen == 1).all()


@pytest.mark.parametrize("build", [split.by_person, split.stratified_label])
def test_runs_of_different_seeds_share_people_folds_and_evaluation_people(base: Config, build: Any) -> None:
    def assembled(run_seed: int, **params: int) -> pd.DataFrame:
        cfg = config(base, some(40), build, seed=run_seed, people=25, eval_fraction=0.2, params=params)
        return assemble_table(cfg, lambda note: None)

    shared = assembled(0, seed=3)
    assert shared.equals(assembled(1, seed=3)) and shared["person"].nunique() == 25
    assert shared.loc[shared["part"] == "eval", "person"].nunique() == 5
    own = assembled(1)  # the folds differ, the people do not
    assert not own["fold"].equals(shared["fold"]) and own.drop(columns="fold").equals(shared.drop(columns="fold"))


def test_extra_rows_are_trained_on_and_never_scored_and_evaluation_is_neither(base: Config) -> None:
    table = assemble_table(config(base, with_others(some(20))), lambda note: None)
    extra, rest = np.flatnonzero(table["part"] == "extra"), np.flatnonzero(table["part"] == "eval")
    assert (table["fold"].iloc[[*extra, *rest]] == -1).all() and not table["scored"].iloc[extra].any()
    for k in range(5):
        assert set(extra) <= set(train_indices(table, k)) and not set(rest) & set(train_indices(table, k))
        assert not {*extra, *rest} & set(val_indices(table, k))
    assert eval_indices(table).tolist() == rest.tolist()
    assert table["scored"].iloc[rest].tolist() == [True, True, False, False]


@pytest.mark.parametrize("build", BY_IMAGE)
def test_a_leaking_split_is_noted(base: Config, build: Any) -> None:
    told: list[str] = []
    table = assemble_table(config(base, some(20), build), told.append)
    assert len(told) == 1 and told[0].startswith(
        f"LEAK: split={build.__name__} puts {count_split_people(table)} people"
    )
    assert count_split_people(table) > 0


def test_a_split_that_leaks_unawares_stops_the_run(base: Config) -> None:
    def mine(table: pd.DataFrame, folds: int, seed: int) -> pd.Series:
        return pd.Series(np.arange(len(table)) % folds, table.index)

    with pytest.raises(DataError, match="split=mine: 20 people are in both training and validation"):
        assemble_table(config(base, some(20), mine), lambda note: None)


def test_a_training_photo_without_a_label_stops_the_run(base: Config) -> None:
    table = some(20)
    table.loc[3, "label"] = -1
    table.loc[3, ["mask", "gender"]], table.loc[3, "age"] = -1, np.nan
    with pytest.raises(DataError, match="1 training images have no label"):
        assemble_table(config(base, table, head=HEADS["triple"]), lambda note: None)


def test_a_training_photo_that_lacks_one_label_is_noted_and_not_scored_as_a_class(base: Config) -> None:
    table, told = some(20).reset_index(drop=True), list[str]()
    table.loc[3, ["label", "gender"]] = -1
    with pytest.raises(ConfigError, match="head=single: 1 training images lack the label of an attribute"):
        assemble_table(config(base, table, head=HEADS["single"]), lambda note: None)
    made = assemble_table(config(base, table, head=HEADS["triple"]), told.append)
    assert told[0] == "1 of 140 training images have no gender: they are trained on and scored by the other attributes"
    (row,) = np.flatnonzero(made["id"] == table.loc[3, "id"])
    assert np.flatnonzero(made["partial"]).tolist() == np.flatnonzero(~made["scored"]).tolist() == [row]
    assert made["trained"].all() and sum(row in val_indices(made, k) for k in range(5)) == 1


def test_a_batch_larger_than_a_fold_is_a_config_error(base: Config) -> None:
    with pytest.raises(ConfigError, match="batch_size=113 exceeds the 112 training images of fold 0"):
        assemble_table(config(base, some(20), batch_size=113), lambda note: None)
    assert len(assemble_table(config(base, some(20), batch_size=112), lambda note: None)) == 140


def test_a_usual_batch_is_lowered_to_a_small_fold_with_a_note(base: Config) -> None:
    told: list[str] = []
    cfg = config(base, some(5), batch_size=32)
    table = assemble_table(cfg, told.append)
    assert told[-1] == "batch_size=32 was lowered to 28: a fold has only 28 training images"
    assert fit_batch_size(table, cfg) == 28 and fit_batch_size(table, dataclasses.replace(cfg, batch_size=8)) == 8
    by_person = dataclasses.replace(cfg.sampler, name="person", params={"images": 8}, builder=sampler.person)
    assert fit_batch_size(table, dataclasses.replace(cfg, sampler=by_person)) == 24
    by_person = dataclasses.replace(by_person, params={"images": 32})
    with pytest.raises(ConfigError, match="batch_size=32 exceeds the 28 training images"):
        fit_batch_size(table, dataclasses.replace(cfg, sampler=by_person))
    with pytest.raises(ConfigError, match="grad_accum_steps=2 exceeds the 1 batches"):
        assemble_table(dataclasses.replace(cfg, grad_accum_steps=2), told.append)


def on_disk(base: Config, folder: Path) -> pd.DataFrame:
    table = assemble_table(config(base, some(10)), lambda note: None)
    table["path"] = [str(folder / f"{i}.jpg") for i in range(len(table))]
    folder.mkdir()
    for i, path in enumerate(table["path"]):
        Path(path).write_bytes(b"x" * (i + 1))
    return table


def test_the_digest_is_of_rows_and_contents_and_not_of_the_folder(base: Config, tmp_path: Path) -> None:
    base = dataclasses.replace(base, cache_dir=str(tmp_path / "cache"))
    here, there = (with_content(on_disk(base, tmp_path / name), base) for name in "ab")
    mine = table_digest(here, task=MASK18)
    assert len(mine) == 8 and table_digest(there, task=MASK18) == mine
    other = here.copy()
    other.loc[0, "label"] += 1
    assert table_digest(other, task=MASK18) != mine
    assert table_digest(here.assign(fold=here["fold"].iloc[::-1].to_numpy()), task=MASK18) != mine
    assert table_digest(here.iloc[1:], task=MASK18) != mine
    for column in ("trained", "age0"):
        assert table_digest(here.assign(**{column: 1 - here[column]}), task=MASK18) != mine
    Path(here["path"].iloc[3]).write_bytes(b"y" * Path(here["path"].iloc[3]).stat().st_size)
    assert table_digest(with_content(here, base), task=MASK18) != mine


def test_the_summary_counts(base: Config) -> None:
    table = assemble_table(config(base, with_others(persons([(0, 0, 7)] * 10))), lambda note: None)
    assert describe_table(table, task=MASK18) == (
        "70 images of 10 people in 5 folds, 3 of 18 classes; evaluation set: 4 images, 2 with labels"
    )
