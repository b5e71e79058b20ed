"""Wrong labels of single images: a group's images are assigned to its labels, so a swap is found as a swap."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskcls.core.task import IntArray
from maskcls.evaluation.label_votes import Floats, estimate_rate

UNUSUAL = np.log(0.05)  # log-odds that an error changes the usual layout, such as five, one and one of three values
MAX_IMAGES = 1000  # of a group whose swaps are looked for


def find_image_errors(logs: Floats, labels: IntArray, groups: IntArray) -> tuple[Floats, IntArray, float]:
    """Return the log-likelihood ratio of an error in a group's labels, the suggested labels, and the rate of errors.

    The alternative to a group's labels is the better one of: another assignment of the same labels to the images, and
    another label of one image. The second is unusual where the labels have the layout that most groups have.

    Args:
        logs: (N, K) calibrated log-probabilities of images
        labels: (N,) indices of values
        groups: (N,) number of the group, 0 … n − 1

    Returns:
        evidence (n,), labels (N,) of the best alternative, share of groups with an error
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    layouts = [tuple(np.bincount(labels[rows], minlength=logs.shape[1])) for rows in members]
    usual, count = Counter(layouts).most_common(1)[0]
    has_layout = count > len(members) / 2
    suggested, gains = labels.copy(), np.zeros(len(members))
    for i, rows in enumerate(members):
        penalty = UNUSUAL if has_layout and layouts[i] == usual else 0.0
        suggested[rows], gains[i] = best_alternative(logs[rows], labels[rows], penalty)
    return gains, suggested, estimate_rate(gains)


def best_alternative(logs: Floats, labels: IntArray, penalty: float) -> tuple[IntArray, float]:
    """Return the labels (n,) of a group that are the best alternative to the labels, and their log-odds against them.

    All alternatives of a kind are equally probable beforehand; `penalty` are the log-odds of changing one label alone.
    """
    rows = np.arange(len(labels))
    own = logs[rows, labels]
    singles = logs - own[:, None] + penalty - np.log(len(labels) * (logs.shape[1] - 1))
    singles[rows, labels] = -np.inf
    image, value = np.unravel_index(singles.argmax(), singles.shape)
    single = labels.copy()
    single[image] = value
    counts = np.bincount(labels)
    if (num_swaps := (len(labels) ** 2 - (counts**2).sum()) // 2) == 0 or len(labels) > MAX_IMAGES:
        return single, float(singles.max())
    swapped = swap_by_assignment(logs, labels)
    gain = float((logs[rows, swapped] - own).sum() - np.log(num_swaps))
    return (swapped, gain) if gain >= singles.max() else (single, float(singles.max()))


def swap_by_assignment(logs: Floats, labels: IntArray) -> IntArray:
    """Return the most probable assignment (n,) of a group's labels to the images that differs from the labels."""
    choices = logs[:, labels]
    images, slots = linear_sum_assignment(-choices)
    best = labels[slots[np.argsort(images)]]
    if (best != labels).any():
        return best
    own = logs[np.arange(len(labels)), labels]
    gains = choices + choices.T - own[:, None] - own  # of the exchange of two
    gains[labels[:, None] == labels] = -np.inf
    i, j = np.unravel_index(gains.argmax(), gains.shape)
    best[[i, j]] = best[[j, i]]
    return best
