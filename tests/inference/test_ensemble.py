"""Ages of an ensemble: the mixture of the members that predict an age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_tasks import STAGES, TASKS, TWO, each_task

from maskcls.components import blend
from maskcls.components.blend import Blend
from maskcls.core.competition import MASK18
from maskcls.core.errors import RunError
from maskcls.core.registry import Component
from maskcls.core.task import Task
from maskcls.inference.ensemble import check_same_task, member_weights, mix_numbers
from maskcls.storage.predictions import Predictions


def member(*moments: float) -> Predictions:
    """Return predictions of one image, with E[age] and E[age²] if they are given."""
    columns = np.array([[1 / MASK18.num_classes] * MASK18.num_classes + list(moments)], np.float32)
    return Predictions.of_columns(np.array(["a.jpg"]), columns, MASK18.num_classes)


@pytest.mark.parametrize("weights", [None, [0.5, 0.5, 0.0], np.array([1.0, 1.0, 5.0])])
def test_the_ages_of_an_ensemble_are_those_of_the_mixture(weights: Sequence[float] | None) -> None:
    ages = mix_numbers([member(20, 20**2), member(40, 40**2), member()], weights)
    assert ages is not None and ages.tolist() == [[30, 10]]
    assert mix_numbers([member(), member()], None) is None


@pytest.mark.parametrize(("name", "params", "fitted", "expected"), [
    ("weighted", {"weights": [2.0, 1.0]}, None, [2.0, 1.0]),
    ("mean", {}, None, None),
    ("greedy", {}, [0.7, 0.3], [0.7, 0.3]),
    ("mean", {"weights": [1.0] * 18}, None, None),  # a plugin's option of that name has another meaning
])  # fmt: skip
def test_the_weights_of_members_are_the_users_or_fitted(name: str, params: Any, fitted: Any, expected: Any) -> None:
    component = Component("blend", name, params, blend.registry.builders[name])
    oof = np.zeros((0, MASK18.num_classes), np.float32)
    assert member_weights(component, Blend(oof, lambda tables: tables[0], "a test", fitted)) == expected


def model(task: Task, name: str = "a-1") -> Any:
    """Return what stands for a trained model of a task."""
    return SimpleNamespace(task=task, name=name)


@each_task
def test_models_of_different_tasks_are_refused_with_one_sentence_that_names_both(task: Task) -> None:
    check_same_task([model(task), model(Task(task.attributes, None))])  # other groups are the data's affair
    for other in TASKS.values():
        if other is not task:
            with pytest.raises(RunError) as caught:
                check_same_task([model(task), model(task), model(other, "b-2")])
            message = str(caught.value)
            assert "\n" not in message and message.startswith("a-1 predicts ") and " and b-2 predicts " in message
            assert len(message) < 400 and message.endswith("only models of one task can be blended")


def test_borders_for_scoring_make_another_task_and_those_for_training_do_not() -> None:
    crop, stage = STAGES.attributes
    check_same_task([model(STAGES), model(Task((crop, replace(stage, train_borders=(8,)))))])
    with pytest.raises(RunError, match=r"stage \(early, late by borders 10\) and .*stage \(early, late by borders 11\)"):
        check_same_task([model(STAGES), model(Task((crop, replace(stage, borders=(11,)))))])
    turned = Task(tuple(replace(one, values=one.values[::-1]) for one in TWO))
    with pytest.raises(RunError, match=r"colour \(red, blue\) .* colour \(blue, red\)"):
        check_same_task([model(TWO), model(turned)])
