"""Wrong masks: the images of a person are assigned to the person's masks, so a swap is found as a swap."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.optimize import linear_sum_assignment

from maskcls.core.task import MASKS, IntArray
from maskcls.evaluation.label_votes import Floats, estimate_rate

UNUSUAL = np.log(0.05)  # log-odds that an error changes the usual layout, such as five worn, one incorrect and one none


def find_mask_errors(logs: Floats, masks: IntArray, persons: IntArray) -> tuple[Floats, IntArray, float]:
    """Return the log-likelihood ratio of an error in a person's masks, the suggested masks, and the rate of errors.

    The alternative to a person's labels is the better one of: another assignment of the same masks to the images, and
    another mask of one image. The second is unusual where the labels have the layout that most people have.

    Args:
        logs: (N, 3) calibrated log-probabilities of images
        masks: (N,) labels
        persons: (N,) number of the person, 0 … n − 1

    Returns:
        evidence (n,), masks (N,) of the best alternative, share of people with an error
    """
    order = np.argsort(persons, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(persons))[:-1])
    layouts = [tuple(np.bincount(masks[rows], minlength=len(MASKS))) for rows in groups]
    usual, count = Counter(layouts).most_common(1)[0]
    has_layout = count > len(groups) / 2
    suggested, gains = masks.copy(), np.zeros(len(groups))
    for i, rows in enumerate(groups):
        penalty = UNUSUAL if has_layout and layouts[i] == usual else 0.0
        suggested[rows], gains[i] = best_alternative(logs[rows], masks[rows], penalty)
    return gains, suggested, estimate_rate(gains)


def best_alternative(logs: Floats, masks: IntArray, penalty: float) -> tuple[IntArray, float]:
    """Return the masks (n,) of a person that are the best alternative to the labels, and their log-odds against them.

    All alternatives of a kind are equally probable beforehand; `penalty` are the log-odds of changing one mask alone.
    """
    rows = np.arange(len(masks))
    own = logs[rows, masks]
    singles = logs - own[:, None] + penalty - np.log(len(masks) * (len(MASKS) - 1))
    singles[rows, masks] = -np.inf
    image, value = np.unravel_index(singles.argmax(), singles.shape)
    single = masks.copy()
    single[image] = value
    counts = np.bincount(masks)
    if (num_swaps := (len(masks) ** 2 - (counts**2).sum()) // 2) == 0:
        return single, float(singles.max())
    swapped = swap_by_assignment(logs, masks)
    gain = float((logs[rows, swapped] - own).sum() - np.log(num_swaps))
    return (swapped, gain) if gain >= singles.max() else (single, float(singles.max()))


def swap_by_assignment(logs: Floats, masks: IntArray) -> IntArray:
    """Return the most probable assignment (n,) of a person's masks to the images that differs from the labels."""
    choices = logs[:, masks]
    images, slots = linear_sum_assignment(-choices)
    best = masks[slots[np.argsort(images)]]
    if (best != masks).any():
        return best
    own = logs[np.arange(len(masks)), masks]
    gains = choices + choices.T - own[:, None] - own  # of the exchange of two
    gains[masks[:, None] == masks] = -np.inf
    i, j = np.unravel_index(gains.argmax(), gains.shape)
    best[[i, j]] = best[[j, i]]
    return best
