"""Calibration, sets and groups on the report page and in the terminal."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from drawn_predictions import drawn_predictions
from made_tasks import ONE, STAGES, TWO

from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.engine.reliability import measure_reliability
from maskcls.evaluation.calibration import compare_calibration
from maskcls.evaluation.fairness import group_scores
from maskcls.reporting.page_rendering import render_template
from maskcls.reporting.reliability_tables import format_interval, reliability_context, reliability_notes
from maskcls.reporting.summary import leak_notes
from maskcls.storage.run import Run

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    data = drawn_predictions(180)
    data["rows"] = data["rows"].rename(columns={"group.colour": f"group.{HOSTILE}"})
    data["rows"][f"group.{HOSTILE}"] = data["rows"][f"group.{HOSTILE}"].replace("red", "<b>red")
    return measure_reliability(**data)


def page(metrics: dict[str, Any]) -> str:
    return render_template("reliability.html.j2", reliability_context(metrics, MASK18))


def test_the_page_shows_what_was_measured(metrics: dict[str, Any]) -> None:
    text = page(metrics)
    for view in metrics["calibration"]["oof"].values():
        assert format_interval(view["before"], "log_loss", ".3f") in text
        assert format_interval(view["difference"], "calibration_error", "+.3f") in text
    for part in metrics["groups"]:
        for row in part["rows"]:
            assert format_interval(row, "f1", ".3f") in text and f"<td>{row['photos']}</td>" in text
        for name, gap in part["gaps"].items():
            assert f"p = {gap['p']:.4f}, from 1,999 permutations" in text, name
    assert text.count('class="wrong"') == sum(len(part["gaps"]) for part in metrics["groups"])
    assert f"{metrics['sets']['oof']['covered']:.3f}" in text and "180 images have no value" in text
    for phrase in ("What these labels can say", "What they cannot say", "0.05 / 8", "with people of their gender and age class"):
        assert phrase in text


def test_a_leak_is_said_beside_temperatures_and_sets(metrics: dict[str, Any]) -> None:
    leaking = metrics | {"people_on_both_sides": 2, "notes": ["LEAK possible: <b>x", "LEAK: split=x", "decision=y"]}
    text = render_template("reliability.html.j2", reliability_context(metrics, MASK18) | {"leaks": list(leak_notes(leaking, MASK18))})
    assert "too sure of new people" in text and "2 people are in both training" in text and "&lt;b&gt;x." in text
    assert "split=x" not in text and "decision=y" not in text
    assert "too sure of new people" not in page(metrics)


def test_names_of_groups_show_as_text(metrics: dict[str, Any]) -> None:
    text = page(metrics)
    assert "<script" not in text and "<b>red" not in text and "&lt;b&gt;red" in text


def test_metrics_of_an_older_version_show_nothing() -> None:
    assert page({}).strip() == "" and list(reliability_notes(Run.__new__(Run), {})) == []


def test_one_person_has_groups_and_sets_but_no_calibration() -> None:
    text = page(measure_reliability(**drawn_predictions(1, folds=1)))
    assert "temperature scaling</h2>" not in text and "Prediction sets" in text
    assert "Not compared: fewer than two groups have 20 people" in text


def test_the_terminal_names_the_worst_group(metrics: dict[str, Any], tmp_path: Any) -> None:
    lines = list(reliability_notes(Run(tmp_path / "r-1"), metrics))
    assert lines[0].startswith("temperature scaling, out of fold: log loss ") and "runs='[r-1]' calibrate=true" in lines[0]
    gap = metrics["groups"][0]["gaps"]["accuracy"]
    assert f"accuracy by gender × age: worst {gap['worst']}, {gap['gap']:.3f} below {gap['best']}" in lines[1]


@pytest.mark.parametrize(
    ("scores", "text"),
    [({"x": 0.12345, "x_interval": [0.1, 0.2]}, "0.123 [0.100, 0.200]"), ({"x": -0.5, "x_interval": None}, "−0.500"),
     ({"x": np.float64(1)}, "1.000")],
)  # fmt: skip
def test_an_interval_stands_in_brackets(scores: dict[str, Any], text: str) -> None:
    assert format_interval(scores, "x", ".3f") == text


@pytest.mark.parametrize("task", [STAGES, TWO, ONE], ids=["stages", "two", "one"])
def test_views_and_groups_have_the_names_of_the_task(task: Task) -> None:
    rng, people = np.random.default_rng(0), [f"p{i // 2}" for i in range(240)]
    size = task.num_classes // task.shape[0]
    labels = rng.integers(0, task.shape[0], 240) * size + np.repeat(rng.integers(0, size, 120), 2)
    probs = rng.dirichlet(np.ones(task.num_classes), 240).astype(np.float32)
    views = compare_calibration(labels, probs, probs**0.5 / (probs**0.5).sum(1, keepdims=True), people, task)
    heads = dict.fromkeys(task.names if len(task.names) > 1 else ["class"], 1.5)
    columns = {"site": ["north" if i % 8 < 4 else "south" for i in range(240)]}
    groups = group_scores(labels, probs, np.ones(240, bool), people, columns, task)
    measured = {"calibration": {"oof": views, "eval": None, "temperatures": heads, "mean_temperatures": heads}}
    context = reliability_context(measured | {"groups": groups, "sets": {"coverage": 0.9, "oof": None, "eval": None}}, task)
    rows = [name for _, rows in context["calibration_tables"] for name, _ in rows]
    classes = f"{task.num_classes} classes"
    assert rows == {2: [classes, *(f"{one.name} class" if one.is_number else one.name for one in task)], 1: [classes]}[len(task.names)]
    text = render_template("reliability.html.j2", context)
    assert not re.search(r"\b(mask|gender|age|years|None)\b", text) and ("people" in text) == (task.group == "person")
    assert (f"its classes of {task.names[0]}" in text) == (len(task.names) > 1) and "<h3>site</h3>" in text
    assert f"temperatures of each {task.groups[:-1]} were" in text or task.group == "person"
