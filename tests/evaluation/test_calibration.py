"""Scores of calibration: equal to their definitions, with intervals over people, and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.calibration import calibration_bins, compare_calibration, compare_view, reliability
from maskcls.evaluation.intervals import mean_interval
from maskcls.evaluation.metrics import log_loss


def drawn(rng: np.random.Generator, people: int, images: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return labels, probabilities that are too sure, and people."""
    count = people * images
    logits = rng.normal(0, 1, (count, 18))
    labels = rng.integers(0, 18, count)
    logits[np.arange(count), labels] += np.repeat(rng.normal(2, 1.5, people), images)
    probs = np.exp(2 * logits)
    return labels, (probs / probs.sum(1, keepdims=True)).astype(np.float32), [f"p{i // images}" for i in range(count)]


def frame(labels: np.ndarray, probs: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"label": labels, "guess": probs.argmax(1), "sure": probs.max(1).astype(float)})


def test_scores_are_those_of_the_project() -> None:
    labels, probs, persons = drawn(np.random.default_rng(0), 60)
    after = np.sqrt(probs) / np.sqrt(probs).sum(1, keepdims=True)
    views = compare_calibration(labels, probs, after, persons, MASK18)
    assert list(views) == ["class", *MASK18.names]
    for part, table in (("before", probs), ("after", after)):
        assert views["class"][part]["log_loss"] == pytest.approx(log_loss(labels, table), rel=1e-6)
        error = calibration_bins(frame(labels, table))[1]
        assert views["class"][part]["calibration_error"] == pytest.approx(error, rel=1e-6)
        for name, truth, own in zip(MASK18.names, MASK18.decode(labels), MASK18.marginals(table), strict=True):
            assert views[name][part]["log_loss"] == pytest.approx(log_loss(truth, own), rel=1e-5)
            error = calibration_bins(frame(truth, own))[1]
            assert views[name][part]["calibration_error"] == pytest.approx(error, rel=1e-5)
    for view in views.values():
        for score in ("log_loss", "calibration_error"):
            difference = view["after"][score] - view["before"][score]
            assert view["difference"][score] == pytest.approx(difference, abs=1e-12)
            low, high = view["difference"][f"{score}_interval"]
            assert low < difference < high


def test_the_interval_of_the_log_loss_is_that_of_a_mean() -> None:
    labels, probs, persons = drawn(np.random.default_rng(1), 40)
    losses = -np.log(probs[np.arange(len(labels)), labels].astype(float))
    found = compare_view(labels, probs, probs, persons)
    assert found["before"]["log_loss_interval"] == pytest.approx(mean_interval(losses, persons))
    assert found["difference"] == {
        "log_loss": 0.0, "log_loss_interval": [0.0, 0.0], "calibration_error": 0.0,
        "calibration_error_interval": [0.0, 0.0],
    }  # fmt: skip


def test_few_people_have_no_interval() -> None:
    labels, probs, persons = drawn(np.random.default_rng(2), 19)
    view = compare_view(labels, probs, probs, persons)
    assert all(view[part][f"{score}_interval"] is None for part in view for score in ("log_loss", "calibration_error"))
    assert all(row["interval"] is None for row in reliability(labels, probs, persons))


def test_bins_are_those_of_the_figure_and_hold_every_image() -> None:
    labels, probs, persons = drawn(np.random.default_rng(3), 80)
    table, rows = calibration_bins(frame(labels, probs))[0], reliability(labels, probs, persons)
    assert [row["bin"] for row in rows] == table.index.tolist() and sum(row["photos"] for row in rows) == len(labels)
    assert [row["accuracy"] for row in rows] == pytest.approx(table["right"].tolist())
    assert [row["confidence"] for row in rows] == pytest.approx(table["sure"].tolist())
    full = [row for row in rows if row["interval"]]
    assert full and all(0 <= row["interval"][0] <= row["accuracy"] <= row["interval"][1] <= 1 for row in full)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """400 samples of 150 people from a population of 20,000: the log loss and its change, 95 % intervals."""
    rng = np.random.default_rng(4)
    labels, probs, persons = drawn(rng, 20_000)
    after = np.sqrt(probs) / np.sqrt(probs).sum(1, keepdims=True)
    truth, blocks = compare_view(labels, probs, after, persons), np.arange(len(labels)).reshape(20_000, 4)
    hits = np.zeros((400, 2))
    for i in range(400):
        rows = blocks[rng.choice(20_000, 150, replace=False)].ravel()
        view = compare_view(labels[rows], probs[rows], after[rows], [persons[row] for row in rows])
        for j, part in enumerate(("before", "difference")):
            low, high = view[part]["log_loss_interval"]
            hits[i, j] = low <= truth[part]["log_loss"] <= high
    assert (np.abs(hits.mean(0) - 0.95) < 0.035).all(), hits.mean(0)


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (2, 3, 2, 3), (200,)])
def test_a_view_for_the_class_and_for_each_attribute_unless_it_is_the_class(sizes: tuple[int, ...]) -> None:
    task = Task(tuple(Attribute(f"a {i}", tuple(map(str, range(size)))) for i, size in enumerate(sizes)))
    rng = np.random.default_rng(5)
    labels, probs = rng.integers(0, task.num_classes, 100), rng.dirichlet(np.ones(task.num_classes), 100)
    views = compare_calibration(labels, probs, probs, [f"p{i // 4}" for i in range(100)], task)
    assert list(views) == ["class", *(task.names if len(sizes) > 1 else ())]
    for name, truth, own in zip(task.names, task.decode(labels), task.marginals(probs), strict=True):
        view = views.get(name, views["class"])["before"]
        assert view["log_loss"] == pytest.approx(log_loss(truth, own))
