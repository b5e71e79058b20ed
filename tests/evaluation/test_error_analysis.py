"""The error of the expected age: whom it covers, and its interval over people."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from maskcls.evaluation.error_analysis import age_error
from maskcls.evaluation.intervals import MIN_PEOPLE, mean_interval


def test_only_images_of_known_age_count() -> None:
    truth, expected = np.array([20.0, 30.0, np.nan, 60.0]), np.array([22.0, 29.0, 40.0, 75.0])
    found = age_error(truth, expected, np.array([False, False, False, True]), ["a", "b", "c", "d"])
    assert found == {"age_images": 2, "open_ended": 1, "age_mae": pytest.approx(1.5)}


def test_no_known_age_has_no_error() -> None:
    found = age_error(np.array([np.nan, 60.0]), np.array([20.0, 70.0]), np.array([False, True]), ["a", "b"])
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
    found = age_error(truth, truth + values, np.zeros(len(values), bool), groups)
    assert found["age_mae_interval"] == pytest.approx([values.mean() - margin, values.mean() + margin])


def test_few_people_have_no_interval() -> None:
    values = np.arange(float(MIN_PEOPLE - 1))
    assert mean_interval(values, [str(i) for i in range(MIN_PEOPLE - 1)]) is None
    found = age_error(values, values, np.zeros(len(values), bool), [str(i) for i in range(len(values))])
    assert "age_mae_interval" not in found
