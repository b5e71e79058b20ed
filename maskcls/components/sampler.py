"""Samplers: the order of the training rows in an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskcls.core.registry import Registry
from maskcls.core.schema import UnitInterval
from maskcls.core.task import IntArray

registry = Registry("sampler")
SampleOrder = Callable[[np.random.Generator], IntArray]


@registry.register
def shuffle(labels: IntArray) -> SampleOrder:
    """Visit each row once, in random order."""
    return lambda rng: rng.permutation(len(labels))


@registry.register
def weighted(labels: IntArray, *, power: UnitInterval = 1.0) -> SampleOrder:
    """Sample with replacement, with weights 1 / (class count)^power: 1 balances the classes, 0 is shuffle."""
    if not power:
        return shuffle(labels)
    weights = 1.0 / np.bincount(labels)[labels] ** power
    weights /= weights.sum()
    return lambda rng: rng.choice(len(labels), len(labels), p=weights)
