"""Calibrated votes: how probable a person's label is, given the predictions of the person's images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logsumexp

from maskcls.core.task import IntArray

MIN_PROB = 1e-6  # of a prediction: no single image can decide alone
RATE_PRIOR = (2.0, 100.0)  # of the rate of errors, a beta distribution with its mode at 1 %
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """The calibrated vote of each unit, and what it says of the unit's label."""

    logs: Floats  # (n, K): log-probabilities of the classes
    evidence: Floats  # (n,): log-likelihood ratio of a wrong label to a right one
    rate: float  # of wrong labels, fitted with the calibration


def mean_log_probs(probs: npt.ArrayLike, units: IntArray, num_units: int) -> Floats:
    """Return the mean log-probabilities (n, K) of the images (N, K) of each unit, `units` (N,) numbering 0 … n − 1."""
    logs = np.log(np.maximum(np.asarray(probs, np.float64), MIN_PROB))
    sums = np.stack([np.bincount(units, column, num_units) for column in logs.T], 1)
    return np.asarray(sums / np.bincount(units, minlength=num_units)[:, None], np.float64)


def calibrate_votes(scores: Floats, labels: IntArray) -> Votes:
    """Fit class offsets, one slope and the rate of wrong labels to noisy labels, by maximum likelihood.

    The slope says how much the mean log-probability of a unit's images is worth: with independent images it would be
    their number, with copies of one image 1. A label is right with probability 1 − rate, else any other class: the
    noise model of Lawrence and Schölkopf (2001), which keeps a few wrong labels from flattening the slope.

    Args:
        scores: (n, K) mean log-probabilities
        labels: (n,) noisy classes
    """
    rows, num_classes = np.arange(len(labels)), scores.shape[1]
    present = np.bincount(labels, minlength=num_classes) > 0

    def log_probs(params: Floats) -> Floats:
        offsets = np.append(params[2:], 0.0) * present
        return np.asarray(log_softmax(np.exp(params[0]) * scores + offsets, axis=1))

    def loss(params: Floats) -> float:
        logs = log_probs(params)
        return negative_log_posterior(logs[rows, labels], log_others(logs, labels), params[1])

    start = np.array([0.0, np.log(0.01), *np.zeros(num_classes - 1)])
    bounds = [(-3, 3), (-9, 0), *[(-9, 9)] * (num_classes - 1)]
    params = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    logs = log_probs(params)
    return Votes(logs, log_others(logs, labels) - logs[rows, labels], float(expit(params[1])))


def log_others(logs: Floats, labels: IntArray) -> Floats:
    """Return the log-likelihood (n,) of a wrong label: the mean probability that a class other than it is true."""
    others = logs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return np.asarray(logsumexp(others, axis=1) - np.log(max(logs.shape[1] - 1, 1)))


def negative_log_posterior(right: Floats, wrong: Floats, rate_logit: float) -> float:
    """Return the loss of a mixture of right and wrong labels, from the log-likelihoods (n,) of each, with the prior."""
    log_rate, log_rest = -np.logaddexp(0, -rate_logit), -np.logaddexp(0, rate_logit)
    likelihood = np.logaddexp(log_rest + right, log_rate + wrong).sum()
    return float(-likelihood - (RATE_PRIOR[0] - 1) * log_rate - (RATE_PRIOR[1] - 1) * log_rest)


def posterior(right: Floats, wrong: Floats, rate: float) -> Floats:
    """Return the posterior probability (n,) that a label is wrong, from the log-likelihoods of right and wrong."""
    return np.asarray(expit(np.log(rate) - np.log1p(-rate) + wrong - right), np.float64)


def estimate_rate(right: Floats, wrong: Floats) -> float:
    """Return the most probable rate of wrong labels, given the log-likelihoods (n,) of right and wrong ones."""
    rate = 0.01
    for _ in range(100):
        found = posterior(right, wrong, rate).sum()
        rate = float((found + RATE_PRIOR[0] - 1) / (len(right) + sum(RATE_PRIOR) - 2))
    return rate
