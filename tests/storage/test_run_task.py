"""The task of a run directory: read from its config, refused with a sentence if it is broken or of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from foreign import replaced, rewritten, said_of
from made_runs import CONFIG, image_table, make_run
from made_tasks import ONE, STAGES, TWO, each_task

from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.core.task_options import describe_task, read_task
from maskcls.inference.predictor import load
from maskcls.storage.checkpoint import load_fold_checkpoint
from maskcls.storage.run import Run
from maskcls.storage.run_files import read_metrics, read_table
from maskcls.storage.trained_model import open_model

HOSTILE = "${oc.env:HOME}"
BROKEN: dict[str, tuple[Any, str]] = {
    "a word": ("mask18", "task: expected a list of attributes"),
    "a list": ([1], "task: expected a list of attributes"),
    "an interpolation": (HOSTILE, "task: expected a list of attributes"),
    "no attributes": ({"name": "attributes", "group": None}, "task: expected a list of attributes"),
    "an empty list": ({"attributes": []}, "expected at least one attribute"),
    "words for attributes": ({"attributes": ["mask"]}, "task: expected a list of attributes"),
    "a group that is a number": ({"group": 3, "attributes": describe_task(TWO)["attributes"]}, "task.group: expected a name"),
    "no name": ({"attributes": [{"values": ["a", "b"]}]}, "attribute 1: expected a name"),
    "a name of a path": ({"attributes": [{"name": "../a", "values": ["a", "b"]}]}, "attribute 1: expected a name"),
    "a name that is taken": ({"attributes": [{"name": "fold", "values": ["a", "b"]}]}, "the name is used for something else"),
    "an unknown key": ({"attributes": [{"name": "a", "values": ["a", "b"], "code": 1}]}, "unknown key 'code'"),
    "one value": ({"attributes": [{"name": "a", "values": ["a"]}]}, "expected at least two values, got 1"),
    "a value twice": ({"attributes": [{"name": "a", "values": ["a", "A"]}]}, "is given twice"),
    "a value that moves the cursor": ({"attributes": [{"name": "a", "values": ["a", "\x1b[2J"]}]}, "printable characters"),
    "values in values": ({"attributes": [{"name": "a", "values": [["a"], "b"]}]}, "expected a word"),
    "a colour that is markup": ({"attributes": [{"name": "a", "values": ["a", "b"], "colour": "red' onload='x"}]}, "expected a colour as #1f77b4"),
    "borders that fall": ({"attributes": [{"name": "a", "borders": [2, 1]}]}, "list of increasing numbers"),
    "borders of words": ({"attributes": [{"name": "a", "borders": ["x"]}]}, "list of increasing numbers"),
    "a border that is not a number": ({"attributes": [{"name": "a", "borders": [float("nan")]}]}, "list of increasing numbers"),
    "a border beyond any float": ({"attributes": [{"name": "a", "borders": [2**62]}]}, "list of increasing numbers"),
    "too many classes": ({"attributes": [{"name": name, "values": list(map(str, range(101)))} for name in "ab"]}, "expected at most 10,000 classes"),
    "values of too many letters": ({"attributes": [{"name": "a", "values": ["a" * 100_000, "b"]}]}, "expected at most 100,000"),
    "too many attributes": ({"attributes": [{"name": f"a{i}", "values": ["a", "b"]} for i in range(3000)]}, "more than 10,000 combinations"),
}  # fmt: skip


def task_run(path: Path, task: Task, count: int = 6) -> Run:
    """Return a new run directory of a task, with a config and a table."""
    run = Run(path)
    run.create({**CONFIG, "task": describe_task(task)})
    table = pd.DataFrame({"id": [f"{i}.png" for i in range(count)], "person": [f"p{i}" for i in range(count)], "part": "train",
                          "fold": np.arange(count) % 2, "scored": True, "content": "", "label": np.arange(count) % task.num_classes})  # fmt: skip
    for attribute, index in zip(task, task.decode(table["label"]), strict=True):
        lowest = np.array([attribute.borders[0] - 1, *attribute.borders]) if attribute.is_number else np.array([0])
        table[attribute.source] = lowest[index] if attribute.is_number else index
    run.write_table(table)
    return run


@each_task
def test_the_task_of_a_run_is_that_of_its_config(task: Task, tmp_path: Path) -> None:
    run = Run(task_run(tmp_path / "a", task).path)
    assert run.task == task == read_task(describe_task(task)) and len(run.table) == 6
    attributes = [attribute.source for attribute in task]
    header = run.table_path.read_text().splitlines()[0].split(",")
    assert header == ["id", "person", *attributes, "label", "part", "fold", "scored", "content"]


def test_a_run_without_a_task_is_of_the_competition(linked: tuple[list[str], Path], tmp_path: Path) -> None:
    assert make_run(tmp_path / "older", image_table(5)).task == MASK18
    place = linked[1]
    content = yaml.safe_load((place / "config.yaml").read_text())
    assert content["task"] == describe_task(MASK18) and Run.open(place).task == MASK18
    before = load(place).predict_pixels(np.zeros((1, 32, 24, 3), np.uint8))
    replaced(place / "config.yaml", yaml.safe_dump({key: value for key, value in content.items() if key != "task"}, sort_keys=False))
    assert Run.open(place).task == MASK18
    for k in (0, 1):
        rewritten(place / f"fold{k}" / "best.pt", lambda content: {key: value for key, value in content.items() if key != "task"})
    np.testing.assert_array_equal(load(place).predict_pixels(np.zeros((1, 32, 24, 3), np.uint8)), before)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_task_of_a_config_is_a_sentence(kind: str, linked: tuple[list[str], Path]) -> None:
    place, (section, why) = linked[1], BROKEN[kind]
    content = yaml.safe_load((place / "config.yaml").read_text()) | {"task": section}
    replaced(place / "config.yaml", yaml.safe_dump(content, sort_keys=False))
    said = said_of(lambda: Run.open(place))
    assert str(place / "config.yaml") in said and why in said and "\x1b" not in said, said


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_task_of_a_checkpoint_is_a_sentence(kind: str, linked: tuple[list[str], Path], tmp_path: Path) -> None:
    content = torch.load(linked[1] / "fold1" / "best.pt", weights_only=True)
    torch.save(content | {"task": BROKEN[kind][0]}, tmp_path / "moved.pt")
    assert "moved.pt" in said_of(lambda: load_fold_checkpoint(tmp_path / "moved.pt"))


def test_a_checkpoint_of_another_task_is_refused(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    renamed = Task(tuple(MASK18.attributes[::-1]))  # as many classes, in another order
    for task in (TWO, STAGES, renamed):
        file = rewritten(place / "fold1" / "best.pt", lambda content, task=task: content | {"task": describe_task(task)})  # type: ignore[misc]
        assert f"{file} was trained for other classes or another order" in said_of(lambda: open_model(place).contents)
        classes = list(task.classes)
        rewritten(file, lambda content, classes=classes: content | {"classes": classes})  # type: ignore[misc]
        assert load_fold_checkpoint(file)["classes"] == classes
        assert f"{file} was trained for other classes than its run" in said_of(lambda: load(place))
        rewritten(file, lambda content: content | {"classes": list(MASK18.classes)})


def test_metrics_of_another_task_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", image_table(10, 2))
    assert run.metrics() == read_metrics(run.metrics_path, MASK18)
    for task, name in ((TWO, "colour"), (STAGES, "crop"), (ONE, ONE.names[0])):
        assert f"expected {name}_f1 among the scores" in said_of(lambda task=task: read_metrics(run.metrics_path, task))  # type: ignore[misc]


def test_each_part_of_the_metrics_needs_the_score_of_each_attribute(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", image_table(10, 2))
    whole = json.loads(run.metrics_path.read_text())
    plain = {"oof": whole["oof"], "eval": whole["eval"]}
    whole["decision"] = {"bias": [0.0] * 18, "plain": plain | {"note": 3}}
    run.metrics_path.write_text(json.dumps(whole))
    assert run.metrics() == whole
    for name in MASK18.names:
        def less(part: dict[str, Any], name: str = name) -> dict[str, Any]:
            return {key: value for key, value in part.items() if key != f"{name}_f1"}

        for change in ({"oof": less(whole["oof"])}, {"eval": less(whole["eval"])}, {"folds": [*whole["folds"][:-1], less(whole["folds"][-1])]},
                       {"decision": whole["decision"] | {"plain": plain | {"eval": less(whole["eval"])}}}):  # fmt: skip
            run.metrics_path.write_text(json.dumps(whole | change))
            assert f"expected {name}_f1 among the scores" in said_of(run.metrics)
    run.metrics_path.write_text(json.dumps(whole | {"decision": {"bias": [0.0] * 17, "plain": plain}}))
    assert "decision.bias: expected 18 values, got 17" in said_of(run.metrics)


@pytest.mark.parametrize(("task", "is_allowed"), [(TWO, True), (STAGES, True), (MASK18, True), (Task((TWO["colour"],)), False)])
def test_a_training_row_may_lack_the_labels_of_some_attributes(task: Task, is_allowed: bool, tmp_path: Path) -> None:
    run = task_run(tmp_path / "a", task)
    table = pd.read_csv(run.table_path, dtype={"id": str}, keep_default_na=False)
    table.loc[2, ["label", "scored"]] = [-1, False]
    table.to_csv(run.table_path, index=False)
    if is_allowed:
        assert read_table(run.table_path, task)["label"].tolist()[2] == -1 and len(Run(run.path).val_table) == 5
    else:
        assert "label: expected ≥ 0 in a scored or training row" in said_of(lambda: read_table(run.table_path, task))
    table.loc[2, "scored"] = True
    table.to_csv(run.table_path, index=False)
    assert "label: expected ≥ 0 in a scored" in said_of(lambda: read_table(run.table_path, task))


@pytest.mark.parametrize("task", [TWO, STAGES, MASK18])
def test_a_class_that_the_task_lacks_is_named(task: Task, tmp_path: Path) -> None:
    run = task_run(tmp_path / "a", task)
    table = pd.read_csv(run.table_path)
    table.assign(label=task.num_classes).to_csv(run.table_path, index=False)
    assert f"label: expected −1 to {task.num_classes - 1}, got" in said_of(lambda: Run(run.path).table)
