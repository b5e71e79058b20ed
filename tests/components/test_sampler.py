"""Samplers: shuffling and weighted sampling of the rows of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from maskcls.components.sampler import shuffle, weighted

LABELS = np.repeat([0, 3, 4, 17], [60, 25, 10, 5])


def drawn(power: float, epochs: int = 200) -> np.ndarray:
    """Return how often each row is drawn."""
    order, random = weighted(LABELS, power=power), np.random.default_rng(0)
    return sum(np.bincount(order(random), minlength=len(LABELS)) for _ in range(epochs))


def assert_within(counts: np.ndarray, odds: np.ndarray) -> None:
    """Hold counts to odds within five standard deviations of the binomial."""
    n = counts.sum()
    sd = np.sqrt(n * odds * (1 - odds))
    assert (np.abs(counts - n * odds) < 5 * sd).all()


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_classes_are_drawn_with_odds_against_their_frequency(power: float) -> None:
    photos = np.array([60, 25, 10, 5])
    odds = photos ** (1 - power)
    counts = np.bincount(LABELS, drawn(power))[[0, 3, 4, 17]]
    assert_within(counts, odds / odds.sum())


def test_power_nought_draws_each_row_alike() -> None:
    assert_within(drawn(0.0), np.full(len(LABELS), 1 / len(LABELS)))


def test_rows_of_one_class_are_drawn_alike() -> None:
    rows = drawn(1.0)[:60]
    assert_within(rows, np.full(60, 1 / 60))


def test_an_epoch_has_as_many_draws_as_rows_and_repeats_some() -> None:
    order = weighted(LABELS)(np.random.default_rng(0))
    assert len(order) == len(LABELS) and order.min() >= 0 and order.max() < len(LABELS)
    assert len(np.unique(order)) < len(LABELS)


def test_shuffle_has_each_row_once() -> None:
    order, random = shuffle(LABELS), np.random.default_rng(0)
    first, second = order(random), order(random)
    assert sorted(first) == sorted(second) == list(range(len(LABELS)))
    assert list(first) != list(second)


@pytest.mark.parametrize("build", [shuffle, weighted])
def test_an_order_depends_on_its_generator_alone(build) -> None:  # type: ignore[no-untyped-def]
    order = build(LABELS)
    assert np.array_equal(order(np.random.default_rng(5)), order(np.random.default_rng(5)))
