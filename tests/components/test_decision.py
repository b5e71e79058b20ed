"""Decisions: what is fitted helps, is honest for new people, and leaves perfect predictions as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcls.components import decision
from maskcls.components.decision import Decision, attribute_basis
from maskcls.core.competition import MASK18
from maskcls.core.registry import Component
from maskcls.core.task import Attribute, FloatArray, IntArray, Task
from maskcls.evaluation.metrics import macro_f1
from maskcls.evaluation.stacking import decide
from maskcls.storage.schemas import MAX_BIAS

PER = ["attribute", "class"]
FEW = settings(max_examples=5, deadline=None)


def case(seed: int, people: int = 60, shift: float = 2.0) -> tuple[FloatArray, IntArray, list[str]]:
    """Return probabilities (N, 18) that hold old people for too unlikely, truth (N,) and persons (N,), seven photos each."""
    random = np.random.default_rng(seed)
    gender, age = random.integers(0, 2, people), random.choice(3, people, p=[0.45, 0.4, 0.15])
    mask = np.tile([0, 0, 0, 0, 0, 1, 2], people)
    truth = MASK18.encode(mask, gender.repeat(7), age.repeat(7))
    logits = random.normal(0, 1.2, (len(truth), 18)) + 4 * np.eye(18)[truth]
    logits -= shift * (MASK18.decode(np.arange(18))[2] == 2)
    powers = np.exp(logits)
    probs = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return probs, truth, [f"person{i // 7}" for i in range(len(truth))]


def build(data: tuple[FloatArray, IntArray, list[str]], **params: object) -> Decision:
    made = decision.registry.builders["bias"](*data, MASK18, **params)
    assert isinstance(made, Decision)
    return made


def test_none_is_the_predictions_themselves() -> None:
    data = case(0)
    made = decision.registry.builders["none"](*data)
    assert made.oof is data[0] and made.bias is None and not made.note


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("seed", range(3))
def test_a_bias_mends_a_class_that_is_held_for_too_unlikely(seed: int, per: str) -> None:
    data = case(seed)
    made, plain = build(data, per=per), macro_f1(data[1], data[0].argmax(1))
    assert made.bias is not None and f"a bias per {per}, cross-fitted over 5 groups" in made.note
    new = case(seed + 100)
    decided = macro_f1(new[1], decide(new[0], made.bias).argmax(1))
    assert macro_f1(data[1], made.oof.argmax(1)) > plain + 0.03
    assert decided > macro_f1(new[1], new[0].argmax(1)) + 0.03
    ages = made.bias.reshape(3, 2, 3).mean((0, 1))
    assert ages[2] > max(ages[:2]) + 0.5


@pytest.mark.parametrize("per", PER)
def test_a_bias_per_attribute_has_three_two_and_three_parameters(per: str) -> None:
    bias = build(case(1), per=per).bias
    assert bias is not None
    cube = bias.reshape(3, 2, 3)
    parts = cube.mean((1, 2))[:, None, None] + cube.mean((0, 2))[:, None] + cube.mean((0, 1)) - 2 * cube.mean()
    assert np.allclose(cube, parts) == (per == "attribute")


@FEW
@given(st.integers(0, 10**6), st.sampled_from(PER), st.integers(2, 8), st.integers(0, 59))
def test_a_person_has_no_part_in_the_bias_of_its_own_photos(seed: int, per: str, folds: int, person: int) -> None:
    probs, truth, persons = case(seed)
    own = np.array(persons) == f"person{person}"
    moved = np.where(own, (truth + 7) % 18, truth)
    first, again = (build((probs, labels, persons), per=per, folds=folds) for labels in (truth, moved))
    np.testing.assert_array_equal(first.oof[own], again.oof[own])


@FEW
@given(st.integers(0, 10**6), st.sampled_from(PER), st.sampled_from([0.0, 0.001, 0.1]))
def test_perfect_predictions_are_left_as_they_are(seed: int, per: str, shrink: float) -> None:
    _, truth, persons = case(seed)
    made = build((np.eye(18, dtype=np.float32)[truth], truth, persons), per=per, shrink=shrink)
    assert made.bias is not None and not made.bias.any()
    np.testing.assert_allclose(made.oof, np.eye(18)[truth], atol=1e-6)


@FEW
@given(st.integers(0, 10**6), st.sampled_from(PER), st.sampled_from([0.0, 0.001, 0.1]))
def test_the_same_data_give_the_same_bias_within_its_bounds_and_rows_of_probabilities(
    seed: int, per: str, shrink: float
) -> None:
    data = case(seed, people=12)
    one, two = (build(data, per=per, shrink=shrink) for _ in range(2))
    np.testing.assert_array_equal(one.oof, two.oof)
    np.testing.assert_array_equal(one.bias, two.bias)
    assert one.bias is not None and one.bias.shape == (18,) and (np.abs(one.bias) <= MAX_BIAS).all()
    assert one.oof.dtype == np.float32 and (one.oof >= 0).all()
    np.testing.assert_allclose(one.oof.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(("people", "folds"), [(1, 2), (4, 5), (6, 7)])
def test_too_few_people_leave_the_predictions_with_a_note(people: int, folds: int) -> None:
    data = case(0, people=people)
    made = build(data, folds=folds)
    assert made.oof is data[0] and made.bias is None
    assert f"needs at least {folds} people, got {people}. Scores are of the most probable class" in made.note


@pytest.mark.parametrize("per", PER)
def test_what_is_fitted_to_noise_scores_no_better_than_chance(per: str) -> None:
    above = []
    for seed in range(4):
        _, truth, persons = case(seed)
        random = np.random.default_rng(seed)
        guess = build((random.dirichlet(np.ones(18), len(truth)).astype(np.float32), truth, persons), per=per).oof.argmax(1)
        people = truth.reshape(-1, 7)
        chance = np.array([macro_f1(random.permutation(people).ravel(), guess) for _ in range(30)])
        above.append((macro_f1(truth, guess) - chance.mean()) / chance.std())
    assert np.mean(above) < 3 / np.sqrt(len(above))  # three standard errors


TASKS = {
    "one": Task((Attribute("kind", ("a", "b", "c")),)),
    "two": Task((Attribute("colour", ("red", "blue")), Attribute("glasses", ("yes", "no")))),
    "four": Task(tuple(Attribute(name, tuple("abc"[:size])) for name, size in zip("wxyz", (2, 3, 2, 2), strict=True))),
}


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("name", TASKS)
def test_a_bias_is_fitted_to_any_attributes(name: str, per: str) -> None:
    """The last value of the last attribute is held for too unlikely; per attribute, a bias is a sum over attributes."""
    task, random = TASKS[name], np.random.default_rng(0)
    truth = random.integers(0, task.num_classes, 900)
    last = task.decode(np.arange(task.num_classes))[-1] == task.shape[-1] - 1
    powers = np.exp(random.normal(0, 1.2, (900, task.num_classes)) + 4 * np.eye(task.num_classes)[truth] - 3 * last)
    probs = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    persons = [f"p{i // 6}" for i in range(900)]
    component = Component("decision", "bias", {"per": per}, decision.registry.builders["bias"], task=task)
    made: Decision = component.build(probs, truth, persons)
    assert made.bias is not None and made.bias.shape == (task.num_classes,)
    assert macro_f1(truth, made.oof.argmax(1)) > macro_f1(truth, probs.argmax(1)) + 0.03
    assert made.bias[last].mean() > made.bias[~last].mean() + 1
    basis = attribute_basis(task)
    assert basis.shape == (task.num_classes, sum(task.shape)) and (basis.sum(1) == len(task.shape)).all()
    residual = np.abs(basis @ np.linalg.lstsq(basis, made.bias, rcond=None)[0] - made.bias).max()
    assert (residual < 1e-6) == (per == "attribute" or len(task.shape) == 1)


def test_a_builder_without_a_task_is_built_all_the_same() -> None:
    data = case(0)
    assert Component("decision", "none", {}, decision.registry.builders["none"], task=MASK18).build(*data).oof is data[0]
