"""Calibrated votes: how probable a group's label is, given the predictions of the group's images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logsumexp

from maskcls.core.task import IntArray

MIN_PROB = 1e-6  # of a prediction: no single image can decide alone
COMMON_RATE = 0.01  # of wrong labels: the mode of the prior of the rate, a beta distribution
PRIOR_WEIGHT = 20.0  # units that the prior counts for
OFFSET_SCALE = 0.3  # of the prior of class offsets, a normal distribution
MAX_OFFSETS = 10  # classes up to which each has an offset: of many, each has few labels
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """The calibrated vote of each unit, and what it says of the unit's label."""

    logs: Floats  # (n, K): log-probabilities of the classes
    evidence: Floats  # (n,): log-likelihood ratio of a wrong label to a right one
    rate: float  # of wrong labels, fitted with the calibration


def log_probs(probs: npt.ArrayLike) -> Floats:
    """Return the logarithms of probabilities of any shape, those of impossible classes limited."""
    return np.log(np.maximum(np.asarray(probs, np.float64), MIN_PROB))


def sharpen(probs: Floats) -> Floats:
    """Return squared probabilities (N, K), normalized: images vote nearly with their classes, and none overrules all.

    On drawn and on real people the mean of such votes ranks errors better than the mean of probabilities, of
    log-probabilities, or their median.
    """
    squares = probs**2
    return np.asarray(squares / squares.sum(1, keepdims=True), np.float64)


def calibrate_votes(scores: Floats, labels: IntArray) -> Votes:
    """Fit class offsets, one slope and the rate of wrong labels to noisy labels, by maximum likelihood.

    The slope says how much the vote of a unit's images is worth, so that images that resemble each other are not
    counted as independent ones. The offsets are small unless many labels ask for them. A label is right with
    probability 1 − rate, else any other class: the noise model of Lawrence and Schölkopf (2001), which keeps a few
    wrong labels from flattening the slope.

    Args:
        scores: (n, K) log-probabilities of a vote
        labels: (n,) noisy classes
    """
    rows, num_classes = np.arange(len(labels)), scores.shape[1]
    present = np.bincount(labels, minlength=num_classes) > 0
    num_offsets = num_classes - 1 if num_classes <= MAX_OFFSETS else 0

    def class_logs(params: Floats) -> Floats:
        offsets = np.append(params[2:], 0.0) * present if num_offsets else 0.0
        return np.asarray(log_softmax(np.exp(params[0]) * scores + offsets, axis=1))

    def loss(params: Floats) -> float:
        logs = class_logs(params)
        penalty = float(((params[2:] / OFFSET_SCALE) ** 2).sum() / 2)
        return negative_log_posterior(logs[rows, labels], log_others(logs, labels), params[1]) + penalty

    start = np.array([0.0, np.log(0.01), *np.zeros(num_offsets)])
    bounds = [(-3, 3), (-9, 0), *[(-9, 9)] * num_offsets]
    params = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    logs = class_logs(params)
    return Votes(logs, log_others(logs, labels) - logs[rows, labels], float(expit(params[1])))


def log_others(logs: Floats, labels: IntArray) -> Floats:
    """Return the log-likelihood (n,) of a wrong label: the mean probability that a class other than it is true."""
    others = logs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(logsumexp(others, axis=1) - np.log(max(logs.shape[1] - 1, 1)))


def negative_log_posterior(
    right: Floats, wrong: Floats, rate_logit: float, prior_weight: float = PRIOR_WEIGHT
) -> float:
    """Return the loss of a mixture of right and wrong labels, from the log-likelihoods (n,) of each, with the prior."""
    log_rate, log_rest = -np.logaddexp(0, -rate_logit), -np.logaddexp(0, rate_logit)
    likelihood = np.logaddexp(log_rest + right, log_rate + wrong).sum()
    return float(-likelihood - prior_weight * (COMMON_RATE * log_rate + (1 - COMMON_RATE) * log_rest))


def posterior(evidence: Floats, rate: float) -> Floats:
    """Return the posterior probability (n,) that a label is wrong, from log-likelihood ratios and the rate."""
    return np.asarray(expit(np.log(rate) - np.log1p(-rate) + evidence), np.float64)


def estimate_rate(evidence: Floats, prior_weight: float = PRIOR_WEIGHT) -> float:
    """Return the most probable rate of wrong labels, given their log-likelihood ratios (n,) to right ones."""
    rate = COMMON_RATE
    for _ in range(100):
        found = posterior(evidence, rate).sum()
        rate = float((found + prior_weight * COMMON_RATE) / (len(evidence) + prior_weight))
    return rate
