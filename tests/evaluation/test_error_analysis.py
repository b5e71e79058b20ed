"""Errors by attribute and number, and the error of an expected number: whom it covers, and its interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_tasks import ONE, TASKS
from scipy.stats import t as student

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute
from maskcls.evaluation.error_analysis import (
    MAX_BARS,
    bar_width,
    count_wrong_attributes,
    error_by_number,
    number_error,
)
from maskcls.evaluation.intervals import MIN_PEOPLE, mean_interval


def test_only_images_of_known_age_count() -> None:
    truth, expected = np.array([20.0, 30.0, np.nan, 60.0]), np.array([22.0, 29.0, 40.0, 75.0])
    found = number_error(truth, expected, np.array([False, False, False, True]), ["a", "b", "c", "d"], "age")
    assert found == {"age_images": 2, "open_ended": 1, "age_mae": pytest.approx(1.5)}


def test_no_known_age_has_no_error() -> None:
    found = number_error(np.array([np.nan, 60.0]), np.array([20.0, 70.0]), np.array([False, True]), ["a", "b"], "age")
    assert found == {"age_images": 0, "open_ended": 1}


@pytest.mark.parametrize("num_people", [MIN_PEOPLE, 50])
def test_the_interval_is_that_of_leaving_out_each_person(num_people: int) -> None:
    random = np.random.default_rng(num_people)
    groups = [f"p{i}" for i in random.permutation(np.repeat(range(num_people), random.integers(1, 8, num_people)))]
    values = random.exponential(5, len(groups))
    left = [values[np.array(groups) != name].mean() for name in sorted(set(groups))]
    error = np.sqrt((num_people - 1) / num_people * np.sum((np.array(left) - np.mean(left)) ** 2))
    margin = student.ppf(0.975, num_people - 1) * error
    assert mean_interval(values, groups) == pytest.approx([values.mean() - margin, values.mean() + margin])
    truth = np.full(len(values), 20.0)
    found = number_error(truth, truth + values, np.zeros(len(values), bool), groups, "age")
    assert found["age_mae_interval"] == pytest.approx([values.mean() - margin, values.mean() + margin])


def test_few_people_have_no_interval() -> None:
    values = np.arange(float(MIN_PEOPLE - 1))
    assert mean_interval(values, [str(i) for i in range(MIN_PEOPLE - 1)]) is None
    found = number_error(values, values, np.zeros(len(values), bool), [str(i) for i in range(len(values))], "age")
    assert "age_mae_interval" not in found


def test_the_keys_have_the_name_of_the_attribute() -> None:
    found = number_error(np.array([3.0]), np.array([5.0]), np.array([False]), ["a"], "stage")
    assert found == {"stage_images": 1, "open_ended": 0, "stage_mae": 2.0}


def test_errors_are_counted_by_attribute() -> None:
    for task in TASKS.values():
        wrong = [tuple(int(axis == i) for i in range(len(task.names))) for axis in range(len(task.names))]
        values = [(0,) * len(task.names), *wrong, (1,) * len(task.names)]
        guess = task.encode(*zip(*values, strict=True))
        counts = count_wrong_attributes(pd.DataFrame({"label": 0 * guess, "guess": guess}), task)
        expected = {f"{name} only": 1 for name in task.names} | {"several": 1}
        assert counts == (expected if len(task.names) > 1 else {})
    assert list(count_wrong_attributes(pd.DataFrame({"label": [0], "guess": [0]}), MASK18).values()) == [0, 0, 0, 0]


def test_errors_by_number_know_their_direction_and_skip_unknown_numbers() -> None:
    held = pd.DataFrame({"value_truth": [0, 0, 1, 2, 1], "value_guess": [0, 1, 0, 1, 2]})
    held["number"] = [29.0, 29.0, 30.0, 60.0, np.nan]
    table = error_by_number(held, 1)
    assert table.index.tolist() == [29, 30, 60] and table["n"].tolist() == [2, 1, 1]
    assert table["high"].tolist() == [0.5, 0, 0] and table["low"].tolist() == [0, 1, 1]
    assert error_by_number(held, 20).index.tolist() == [20, 60]


@pytest.mark.parametrize(
    ("numbers", "borders", "step"),
    [([29, 30], (30, 60), 1), ([0, 120], (30, 60), 1), ([0, 5000], (2500,), 50), ([0.2, 0.4], (0.5,), 0.005),
     ([0.3, 0.3], (0.5,), 0.002), ([np.nan, 3], (10,), 1), ([-40, 200], (0,), 2)],
)  # fmt: skip
def test_bars_are_few_and_as_wide_as_numbers_are_counted(
    numbers: list[float], borders: tuple[float, ...], step: float
) -> None:
    number = Attribute("n", tuple("abc"[: len(borders) + 1]), "n", borders, borders)
    assert bar_width(numbers, number) == pytest.approx(step)
    assert np.nanmax(numbers) - np.nanmin(numbers) <= MAX_BARS * step


def test_one_attribute_has_no_errors_by_attribute() -> None:
    assert count_wrong_attributes(pd.DataFrame({"label": [0, 1], "guess": [1, 1]}), ONE) == {}
