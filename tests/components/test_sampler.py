"""Samplers: shuffling, weighted sampling and groups by person of the rows of an epoch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcls.components.sampler import build_order, group_size, person, registry, shuffle, weighted
from maskcls.core.competition import MASK18
from maskcls.core.registry import Component

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


@pytest.mark.parametrize("name", registry.builders)
def test_an_order_depends_on_its_generator_alone(name: str) -> None:
    params = {"images": 2} if name == "person" else {}
    order = build_order(Component("sampler", name, params, registry.builders[name], task=MASK18), LABELS, np.arange(100) // 7)
    assert np.array_equal(order(np.random.default_rng(5)), order(np.random.default_rng(5)))


PEOPLE = st.lists(st.integers(1, 30), min_size=1, max_size=25)  # images of each person


@settings(max_examples=150, deadline=None)
@given(PEOPLE, st.integers(1, 8), st.integers(0, 9))
def test_each_row_comes_once_and_each_person_in_whole_groups(counts: list[int], images: int, seed: int) -> None:
    people = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = person(people, people, images=images)(np.random.default_rng(seed))
    assert sorted(order) == list(range(len(people)))
    groups = people[order][: len(people) // images * images].reshape(-1, images)
    whole = groups[(groups == groups[:, :1]).all(1), 0]
    assert (np.bincount(whole, minlength=len(counts)) >= np.array(counts) // images).all()
    mixed = [*itertools.chain(*(group for group in groups if len(set(group)) > 1)), *people[order][groups.size :]]
    assert (np.bincount(np.array(mixed, int), minlength=len(counts)) < images).all(), "more than a remainder is mixed"


@pytest.mark.parametrize("images", [2, 3, 4])
def test_what_remains_of_a_person_stays_together_and_people_and_their_images_change_places(images: int) -> None:
    people = np.repeat(np.arange(40), 7)
    orders = [person(people, people, images=images)(np.random.default_rng(seed)) for seed in range(40)]
    runs = [[len(list(rows)) for _, rows in itertools.groupby(people[order])] for order in orders]
    assert max(map(len, runs)) <= 40 * (7 // images) + 80  # a remainder is split between two groups at most
    assert len({order[0] for order in orders}) > 20 and len({tuple(order[people[order] == 3]) for order in orders}) > 35


@pytest.mark.parametrize(("num_people", "count", "images"), [(30, 8, 2), (30, 8, 1), (50, 12, 4), (30, 8, 8)])
def test_groups_of_one_person_are_spread_evenly_over_the_epoch(num_people: int, count: int, images: int) -> None:
    people = np.repeat(np.arange(num_people), count)
    order = person(people, people, images=images)(np.random.default_rng(0))
    for part in people[order].reshape(count // images, -1):
        assert (np.bincount(part, minlength=num_people) == images).all()


def test_a_person_with_most_of_the_images_is_in_no_part_of_the_epoch_alone() -> None:
    people = np.repeat(np.arange(61), [140, *[4] * 60])
    first = people[person(people, people, images=2)(np.random.default_rng(0))] == 0
    assert all(40 <= part.sum() <= 100 for part in np.split(first, [190]))


def test_images_without_a_person_are_shuffled() -> None:
    people = np.arange(30)
    order, rng = person(people, people, images=4), np.random.default_rng(0)
    firsts = {tuple(order(rng)) for _ in range(5)}
    assert len(firsts) == 5 and all(sorted(rows) == list(range(30)) for rows in firsts)


def test_a_builder_gets_the_people_if_it_takes_them() -> None:
    def labels_alone(labels, *, images: int = 9): return lambda rng: labels  # type: ignore[no-untyped-def]
    def both(labels, people): return lambda rng: people  # type: ignore[no-untyped-def]
    def all_inputs(*inputs): return lambda rng: inputs[1]  # type: ignore[no-untyped-def]

    labels, people, rng = np.array([3, 3]), np.array([0, 1]), np.random.default_rng(0)
    for build, expected in ((labels_alone, labels), (both, people), (all_inputs, people)):
        component = Component("sampler", build.__name__, {}, build, task=MASK18)
        assert build_order(component, labels, people)(rng) is expected and group_size(component) == 1
    assert group_size(Component("sampler", "person", {"images": 4}, person, task=MASK18)) == 4
