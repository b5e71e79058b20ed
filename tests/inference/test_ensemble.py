"""Ages of an ensemble: the mixture of the members that predict an age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from maskcls.components import blend
from maskcls.components.blend import Blend
from maskcls.core.competition import MASK18
from maskcls.core.registry import Component
from maskcls.inference.ensemble import member_weights, mix_numbers
from maskcls.storage.predictions import Predictions


def member(*moments: float) -> Predictions:
    """Return predictions of one image, with E[age] and E[age²] if they are given."""
    columns = np.array([[1 / MASK18.num_classes] * MASK18.num_classes + list(moments)], np.float32)
    return Predictions.of_columns(np.array(["a.jpg"]), columns)


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
