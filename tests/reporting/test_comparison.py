"""Comparisons of predictions, for tasks of several shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_runs import image_table, make_run
from made_tasks import FOUR, ONE, STAGES, TWO, each_task

from maskcls.cli.compare import compare
from maskcls.core.competition import MASK18
from maskcls.core.errors import RunError
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.metrics import macro_f1
from maskcls.reporting.comparison import RunScores, ScoredPredictions, oof_predictions, paired_difference
from maskcls.reporting.sweep_table import SweptRun
from maskcls.storage.run import Run


def scored(task: Task, skill: float, seed: int = 0) -> ScoredPredictions:
    """Return the out-of-fold predictions of a model that is right for a share `skill` of 120 images."""
    rng = np.random.default_rng(5)
    labels, ids = rng.integers(0, task.num_classes, 120), [f"i{i}" for i in range(120)]
    rng = np.random.default_rng(seed)
    preds = np.where(rng.random(120) < skill, labels, rng.integers(0, task.num_classes, 120))
    contents = pd.Series("", index=ids)
    return ScoredPredictions("oof", labels, ids, [f"p{i // 3}" for i in range(120)], [task.one_hot(preds)], 1, contents, task)


def scores_of(part: ScoredPredictions) -> RunScores:
    return RunScores(part, None, None, is_ensemble=False, is_blend=False)


@each_task
def test_a_difference_is_that_of_macro_f1_and_its_interval_holds_it(task: Task) -> None:
    first, second = scored(task, 0.8), scored(task, 0.3, 1)
    found = paired_difference(first, second)
    preds = [part.probs[0].argmax(1) for part in (first, second)]
    expected = macro_f1(first.labels, preds[0]) - macro_f1(first.labels, preds[1])
    assert found["f1"] == pytest.approx(expected) and found["interval"][0] <= expected <= found["interval"][1]
    assert first.scores()["people"] == 40 and scores_of(first).compare(scores_of(second)) == found


def test_runs_of_other_classes_are_not_compared() -> None:
    first = scored(TWO, 0.5)
    renamed = Task((Attribute("colour", ("red", "green")), TWO.attributes[1]))
    assert scores_of(first).compare(scores_of(replace(first, task=renamed))) == {"why": "other classes"}
    assert scores_of(scored(ONE, 0.5)).compare(scores_of(scored(STAGES, 0.5))) == {"why": "other classes"}
    with pytest.raises(RunError, match="cannot compare"):
        paired_difference(first, replace(first, task=renamed))


def test_a_colour_of_figures_makes_no_other_classes() -> None:
    painted = Task((replace(TWO.attributes[0], colour="#ff0000"), TWO.attributes[1]), "site")
    assert "f1" in scores_of(scored(TWO, 0.5)).compare(scores_of(scored(painted, 0.4, 2)))


@pytest.mark.parametrize("task", [MASK18, TWO, STAGES, FOUR], ids=["mask18", "two", "stages", "four"])
def test_stored_runs_of_a_task_are_compared(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = image_table(40, 30, task=task)
    for name, skill in (("a-1", 0.4), ("b-2", 0.8)):
        make_run(tmp_path / name, table, skill, task=task)
    compare(["a-1", "b-2"], str(tmp_path))
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Intervals are over {task.groups}" in shown and "a-1" in shown and "+0." in shown
    run = SweptRun.of(tmp_path / "a-1", ["seed=1"])
    assert run and run.f1 == pytest.approx(oof_predictions([[Run(tmp_path / "a-1")]]).f1()[0])


def test_stored_runs_of_other_tasks_are_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / f"{i}-1", image_table(5, task=task), task=task) for i, task in enumerate((TWO, STAGES))]
    with pytest.raises(RunError, match="they predict other classes"):
        oof_predictions([[run] for run in runs])
