"""Classifier heads: one of all classes, or one for each attribute, whose outer product has all classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from maskcls.components.heads.base import Head
from maskcls.components.heads.years import YearsHead
from maskcls.core.errors import ConfigError, join_words
from maskcls.core.registry import Registry
from maskcls.core.schema import ATTRIBUTE_DEFAULT, NonNegativeFloat, PositiveFloat
from maskcls.core.task import Task

registry = Registry("head")
Year = Annotated[int, Field(ge=-(10**6), le=10**6)]
MAX_STEPS = 10_000  # of a distribution over a number


@registry.register
def single(task: Task) -> Head:
    """One head of all classes."""
    return Head(task, axes=(tuple(range(len(task.attributes))),), weights=(1.0,))


@registry.register
def triple(task: Task, **weights: NonNegativeFloat) -> Head:
    """A head for each attribute, such as mask, gender and age, whose losses are summed with these weights.

    Args:
        weights: weight of an attribute's loss, such as head.age=2
    """
    return Head(task, *attribute_parts(task, weights))


@registry.register
def years(
    task: Task, *, shape: Literal["gaussian", "laplace"] = "gaussian", sigma: PositiveFloat = 3.0, low: Year = 10,
    high: Year = 100, border: int | None = None, link: Literal["softmax", "corn"] = "softmax",
    expectation: NonNegativeFloat = 0.0, mean: NonNegativeFloat = 0.0, variance: NonNegativeFloat = 0.0,
    **weights: NonNegativeFloat,
) -> Head:  # fmt: skip
    """A head for each attribute, that of a number, such as age, as a distribution over whole numbers, such as years.

    It reaches from `low` to `high` (the last: or more). The target of a number is a distribution around it: a Gaussian
    (Gao et al. 2017, Deep Label Distribution Learning) or softmax(−distance / sigma) (Díaz & Marathe 2019, Soft Labels
    for Ordinal Regression, SORD); of a class it is the numbers of its training images. `link=corn` predicts for each
    number whether it is higher, given that it is at least that (Shi et al. 2021, CORN); its product is a distribution,
    so any loss applies. The loss can add the absolute error of the expected number (Gao et al. 2018, DLDL-v2), and half
    its squared error and the variance (Pan et al. 2018, Mean-Variance Loss, with weights 0.2 and 0.05).

    Args:
        shape: target of a number: gaussian, or laplace (SORD)
        sigma: width of the target of a number, such as in years: a Gaussian's standard deviation, a Laplace's scale
        low: lowest number of the distribution
        high: highest number of the distribution, which also means more
        border: lowest number of the last class; null: that of the task
        link: logits of the numbers: softmax, or corn, of being higher than each number
        expectation: weight of the absolute error of the expected number (DLDL-v2)
        mean: weight of half the squared error of the expected number (Pan et al. 2018: 0.2)
        variance: weight of the variance of the predicted distribution (Pan et al. 2018: 0.05)
        weights: weight of an attribute's loss, such as head.age=2
    """
    borders = check_years(task, low, high, border)
    return YearsHead(
        task, *attribute_parts(task, weights), low, high, borders, shape, sigma, link, expectation, mean, variance
    )


def attribute_parts(task: Task, weights: Mapping[str, float]) -> tuple[tuple[tuple[int, ...], ...], tuple[float, ...]]:
    """Return a part for each attribute and the weights of their losses."""
    axes = tuple((axis,) for axis in range(len(task.attributes)))
    return axes, tuple(weights.get(name, ATTRIBUTE_DEFAULT) for name in task.names)


def check_years(task: Task, low: int, high: int, border: int | None) -> tuple[float, ...]:
    """Return the borders of the number in training; ConfigError if the distribution does not reach around them."""
    if task.number is None:
        raise ConfigError("head=years needs one attribute of a number, as {column: days, borders: [10]}. "
                          "Set head=triple")  # fmt: skip
    *others, last = task.number.train_borders
    borders = (*others, last if border is None else border)
    if not low < borders[0] or not high >= borders[-1] or not high - low < MAX_STEPS:
        span = f"low={low} and high={high} to reach around the borders {', '.join(f'{b:g}' for b in borders)}"
        raise ConfigError(f"head=years: expected {span} of {task.number.name}, at most {MAX_STEPS} numbers apart")
    if others and not borders[-1] > others[-1]:
        raise ConfigError(f"head.border (years) must be > {others[-1]:g}, got {border}")
    return borders


@registry.task_check(triple)
def check_triple(task: Task, **weights: float) -> None:
    """Raise ConfigError if all weights are 0."""
    check_weights("triple", task, weights)


@registry.task_check(years)
def check_years_head(task: Task, *, low: int, high: int, border: int | None, **params: Any) -> None:
    """Raise ConfigError if all weights are 0, or the distribution does not fit the task's number."""
    check_weights("years", task, params)
    check_years(task, low, high, border)


def check_weights(head: str, task: Task, weights: Mapping[str, float]) -> None:
    """Raise ConfigError if the weights of all attributes are 0."""
    if not any(weights[name] for name in task.names):
        raise ConfigError(f"head={head} needs a weight greater than 0 of {join_words(task.names, 'or')}, got 0 for all")
