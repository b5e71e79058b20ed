"""Temperatures: what they change, what they never change, and that they are found where they are known."""

from __future__ import annotations

import numpy as np
import pytest

from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.core.task import Attribute, FloatArray, Task
from maskcls.evaluation.metrics import log_loss
from maskcls.evaluation.temperature import (
    Axes,
    Temperatures,
    cross_fit_temperatures,
    fit_mean_temperatures,
    fit_temperatures,
    head_labels,
    head_marginals,
    head_names,
    joint_axes,
)

JOINT = joint_axes(MASK18)
TRIPLE: Axes = ((0,), (1,), (2,))
HEADS = {"single": JOINT, "triple": TRIPLE, "pairs": ((0,), (1, 2))}


def mixtures(rng: np.random.Generator, count: int, members: int) -> FloatArray:
    """Return means of products of heads, (N, 18), as the mean of folds or of views is."""
    parts = [np.exp(rng.normal(0, 2, (members, count, size))) for size in MASK18.shape]
    cubes = [part / part.sum(2, keepdims=True) for part in parts]
    return np.einsum("knm,kng,kna->nmga", *cubes).reshape(count, -1).astype(np.float32) / np.float32(members)


def sampled(rng: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """Return a label drawn from each row."""
    return (probs.cumsum(1) < rng.random((len(probs), 1)) * probs.sum(1, keepdims=True)).sum(1)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("value", [0.1, 0.7, 1.0, 3.0, 10.0])
def test_the_best_value_of_each_head_stays(head: str, value: float) -> None:
    probs, axes = mixtures(np.random.default_rng(0), 500, 4), HEADS[head]
    values = tuple(value * (1 + 0.1 * i) for i in range(len(axes)))
    after = Temperatures(axes, values, MASK18).apply(probs)
    assert after.dtype == np.float32 and (after >= 0).all() and np.allclose(after.sum(1), 1, atol=1e-6)
    for before, marginal, temperature in zip(
        head_marginals(probs, axes, MASK18), head_marginals(after, axes, MASK18), values, strict=True
    ):
        top = np.sort(before, 1)
        clear = top[:, -1] - top[:, -2] > 1e-4  # float32 cannot order nearer ones
        assert clear.sum() > 450 and (marginal.argmax(1) == before.argmax(1))[clear].all()
        powers = before.astype(np.float64) ** (1 / temperature)
        assert np.allclose(marginal, powers / powers.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("head", ["triple", "pairs"])
def test_the_best_value_stays_where_sure_models_disagree(head: str) -> None:
    """Means of five products that are sure of different classes: scaling alone does not reach the marginals."""
    rng, axes = np.random.default_rng(10), HEADS[head]
    parts = [np.exp(rng.normal(0, 12, (5, 400, size))) for size in MASK18.shape]
    cubes = [part / part.sum(2, keepdims=True) for part in parts]
    probs = (np.einsum("knm,kng,kna->nmga", *cubes).reshape(400, -1) / 5).astype(np.float32)
    after = Temperatures(axes, (10.0,) * len(axes), MASK18).apply(probs)
    wide = np.maximum(probs.astype(np.float64), 1e-12)
    for before, marginal in zip(
        *(head_marginals(one, axes, MASK18) for one in (wide / wide.sum(1, keepdims=True), after.astype(np.float64))),
        strict=True,
    ):
        top = np.sort(before, 1)
        clear = top[:, -1] - top[:, -2] > 1e-4
        assert clear.sum() > 250 and (marginal.argmax(1) == before.argmax(1))[clear].all()
        powers = before ** (1 / 10)
        assert np.allclose(marginal, powers / powers.sum(1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_a_temperature_of_one_changes_nothing(head: str) -> None:
    probs, axes = mixtures(np.random.default_rng(1), 200, 3), HEADS[head]
    assert np.allclose(Temperatures(axes, (1.0,) * len(axes), MASK18).apply(probs), probs, atol=1e-7)


def test_a_product_of_heads_remains_one_and_its_class_stays() -> None:
    probs = mixtures(np.random.default_rng(2), 300, 1)
    after = Temperatures(TRIPLE, (0.5, 2.0, 4.0), MASK18).apply(probs)
    mask, gender, age = head_marginals(after.astype(np.float64), TRIPLE, MASK18)
    assert np.allclose(np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(len(after), -1), after, atol=1e-6)
    assert (after.argmax(1) == probs.argmax(1)).all()


def test_certain_and_impossible_classes_stay_finite() -> None:
    probs = np.eye(18, dtype=np.float32)[[0, 5, 17]]
    for axes in HEADS.values():
        for value in (0.1, 1.0, 10.0):
            after = Temperatures(axes, (value,) * len(axes), MASK18).apply(probs)
            assert np.isfinite(after).all() and (after.argmax(1) == [0, 5, 17]).all()
    assert Temperatures(JOINT, (2.0,), MASK18).apply(probs[:0]).shape == (0, 18)


@pytest.mark.parametrize("head", ["single", "triple"])
@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found(head: str, true: float) -> None:
    """Labels are drawn from the probabilities, which are then made too sure, or not sure enough, by a temperature."""
    rng, axes = np.random.default_rng(3), HEADS[head]
    probs = mixtures(rng, 12_000, 1)
    labels = sampled(rng, probs)
    distorted = Temperatures(axes, (1 / true,) * len(axes), MASK18).apply(probs)
    found = fit_temperatures(distorted, labels, axes, MASK18)
    assert found.values == pytest.approx((true,) * len(axes), rel=0.07)
    assert list(found.to_dict()) == head_names(axes, MASK18)
    assert log_loss(labels, found.apply(distorted)) <= log_loss(labels, distorted) + 1e-9


def test_the_fit_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(4)
    probs = mixtures(rng, 400, 1)
    labels = np.where(rng.random(400) < 0.6, probs.argmax(1), rng.integers(0, 18, 400))
    (found,) = fit_temperatures(probs, labels, JOINT, MASK18).values
    grid = np.exp(np.linspace(-2.3, 2.3, 501))
    best = min(grid, key=lambda value: log_loss(labels, Temperatures(JOINT, (float(value),), MASK18).apply(probs)))
    assert found == pytest.approx(best, rel=0.01)


def test_labels_of_heads_are_those_of_classes() -> None:
    labels = np.arange(MASK18.num_classes)
    mask, rest = head_labels(labels, HEADS["pairs"], MASK18)
    assert MASK18.encode(mask, rest // 3, rest % 3).tolist() == labels.tolist()
    assert head_labels(labels, JOINT, MASK18)[0].tolist() == labels.tolist()


def test_a_persons_labels_never_change_their_own_temperature() -> None:
    rng = np.random.default_rng(5)
    probs, persons = mixtures(rng, 140, 1), [f"p{i // 7}" for i in range(140)]
    labels = sampled(rng, probs)
    first = cross_fit_temperatures(probs, labels, persons, TRIPLE, MASK18)
    own = np.array(persons) == "p3"
    second = cross_fit_temperatures(probs, np.where(own, (labels + 7) % 18, labels), persons, TRIPLE, MASK18)
    assert (first[own] == second[own]).all() and (first != second).any()


def test_one_person_cannot_be_cross_fitted() -> None:
    with pytest.raises(ConfigError, match="at least 2 people"):
        cross_fit_temperatures(mixtures(np.random.default_rng(0), 7, 1), np.zeros(7, int), ["p"] * 7, JOINT, MASK18)


def noisy_members(rng: np.random.Generator, logits: np.ndarray, noise: float, members: int) -> np.ndarray:
    """Return the probabilities of models that see the logits with errors of their own, (K, N, 18), far too sure."""
    seen = 2 * (logits + rng.normal(0, noise, (members, *logits.shape)))
    powers = np.exp(seen - seen.max(2, keepdims=True))
    return (powers / powers.sum(2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.5, 1.5])
@pytest.mark.parametrize("head", ["single", "triple"])
def test_the_temperature_of_a_mean_is_found_without_labels_of_it(noise: float, head: str) -> None:
    """Five models with errors of their own: their mean needs a lower temperature than one of them, by log loss."""
    rng, axes = np.random.default_rng(6), HEADS[head]
    logits = 1.5 * np.log(mixtures(rng, 9000, 1))
    truth = np.exp(logits - logits.max(1, keepdims=True))
    labels = sampled(rng, truth / truth.sum(1, keepdims=True))
    models = noisy_members(rng, logits, noise, 5)
    seen, new = np.arange(9000) < 5000, np.arange(9000) >= 5000
    oof = models[np.arange(5000) % 5, np.arange(5000)]  # each row by one model
    mean = models[:, new].mean(0)
    single = fit_temperatures(oof, labels[seen], axes, MASK18)
    found = fit_mean_temperatures(oof, labels[seen], axes, models[:, new], mean, MASK18)
    best = fit_temperatures(mean, labels[new], axes, MASK18)  # what it would be with the labels
    assert all(one > two for one, two in zip(single.values, found.values, strict=True))
    assert found.values == pytest.approx(best.values, rel=0.12)
    losses = [log_loss(labels[new], one.apply(mean)) for one in (best, found, single)]
    assert losses[1] < losses[2] and losses[1] - losses[0] < 0.25 * (losses[2] - losses[0])


def test_equal_models_have_the_temperature_of_one() -> None:
    rng = np.random.default_rng(7)
    probs = mixtures(rng, 3000, 1)
    labels = sampled(rng, probs)
    new = mixtures(rng, 500, 1)
    found = fit_mean_temperatures(probs, labels, TRIPLE, np.stack([new] * 4), new, MASK18)
    assert found.values == pytest.approx(fit_temperatures(probs, labels, TRIPLE, MASK18).values, rel=1e-3)


TASKS = {
    "one": Task((Attribute("kind", ("a", "b", "c", "d")),)),
    "two": Task((Attribute("colour", ("red", "blue")), Attribute("glasses", ("yes", "no")))),
    "four": Task(tuple(Attribute(name, tuple("abcde"[:size])) for name, size in zip("wxyz", (2, 3, 2, 5), strict=True))),
    "many": Task((Attribute("number", tuple(map(str, range(200)))), Attribute("모양", ("둥근 것", "각진 것")))),
}


@pytest.mark.parametrize("name", TASKS)
def test_temperatures_hold_for_any_attributes(name: str) -> None:
    """Each head's marginal is the tempered one, its labels are those of its attributes, and a known value is found."""
    task, rng = TASKS[name], np.random.default_rng(8)
    apart = tuple((axis,) for axis in range(len(task.shape)))
    parts = [np.exp(rng.normal(0, 2, (2000, size))) for size in task.shape]
    probs = np.ones((2000, 1))
    for part in parts:
        probs = (probs[:, :, None] * (part / part.sum(1, keepdims=True))[:, None]).reshape(2000, -1)
    labels = sampled(rng, probs)
    for axes in {apart, joint_axes(task)}:
        names = list(task.names) if len(axes) > 1 else ["class"]
        assert head_names(axes, task) == names
        values = tuple(1.5 + i for i in range(len(axes)))
        after = Temperatures(axes, values, task).apply(probs.astype(np.float32))
        assert after.shape == probs.shape and np.allclose(after.sum(1), 1, atol=1e-5)
        heads = zip(head_marginals(probs, axes, task), head_marginals(after, axes, task), values, strict=True)
        for before, marginal, value in heads:
            powers = before ** (1 / value)
            assert np.allclose(marginal, powers / powers.sum(1, keepdims=True), atol=1e-5)
        found = fit_temperatures(after, labels, axes, task)
        assert found.task == task and list(found.to_dict()) == names
        assert found.values == pytest.approx([1 / value for value in values], rel=0.15)
        for label, axis_labels in zip(head_labels(labels, apart, task), task.decode(labels), strict=True):
            assert label.tolist() == axis_labels.tolist()
        persons = [f"p{i // 4}" for i in range(2000)]
        assert cross_fit_temperatures(after, labels, persons, axes, task).shape == probs.shape
        assert fit_mean_temperatures(after, labels, axes, after[None], after, task).task == task
