"""Classifier heads: one of 18 classes, or three (mask, gender, age or years) whose outer product has 18 classes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from maskcls.components.heads.base import Head
from maskcls.components.heads.years import YearsHead
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, PositiveFloat
from maskcls.core.task import AGE_THRESHOLDS

registry = Registry("head")


@registry.register
def single() -> Head:
    """One head of 18 classes."""
    return Head(axes=((0, 1, 2),), weights=(1.0,))


@registry.register
def triple(*, mask: NonNegativeFloat = 1.0, gender: NonNegativeFloat = 1.0, age: NonNegativeFloat = 1.0) -> Head:
    """Three heads, mask (3), gender (2) and age (3), whose losses are summed with these weights.

    Args:
        mask: weight of the mask loss
        gender: weight of the gender loss
        age: weight of the age loss
    """
    return Head(axes=((0,), (1,), (2,)), weights=(mask, gender, age))


@registry.register
def years(
    *, mask: NonNegativeFloat = 1.0, gender: NonNegativeFloat = 1.0, age: NonNegativeFloat = 1.0,
    shape: Literal["gaussian", "laplace"] = "gaussian", sigma: PositiveFloat = 3.0,
    low: Annotated[int, Field(ge=0, lt=AGE_THRESHOLDS[0])] = 10,
    high: Annotated[int, Field(ge=AGE_THRESHOLDS[1], le=150)] = 100,
    border: Annotated[int, Field(gt=AGE_THRESHOLDS[0], le=AGE_THRESHOLDS[1])] = AGE_THRESHOLDS[1],
    link: Literal["softmax", "corn"] = "softmax", expectation: NonNegativeFloat = 0.0, mean: NonNegativeFloat = 0.0,
    variance: NonNegativeFloat = 0.0,
) -> Head:  # fmt: skip
    """Three heads, mask (3), gender (2) and years of age, a distribution from `low` to `high` (the last: or older).

    The target of an age is a distribution around it: a Gaussian (Gao et al. 2017, Deep Label Distribution Learning) or
    softmax(−distance / sigma) (Díaz & Marathe 2019, Soft Labels for Ordinal Regression, SORD); of an age class it is
    the years of its training images. `link=corn` predicts for each year whether the age is higher, given that it is at
    least that year (Shi et al. 2021, CORN); its product over the years is a distribution, so any loss applies. The
    loss can add the absolute error of the expected age (Gao et al. 2018, DLDL-v2), and half its squared error and the
    variance (Pan et al. 2018, Mean-Variance Loss, with weights 0.2 and 0.05).

    Args:
        mask: weight of the mask loss
        gender: weight of the gender loss
        age: weight of the age loss
        shape: target of an age: gaussian, or laplace (SORD)
        sigma: width of the target of an age, in years: a Gaussian's standard deviation, a Laplace target's scale
        low: lowest year of the distribution
        high: highest year of the distribution, which also means older
        border: lowest age in years of the oldest class
        link: logits of the years: softmax, or corn, of being older than each year
        expectation: weight of the absolute error of the expected age (DLDL-v2)
        mean: weight of half the squared error of the expected age (Pan et al. 2018: 0.2)
        variance: weight of the variance of the predicted age (Pan et al. 2018: 0.05)
    """
    return YearsHead(
        ((0,), (1,), (2,)), (mask, gender, age), low, high, border, shape, sigma, link, expectation, mean, variance
    )
