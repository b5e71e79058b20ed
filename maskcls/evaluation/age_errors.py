"""Wrong ages: labels that are far from the predicted age and in another class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student

from maskcls.core.task import AGE_THRESHOLDS, AGES, IntArray, bin_age
from maskcls.evaluation.label_votes import Floats, negative_log_posterior

LOWEST_SCALE = 1.0  # years
BANDWIDTH = 3.0  # years, of the density of wrong ages
TINY = 1e-12


@dataclass(frozen=True)
class AgeModel:
    """Predicted age of each unit: a t distribution around a linear function of its features."""

    center: Floats  # (n,) years
    scale: Floats  # (n,) years
    freedom: float
    rate: float  # of wrong ages

    def log_likelihood(self, ages: Floats, is_open: np.ndarray) -> Floats:
        """Return the log-probability (n,) of labels, in years, that are right; an open-ended age is any later one."""
        density = student.logpdf((ages - self.center) / self.scale, self.freedom) - np.log(self.scale)
        tail = student.logsf((ages - 0.5 - self.center) / self.scale, self.freedom)
        return np.maximum(np.where(is_open, tail, density), -700.0)

    def class_probs(self) -> Floats:
        """Return the probabilities (n, 3) of the age classes."""
        borders = np.array(AGE_THRESHOLDS) - 0.5
        below = student.cdf((borders - self.center[:, None]) / self.scale[:, None], self.freedom)
        return np.diff(below, prepend=0.0, append=1.0, axis=1)


def find_age_errors(features: Floats, ages: Floats) -> tuple[Floats, AgeModel]:
    """Return the log-likelihood ratio (n,) of a wrong label to a right one, and the fitted model.

    A right label follows the prediction, with errors as large as the data shows; a wrong one is an age of anybody.
    Nothing is learned of classes here, so that 29 for 31 is as right as 24 for 26.

    Args:
        features: (n, d) predictors of the age, such as the expected age
        ages: (n,) labels in years; the maximum, if it begins the oldest class, means this age or older
    """
    is_open = (ages == ages.max()) & (ages == AGE_THRESHOLDS[-1])
    design = np.column_stack([np.ones(len(ages)), (features - features.mean(0)) / (features.std(0) + 1e-9)])
    first = np.linalg.lstsq(design, ages, rcond=None)[0]
    trend = design @ first
    trend = (trend - trend.mean()) / (trend.std() + 1e-9)
    wrong = np.log(wrong_age_density(ages, is_open))
    num = design.shape[1]

    def build(params: Floats) -> AgeModel:
        scale = LOWEST_SCALE + np.exp(params[num] + params[num + 1] * trend)
        return AgeModel(design @ params[:num], scale, 2 + float(np.exp(params[num + 2])), float(expit(params[-1])))

    def loss(params: Floats) -> float:
        right = build(params).log_likelihood(ages, is_open)
        return negative_log_posterior(right, wrong, params[-1], prior_weight=len(ages) / 2)  # many are honest

    start = np.array([*first, np.log(5.0), 0.0, np.log(4.0), np.log(0.01)])
    bounds = [*[(-200, 200)] * num, (-2, 4), (-1, 1), (-1, 4), (-9, 0)]
    model = build(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    return wrong - model.log_likelihood(ages, is_open), model


def wrong_age_density(ages: Floats, is_open: np.ndarray) -> Floats:
    """Return the density (n,) per year of wrong labels: ages of people, half of the time with equal age classes."""
    classes = bin_age(ages)
    counts = np.bincount(classes, minlength=len(AGES))
    weights = 0.5 / len(ages) + 0.5 / (counts[classes] * (counts > 0).sum())
    values, index = np.unique(np.round(ages, 1), return_inverse=True)  # the kernel is that of few ages, not of n people
    sums = np.bincount(index, weights * ~is_open, len(values))
    kernel = np.exp(-(((values[:, None] - values) / BANDWIDTH) ** 2) / 2) / (BANDWIDTH * np.sqrt(2 * np.pi))
    return np.where(is_open, weights[is_open].sum(), np.maximum((kernel @ sums)[index], TINY))


def suggest_ages(model: AgeModel, ages: Floats) -> IntArray:
    """Return the age in years (n,) that is closest to the prediction within the most probable other class."""
    probs = model.class_probs()
    probs[np.arange(len(ages)), bin_age(ages)] = -1
    bounds = np.array([0, *AGE_THRESHOLDS, 121])
    best = probs.argmax(1)
    return np.clip(np.round(model.center), bounds[best], bounds[best + 1] - 1).astype(np.int64)
