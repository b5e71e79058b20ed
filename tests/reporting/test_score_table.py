"""Scores in the terminal, for tasks of several shapes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from made_tasks import TWO, each_task

from maskcls.core.task import Attribute, Task
from maskcls.evaluation.metrics import compute_scores
from maskcls.reporting.score_table import print_class_scores, print_model_scores, score_predictions
from maskcls.system import console


def drawn(task: Task, count: int = 150) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return labels, probabilities and people."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, task.num_classes, count)
    probs = rng.dirichlet(np.ones(task.num_classes), count) + task.one_hot(labels) * rng.random((count, 1))
    return labels, (probs / probs.sum(1, keepdims=True)).astype(np.float32), [f"p{i // 3}" for i in range(count)]


@each_task
def test_each_score_stands_once_under_its_name(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    labels, probs, persons = drawn(task)
    print_model_scores("", labels, [("model", probs)], persons, task)
    shown, scores = capsys.readouterr().out, score_predictions(labels, probs, persons, task)
    assert scores.items() >= compute_scores(labels, probs, task).items() and scores["people"] == 50
    row = next(line for line in shown.splitlines() if "model" in line)
    expected = [*task.score_names, "log_loss", "calibration_error"] if len(task.names) > 1 else [
        "f1", "accuracy", "log_loss", "calibration_error"]  # fmt: skip
    assert re.findall(r"\d+\.\d{4}", row) == [f"{scores[name]:.4f}" for name in expected]
    assert "[95 %]" in shown and f"[{scores['interval'][0]:.3f}, " in row


@each_task
def test_the_classes_have_their_names_and_those_only_predicted_are_named(
    task: Task, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.console, "width", 200)
    labels = np.arange(task.num_classes)[:-1] if task.num_classes > 2 else np.zeros(2, int)
    preds = labels.copy()
    preds[0] = task.num_classes - 1
    print_class_scores(labels, preds, task)
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"│ {name} │" in shown for name in task.classes)
    assert f"macro F1 is the mean over {task.num_classes} of {task.num_classes} classes: {task.num_classes - 1} in the truth" in shown
    assert f"count as 0: {task.num_classes - 1} ({task.classes[-1]})" in shown


def test_classes_are_scored_as_sure_probabilities() -> None:
    preds = np.array([0, 3, 1])
    assert score_predictions(preds, preds, None, TWO)["glasses_f1"] == 1


def test_many_wrong_classes_are_counted_and_not_all_named(capsys: pytest.CaptureFixture[str]) -> None:
    task = Task((Attribute("n", tuple(f"n{i}" for i in range(60))),))
    print_class_scores(np.array([0, 1] * 20), np.arange(20, 60), task)
    assert "and 22 more" in " ".join(capsys.readouterr().out.split())
