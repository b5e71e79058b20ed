"""Wrong numbers, such as ages: labels that are far from the predicted number and in another class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import t as student

from maskcls.core.task import Attribute, IntArray
from maskcls.evaluation.label_votes import Floats, negative_log_posterior

WIDTH = 30  # steps between two borders: a step is a year for classes of 30 years
LOWEST_SCALE = 1.0  # steps
BANDWIDTH = 3.0  # steps, of the density of wrong numbers
OUTSIDE = 6  # steps from the outer borders to the typical numbers of the first and the last class
TINY = 1e-12


def number_step(numbers: npt.ArrayLike, attribute: Attribute) -> float:
    """Return the step in which errors of an attribute's numbers are measured: by its borders, else by their spread."""
    borders = attribute.borders
    if len(borders) > 1:
        return (borders[-1] - borders[0]) / (WIDTH * (len(borders) - 1))
    known = np.asarray(numbers, float)
    spread = float(known[~np.isnan(known)].std()) if not np.isnan(known).all() else 0.0
    return spread / (WIDTH * 0.6) or abs(borders[0]) / WIDTH or 1.0


def num_decimals(attribute: Attribute) -> int:
    """Return the decimals that the borders of an attribute have, at most 6."""
    return next((n for n in range(6) if all(round(border, n) == border for border in attribute.borders)), 6)


def fit_into_class(numbers: Floats, classes: IntArray, attribute: Attribute) -> npt.NDArray[np.generic]:
    """Return the numbers (n,) of given classes that are closest, with the borders' decimals; integers without any."""
    decimals = num_decimals(attribute)
    bounds = np.array([attribute.limits[0], *attribute.borders, attribute.limits[1] + 10**-decimals])
    found = np.clip(np.round(numbers, decimals), bounds[classes], bounds[classes + 1] - 10**-decimals)
    return found.astype(np.int64) if decimals == 0 else np.round(found, decimals)


def typical_numbers(numbers: npt.ArrayLike, attribute: Attribute) -> npt.NDArray[np.generic]:
    """Return a number within each class, (K,), for tables whose numbers are unknown."""
    borders, outside = np.array(attribute.borders, float), OUTSIDE * number_step(numbers, attribute)
    middle = [borders[0] - outside, *(borders[:-1] + borders[1:]) / 2, borders[-1] + outside]
    return fit_into_class(np.array(middle), np.arange(len(middle)), attribute)


@dataclass(frozen=True)
class NumberModel:
    """Predicted number of each unit: a t distribution around a linear function of its features."""

    center: Floats  # (n,) steps
    scale: Floats  # (n,) steps
    freedom: float
    rate: float  # of wrong numbers
    attribute: Attribute
    step: float

    @property
    def half(self) -> float:
        """Half of the distance of two labels, in steps."""
        return 10 ** -num_decimals(self.attribute) / 2 / self.step

    def log_likelihood(self, numbers: Floats, is_open: np.ndarray) -> Floats:
        """Return the log-probability (n,) of labels, in steps, that are right; an open-ended one is any larger one."""
        density = student.logpdf((numbers - self.center) / self.scale, self.freedom) - np.log(self.scale)
        tail = student.logsf((numbers - self.half - self.center) / self.scale, self.freedom)
        return np.maximum(np.where(is_open, tail, density), -700.0)

    def class_probs(self) -> Floats:
        """Return the probabilities (n, K) of the classes."""
        borders = np.array(self.attribute.borders) / self.step - self.half
        below = student.cdf((borders - self.center[:, None]) / self.scale[:, None], self.freedom)
        return np.diff(below, prepend=0.0, append=1.0, axis=1)


def find_number_errors(features: Floats, labels: Floats, attribute: Attribute) -> tuple[Floats, NumberModel]:
    """Return the log-likelihood ratio (n,) of a wrong label to a right one, and the fitted model.

    A right label follows the prediction, with errors as large as the data shows; a wrong one is a number of any unit.
    Nothing is learned of classes here, so that 29 for 31 is as right as 24 for 26.

    Args:
        features: (n, d) predictors of the number, such as the expected number
        labels: (n,) labels; the maximum, if it begins the last class, means this number or more
        attribute: the attribute that is made of the number
    """
    is_open = (labels == labels.max()) & (labels == attribute.borders[-1])
    step = number_step(labels, attribute)
    numbers = labels / step
    design = np.column_stack([np.ones(len(numbers)), (features - features.mean(0)) / (features.std(0) + 1e-9)])
    first = np.linalg.lstsq(design, numbers, rcond=None)[0]
    trend = design @ first
    trend = (trend - trend.mean()) / (trend.std() + 1e-9)
    wrong = np.log(wrong_density(numbers, is_open, attribute.bin(labels)))
    num = design.shape[1]

    def build(params: Floats) -> NumberModel:
        scale = LOWEST_SCALE + np.exp(params[num] + params[num + 1] * trend)
        freedom, rate = 2 + float(np.exp(params[num + 2])), float(expit(params[-1]))
        return NumberModel(design @ params[:num], scale, freedom, rate, attribute, step)

    def loss(params: Floats) -> float:
        right = build(params).log_likelihood(numbers, is_open)
        return negative_log_posterior(right, wrong, params[-1], prior_weight=len(numbers) / 2)  # many are honest

    start = np.array([*first, np.log(5.0), 0.0, np.log(4.0), np.log(0.01)])
    limit = max(200.0, 2 * float(np.abs(first[0])))
    bounds = [*[(-limit, limit)] * num, (-2, 4), (-1, 1), (-1, 4), (-9, 0)]
    model = build(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)
    return wrong - model.log_likelihood(numbers, is_open), model


def wrong_density(numbers: Floats, is_open: np.ndarray, classes: IntArray) -> Floats:
    """Return the density (n,) per step of wrong labels: numbers of other units, half of the time with equal classes."""
    counts = np.bincount(classes)
    weights = 0.5 / len(numbers) + 0.5 / (counts[classes] * (counts > 0).sum())
    values, index = np.unique(np.round(numbers, 1), return_inverse=True)  # the kernel is that of few numbers, not of n
    sums = np.bincount(index, weights * ~is_open, len(values))
    kernel = np.exp(-(((values[:, None] - values) / BANDWIDTH) ** 2) / 2) / (BANDWIDTH * np.sqrt(2 * np.pi))
    return np.where(is_open, weights[is_open].sum(), np.maximum((kernel @ sums)[index], TINY))


def suggest_numbers(model: NumberModel, labels: Floats) -> npt.NDArray[np.generic]:
    """Return the number (n,) that is closest to the prediction within the most probable other class."""
    probs = model.class_probs()
    probs[np.arange(len(labels)), model.attribute.bin(labels)] = -1
    return fit_into_class(model.center * model.step, probs.argmax(1), model.attribute)
