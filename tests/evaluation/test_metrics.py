"""Metrics and confidence intervals, compared with scikit-learn and with explicit formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tasks import ONE, TASKS, TWO, each_task
from scipy.stats import t as student
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, log_loss, macro_f1

LABELS = st.integers(0, 17)


def some(rows: int, seed: int, task: Task = MASK18) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, task.num_classes, rows)
    probs = random.dirichlet(np.ones(task.num_classes), rows) + 0.3 * task.one_hot(truth) * random.random((rows, 1))
    return truth, (probs / probs.sum(1, keepdims=True)).astype(np.float32)


@each_task
@pytest.mark.parametrize(("rows", "seed"), [(1, 0), (5, 1), (40, 2), (500, 3)])
def test_f1_and_accuracy_equal_scikit_learns(rows: int, seed: int, task: Task) -> None:
    truth, probs = some(rows, seed, task)
    result = compute_scores(truth, probs, task)
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
    unlabelled = np.append(truth, [-1, -1]), np.append(guess, [0, 17])
    assert macro_f1(*unlabelled) == macro_f1(truth, guess) and macro_f1(unlabelled[0][-2:], unlabelled[1][-2:]) == 0


def test_a_perfect_guess_scores_one_though_classes_are_absent() -> None:
    for task in TASKS.values():
        truth = np.array([0, 1, 1, task.num_classes - 1])
        result = compute_scores(truth, task.one_hot(truth), task)
        assert tuple(result) == task.score_names
        assert set(result.values()) == {1.0}


def test_attributes_are_judged_on_their_marginals_and_not_on_the_class() -> None:
    probs = np.zeros((2, 18), np.float32)
    probs[:, 3] = 0.4  # the largest class: worn, female, <30
    probs[:, [0, 1]] = 0.3  # yet male has 0.6; and <30 has 0.7
    truth = np.array([0, 0])  # worn, male, <30
    result = compute_scores(truth, probs, MASK18)
    assert result["accuracy"] == result["f1"] == 0
    assert result["mask_f1"] == result["gender_f1"] == result["age_f1"] == 1


@each_task
def test_attribute_scores_equal_scikit_learns_on_summed_columns(task: Task) -> None:
    truth, probs = some(300, 4, task)
    scores = compute_scores(truth, probs, task)
    for axis, (name, values) in enumerate(zip(task.names, task.decode(truth), strict=True)):
        other = tuple(i + 1 for i in range(len(task.shape)) if i != axis)
        guess = probs.reshape(-1, *task.shape).sum(other).argmax(1)
        assert scores[f"{name}_f1"] == pytest.approx(f1_score(values, guess, average="macro", zero_division=0))


@each_task
def test_rows_without_a_class_score_only_the_attributes_that_they_have(task: Task) -> None:
    truth, probs = some(120, 5, task)
    known = np.stack(task.decode(truth), 1)
    known[np.random.default_rng(6).random(known.shape) < 0.4] = -1
    truth[(known < 0).any(1)] = -1
    scores, has_class = compute_scores(truth, probs, task, known), truth >= 0
    complete = compute_scores(truth[has_class], probs[has_class], task)
    assert (scores["f1"], scores["accuracy"]) == (complete["f1"], complete["accuracy"])
    for name, values, marginal in zip(task.names, known.T, task.marginals(probs), strict=True):
        assert scores[f"{name}_f1"] == macro_f1(values[values >= 0], marginal.argmax(1)[values >= 0])
    assert compute_scores(truth, probs, task) == complete  # nothing else is known of a row without a class
    assert log_loss(truth, probs) == pytest.approx(log_loss(truth[has_class], probs[has_class]))
    assert confusion_counts(truth, probs).sum() == has_class.sum()


def test_scores_without_any_label_are_zero_and_no_nan() -> None:
    truth, probs = np.full(3, -1), np.full((3, 4), 0.25, np.float32)
    assert set(compute_scores(truth, probs, TWO).values()) == {0.0}
    assert log_loss(truth, probs) == 0 and confusion_counts(truth, probs).sum() == 0


def test_the_f1_of_the_only_attribute_is_that_of_the_class() -> None:
    scores = compute_scores(*some(50, 7, ONE), ONE)
    assert scores["tint_f1"] == scores["f1"]


@each_task
@pytest.mark.parametrize(("rows", "seed"), [(3, 5), (400, 6)])
def test_per_class_equals_scikit_learns(rows: int, seed: int, task: Task) -> None:
    truth, probs = some(rows, seed, task)
    classes = range(task.num_classes)
    expected = precision_recall_fscore_support(truth, probs.argmax(1), labels=classes, zero_division=0)
    got = class_report(truth, probs, task)
    assert [row["class"] for row in got] == list(classes) and [row["name"] for row in got] == list(task.classes)
    for name, column in zip(("precision", "recall", "f1", "photos"), expected, strict=True):
        np.testing.assert_allclose([row[name] for row in got], column, err_msg=name)


def test_confusion_has_the_truth_in_rows() -> None:
    matrix = confusion_counts(np.array([0, 0, 5]), MASK18.one_hot([0, 5, 5]))
    assert matrix.shape == (18, 18) and matrix.sum() == 3
    assert (matrix[0, 0], matrix[0, 5], matrix[5, 5]) == (1, 1, 1)


def without_one(truth: np.ndarray, guesses: list[np.ndarray], people: np.ndarray, person: int | None) -> float:
    """Return the mean F1 of some guesses on the photos of all people but one."""
    kept = people != person
    return float(np.mean([macro_f1(truth[kept], guess[kept]) for guess in guesses]))


@each_task
@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_is_students_t_around_the_jackknife_of_people(paired: bool, task: Task) -> None:
    random, size = np.random.default_rng(0), task.num_classes
    people, truth = random.integers(0, 25, 300), random.integers(0, size, 300)  # people have any number of photos
    guesses = [np.where(random.random(300) < share, truth, random.integers(0, size, 300)) for share in (0.5, 0.6, 0.7)]
    mine, below = guesses[:2], guesses[2:] if paired else []
    values = [
        without_one(truth, mine, people, person) - (without_one(truth, below, people, person) if paired else 0)
        for person in (None, *range(25))
    ]  # fmt: skip
    error = np.sqrt(24 / 25 * np.sum(np.square(np.array(values[1:]) - np.mean(values[1:]))))
    expected = values[0] + student.ppf([0.025, 0.975], 24) * error
    names = [f"p{person}" for person in people]
    tallies = [[person_counts(truth, guess, names, task) for guess in some] for some in (mine, below)]
    assert confidence_interval(*tallies) == pytest.approx(expected.tolist())


@given(st.integers(20, 40), st.floats(0, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_an_interval_holds_the_score_and_stays_where_scores_can_be(people: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    names, truth = np.arange(3 * people) % people, random.integers(0, 18, 3 * people)
    guess = np.where(random.random(3 * people) < share, truth, random.integers(0, 18, 3 * people))
    ends = confidence_interval([person_counts(truth, guess, names.astype(str).tolist(), MASK18)])
    assert ends and 0 <= ends[0] <= macro_f1(truth, guess) <= ends[1] <= 1


def test_photos_without_a_class_count_for_nobody() -> None:
    truth, guess, people = np.array([0, -1, 3, -1]), np.array([0, 1, 2, 3]), ["b", "a", "b", "c"]
    counts = person_counts(truth, guess, people, TWO)
    assert counts.shape == (1, 3, 4) and counts.sum() == 5
