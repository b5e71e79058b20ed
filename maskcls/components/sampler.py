"""The order in which an epoch sees the training rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from maskcls.core.registry import Registry
from maskcls.core.schema import UnitInterval
from maskcls.core.task import IntArray

registry = Registry("sampler")
Order = Callable[[np.random.Generator], IntArray]


@registry.register
def shuffle(labels: IntArray) -> Order:
    """Return each row once, in random order."""
    return lambda random: random.permutation(len(labels))


@registry.register
def weighted(labels: IntArray, *, power: UnitInterval = 1.0) -> Order:
    """Draw rows with replacement, with odds 1 / (photos of the class)^power: 1 balances the classes, 0 does nothing."""
    if not power:
        return shuffle(labels)
    odds = 1.0 / np.bincount(labels)[labels] ** power
    odds /= odds.sum()
    return lambda random: random.choice(len(labels), len(labels), p=odds)
