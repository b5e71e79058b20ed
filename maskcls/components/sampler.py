"""Samplers: the order of the training rows in an epoch.

A builder receives the labels of the training rows and, if it takes a second input, the number of each row's person.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from maskcls.core.registry import Component, Registry, positional_names
from maskcls.core.schema import PositiveInt, UnitInterval
from maskcls.core.task import IntArray

registry = Registry("sampler", optional=("people",))
SampleOrder = Callable[[np.random.Generator], IntArray]
REST = -1  # in place of a person: images that remain after whole groups


@registry.register
def shuffle(labels: IntArray) -> SampleOrder:
    """Visit each row once, in random order."""
    return lambda rng: rng.permutation(len(labels))


@registry.register
def weighted(labels: IntArray, *, power: UnitInterval = 1.0) -> SampleOrder:
    """Sample with replacement, with weights 1 / (class count)^power: 1 balances the classes, 0 is shuffle.

    Args:
        power: strength of the balancing: 1 balances the classes, 0 is shuffle
    """
    if not power:
        return shuffle(labels)
    weights = 1.0 / np.bincount(labels)[labels] ** power
    weights /= weights.sum()
    return lambda rng: rng.choice(len(labels), len(labels), p=weights)


@registry.register
def person(labels: IntArray, people: IntArray, *, images: PositiveInt = 2) -> SampleOrder:
    """Visit each row once, in groups of `images` of one person (P × K batches, Hermans et al. 2017, Triplet Loss).

    A batch holds batch_size / images groups, and those of one person are spread evenly over the epoch. The images that
    remain after whole groups, such as an image without a person, fill further groups, one person after the other.

    Args:
        images: images of one person in a group; it divides batch_size (per rank)
    """

    def order(rng: np.random.Generator) -> IntArray:
        rows = rng.permutation(len(people))
        rows = rows[np.argsort(rng.permutation(people.max() + 1)[people[rows]], kind="stable")]
        index, count = place_in_run(people[rows])
        owners = np.where(index < count // images * images, people[rows], REST)
        last = np.argsort(owners == REST, kind="stable")
        groups = rows[last][: len(rows) // images * images].reshape(-1, images)
        index, count = place_in_run(owners[last][: groups.size : images])
        time = (index + rng.random(len(groups))) / count  # in the epoch, 0 to 1
        return np.concatenate([groups[np.argsort(time)].ravel(), rows[last][groups.size :]])

    return order


def place_in_run(owners: IntArray) -> tuple[IntArray, IntArray]:
    """Return for each element its index among those of the same owner, and their number."""
    by_owner = pd.Series(owners).groupby(owners)
    return by_owner.cumcount().to_numpy().astype(np.int64), by_owner.transform("size").to_numpy().astype(np.int64)


def build_order(sampler: Component, labels: IntArray, people: IntArray) -> SampleOrder:
    """Return the order of a config's sampler; a builder of one input gets the labels alone."""
    names = positional_names(sampler.builder)
    order: SampleOrder = sampler.build(labels) if len(names) == 1 else sampler.build(labels, people)
    return order


def group_size(sampler: Component) -> int:
    """Return the number of rows in an order that stay together, in one batch and on one rank."""
    return int(sampler.params["images"]) if sampler.builder is person else 1
