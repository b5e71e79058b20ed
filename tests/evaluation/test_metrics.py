"""Metrics and confidence intervals, compared with scikit-learn and with explicit formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from maskcls.core.task import CLASSES, decode, one_hot
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, macro_f1

LABELS = st.integers(0, 17)


def some(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 18, rows)
    probs = random.dirichlet(np.ones(18), rows) + 0.3 * one_hot(truth) * random.random((rows, 1))
    return truth, (probs / probs.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("rows", "seed"), [(1, 0), (5, 1), (40, 2), (500, 3)])
def test_f1_and_accuracy_equal_scikit_learns(rows: int, seed: int) -> None:
    truth, probs = some(rows, seed)
    result = compute_scores(truth, probs)
    assert result["f1"] == pytest.approx(f1_score(truth, probs.argmax(1), average="macro", zero_division=0))
    assert result["accuracy"] == pytest.approx(accuracy_score(truth, probs.argmax(1)))


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_macro_f1_is_the_mean_over_the_classes_that_occur(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(column) for column in zip(*pairs, strict=True))
    each = [
        2 * np.sum((truth == c) & (guess == c)) / (np.sum(truth == c) + np.sum(guess == c))
        for c in range(18)
        if c in truth or c in guess
    ]
    assert macro_f1(truth, guess) == pytest.approx(np.mean(each))


def test_a_perfect_guess_scores_one_though_classes_are_absent() -> None:
    truth = np.array([0, 4, 4, 17])
    result = compute_scores(truth, one_hot(truth))
    assert set(result) == {"f1", "accuracy", "mask_f1", "gender_f1", "age_f1"}
    assert set(result.values()) == {1.0}


def test_attributes_are_judged_on_their_marginals_and_not_on_the_class() -> None:
    probs = np.zeros((2, 18), np.float32)
    probs[:, 3] = 0.4  # the largest class: worn, female, <30
    probs[:, [0, 1]] = 0.3  # yet male has 0.6; and <30 has 0.7
    truth = np.array([0, 0])  # worn, male, <30
    result = compute_scores(truth, probs)
    assert result["accuracy"] == result["f1"] == 0
    assert result["mask_f1"] == result["gender_f1"] == result["age_f1"] == 1


def test_attribute_scores_equal_scikit_learns_on_summed_columns() -> None:
    truth, probs = some(300, 4)
    cube = probs.reshape(-1, 3, 2, 3)
    sums = {"mask": cube.sum((2, 3)), "gender": cube.sum((1, 3)), "age": cube.sum((1, 2))}
    for (name, marginal), values in zip(sums.items(), decode(truth), strict=True):
        assert compute_scores(truth, probs)[f"{name}_f1"] == pytest.approx(
            f1_score(values, marginal.argmax(1), average="macro")
        )


@pytest.mark.parametrize(("rows", "seed"), [(3, 5), (400, 6)])
def test_per_class_equals_scikit_learns(rows: int, seed: int) -> None:
    truth, probs = some(rows, seed)
    expected = precision_recall_fscore_support(truth, probs.argmax(1), labels=range(18), zero_division=0)
    got = class_report(truth, probs)
    assert [row["class"] for row in got] == list(range(18)) and [row["name"] for row in got] == list(CLASSES)
    for name, column in zip(("precision", "recall", "f1", "photos"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in got], column, err_msg=name)


def test_confusion_has_the_truth_in_rows() -> None:
    matrix = confusion_counts(np.array([0, 0, 5]), one_hot([0, 5, 5]))
    assert matrix.shape == (18, 18) and matrix.sum() == 3
    assert (matrix[0, 0], matrix[0, 5], matrix[5, 5]) == (1, 1, 1)


def without_one(truth: np.ndarray, guesses: list[np.ndarray], people: np.ndarray, person: int | None) -> float:
    """Return the mean F1 of some guesses on the photos of all people but one."""
    kept = people != person
    return float(np.mean([macro_f1(truth[kept], guess[kept]) for guess in guesses]))


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_is_students_t_around_the_jackknife_of_people(paired: bool) -> None:
    random = np.random.default_rng(0)
    people, truth = random.integers(0, 25, 300), random.integers(0, 18, 300)  # people have any number of photos
    guesses = [np.where(random.random(300) < share, truth, random.integers(0, 18, 300)) for share in (0.5, 0.6, 0.7)]
    mine, below = guesses[:2], guesses[2:] if paired else []
    values = [
        without_one(truth, mine, people, person) - (without_one(truth, below, people, person) if paired else 0)
        for person in (None, *range(25))
    ]  # fmt: skip
    error = np.sqrt(24 / 25 * np.sum(np.square(np.array(values[1:]) - np.mean(values[1:]))))
    expected = values[0] + student.ppf([0.025, 0.975], 24) * error
    names = [f"p{person}" for person in people]
    tallies = [[person_counts(truth, guess, names) for guess in some] for some in (mine, below)]
    assert confidence_interval(*tallies) == pytest.approx(expected.tolist())


@given(st.integers(20, 40), st.floats(0, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_an_interval_holds_the_score_and_stays_where_scores_can_be(people: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    names, truth = np.arange(3 * people) % people, random.integers(0, 18, 3 * people)
    guess = np.where(random.random(3 * people) < share, truth, random.integers(0, 18, 3 * people))
    ends = confidence_interval([person_counts(truth, guess, names.astype(str).tolist())])
    assert ends and 0 <= ends[0] <= macro_f1(truth, guess) <= ends[1] <= 1
