"""Planted label errors: as many of each kind as asked for, in people, and never where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from audited_people import OF_GROUP, audited_people

from maskcls.core.competition import MASK18
from maskcls.evaluation.planted_errors import MIN_STEPS, count_errors, plant_errors

COUNTS = {"mask": 5, "gender": 4, "age": 6}


def changed(before: pd.DataFrame, after: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows of `after` whose value of a column has changed."""
    return after[before[column] != after[column]]


def test_each_kind_has_its_number_and_the_list_names_what_changed() -> None:
    truth, _ = audited_people(60)
    before = truth.copy()
    wrong, planted = plant_errors(truth, COUNTS, np.random.default_rng(0), OF_GROUP, MASK18)
    pd.testing.assert_frame_equal(truth, before)
    assert planted.groupby("kind")["person"].nunique().to_dict() == COUNTS
    assert set(changed(truth, wrong, "mask")["id"]) == set(planted.loc[planted["kind"] == "mask", "id"])
    for kind in ("gender", "age"):
        people = changed(truth, wrong, kind)["person"].value_counts()
        assert set(people.index) == set(planted.loc[planted["kind"] == kind, "person"]) and (people == 7).all()
    assert (wrong["label"] == MASK18.encode(wrong["mask"], wrong["gender"], MASK18["age"].bin(wrong["age"]))).all()


def test_a_swap_keeps_the_person_s_masks_and_an_age_is_of_another_class_and_far() -> None:
    truth, _ = audited_people(60)
    wrong, _ = plant_errors(truth, COUNTS, np.random.default_rng(1), OF_GROUP, MASK18)
    counts = [table.groupby(["person", "mask"]).size() for table in (truth, wrong)]
    pd.testing.assert_series_equal(*counts)
    rows = changed(truth, wrong, "age")
    assert (MASK18["age"].bin(rows["age"]) != MASK18["age"].bin(truth.loc[rows.index, "age"])).all()
    assert ((rows["age"] - truth.loc[rows.index, "age"]).abs() >= MIN_STEPS).all()


def test_the_seed_decides_and_nothing_else() -> None:
    truth, _ = audited_people(30)
    first, second, other = (plant_errors(truth, COUNTS, np.random.default_rng(seed), OF_GROUP, MASK18)[0] for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(first, second)
    assert not first.equals(other)


def test_without_ages_in_years_the_class_changes() -> None:
    truth, _ = audited_people(30)
    truth["age"] = np.nan
    wrong, planted = plant_errors(truth, {"age": 3}, np.random.default_rng(0), OF_GROUP, MASK18)
    assert set(changed(truth, wrong, "label")["person"]) == set(planted["person"]) and len(planted) == 3


@pytest.mark.parametrize("num", [1, 2])
def test_more_errors_than_people_are_as_many_as_there_can_be(num: int) -> None:
    truth, _ = audited_people(num)
    _, planted = plant_errors(truth, dict.fromkeys(COUNTS, 9), np.random.default_rng(0), OF_GROUP, MASK18)
    assert planted.groupby("kind")["person"].nunique()["gender"] == num
    assert count_errors(truth, 0.01, MASK18) == {"mask": 1, "gender": 1, "age": 1}
