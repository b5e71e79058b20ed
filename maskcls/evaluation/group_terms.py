"""Sums over images from which the scores of a group follow, and the attributes whose combinations are groups."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskcls.core.table import group_axes
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.calibration import BINS, calibration_terms, expected_calibration_error

Sums = npt.NDArray[np.float64]
NUM_REST = 4 + BINS  # terms after those of the classes
JOIN = " × "  # names of attributes


def score_terms(
    labels: IntArray, preds: IntArray, truth: IntArray, probs: FloatArray, covered: npt.NDArray[np.bool_],
    num_classes: int,
) -> Sums:  # fmt: skip
    """Return terms (N, …) whose sums over the images of a group determine its scores.

    `labels` and `preds` (N,) are the `num_classes` classes of F1; `truth` (N,) and `probs` (N, C) give accuracy and
    calibration; `covered` (N,) is True where a prediction set has the class.
    """
    rows, counts = np.arange(len(labels)), np.zeros((len(labels), 3, num_classes))
    counts[rows, 0, labels] = labels == preds
    counts[rows, 1, labels] = counts[rows, 2, preds] = 1
    outcomes = np.stack([probs.argmax(1) == truth, covered], 1)
    return np.hstack([counts.reshape(len(labels), 3 * num_classes), outcomes, calibration_terms(truth, probs)])


def scores_of_totals(totals: Sums) -> dict[str, npt.NDArray[Any]]:
    """Return the scores (K,) of the sums of terms, (K, …)."""
    counts, rest = np.split(totals, [totals.shape[1] - NUM_REST], axis=1)
    num_images = rest[:, 2]
    return {
        "f1": own_f1(counts.reshape(len(counts), 3, -1)), "accuracy": rest[:, 0] / num_images,
        "calibration_error": expected_calibration_error(rest[:, 2:]), "covered": rest[:, 1] / num_images,
    }  # fmt: skip


def own_f1(counts: Sums) -> npt.NDArray[Any]:
    """Return the mean F1 (K,) over the classes among the labels, from true positives, labels and predictions.

    A class that is only predicted does not count, as it would in macro F1: every group would otherwise be punished for
    the classes that its people cannot have.
    """
    true_positives, labels, preds = np.moveaxis(counts, 1, 0)
    present = labels > 0
    return (2 * true_positives / np.maximum(labels + preds, 1) * present).sum(1) / np.maximum(present.sum(1), 1)


@dataclass(frozen=True)
class AttributeSplit:
    """The attributes of people, whose combinations are groups, and those whose classes F1 is over within a group."""

    axes: tuple[int, ...]  # of the attributes of people
    task: Task

    @classmethod
    def of(cls, labels: IntArray, person_ids: npt.NDArray[Any], task: Task) -> AttributeSplit:
        """Return the split that the task names or the data shows; if all attributes are of people, the first is not."""
        axes = group_axes(np.stack(task.decode(labels), 1), person_ids.tolist(), task)
        return cls(axes if len(axes) < len(task.names) else axes[1:], task)

    @property
    def column(self) -> str:
        """The name of the groups, such as part × side."""
        return JOIN.join(self.task.names[axis] for axis in self.axes)

    @functools.cached_property
    def names(self) -> list[str]:
        """The combinations of the values, in their order."""
        return [" ".join(values) for values in itertools.product(*(self.task.attributes[i].values for i in self.axes))]

    def combinations(self, labels: IntArray) -> IntArray:
        """Return the combination (N,) of classes (N,)."""
        return join_axes(labels, self.axes, self.task)

    def own_terms(self, labels: IntArray, probs: FloatArray, covered: npt.NDArray[np.bool_]) -> Sums:
        """Return the terms (N, …) of F1 over the classes of the other attributes within the label's combination."""
        others = tuple(axis for axis in range(len(self.task.names)) if axis not in self.axes)
        preds, size = probs.argmax(1), self.task.num_classes // len(self.names)
        same = self.combinations(labels) == self.combinations(preds)
        own = np.where(same, join_axes(preds, others, self.task), size)
        truth = join_axes(labels, others, self.task)
        return score_terms(truth, own, labels, probs, covered, self.task.num_classes)


def join_axes(labels: IntArray, axes: Sequence[int], task: Task) -> IntArray:
    """Return the index (N,) of the combination of some attributes' values in classes (N,), 0 without attributes."""
    values, found = task.decode(labels), np.zeros(len(labels), np.int64)
    for axis in axes:
        found = found * task.shape[axis] + values[axis]
    return found
