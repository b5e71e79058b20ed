"""Labels that are likely wrong, by attribute: of single images, or of all images of a group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.table import group_axes
from maskcls.core.task import Attribute, FloatArray, IntArray, Task
from maskcls.evaluation.image_errors import find_image_errors
from maskcls.evaluation.label_votes import Floats, Votes, calibrate_votes, estimate_rate, log_probs, posterior, sharpen
from maskcls.evaluation.number_errors import find_number_errors, suggest_numbers, typical_numbers

MAX_ODDS = 10  # classes up to which a number is predicted from the odds of each border


@dataclass(frozen=True)
class Suspicions:
    """How likely the labels of one kind are wrong; a unit is a group's images with one label, or all its images."""

    kind: str  # the attribute
    persons: list[str]  # the group of each unit, (n,)
    evidence: Floats  # (n,): log-likelihood ratio of a wrong label to a right one
    other: Floats  # (n,): probability that a wrong label is of another class than the true one
    rate: float  # share of units with a wrong label, fitted together with the evidence
    units: IntArray  # (N,): unit of each image
    new: npt.NDArray[np.generic]  # (N,): the best other value of each image: its index, or a number
    of_images: bool = False  # the images of a unit have labels of their own

    @property
    def wrong(self) -> Floats:
        """The posterior probability (n,) that the label of a unit is wrong."""
        return np.asarray(posterior(self.evidence, self.rate) * self.other, np.float64)


@dataclass(frozen=True)
class Evidence:
    """Labels and out-of-fold predictions of the same N images; the labels can be exchanged for planted ones."""

    table: pd.DataFrame  # id, person, label, and of each attribute its value's index, or its number (or NaN)
    probs: dict[str, Floats]  # (N, values) of each attribute
    numbers: Floats | None  # (N, 2): expected number and its standard deviation, of a head over numbers
    task: Task
    group_names: tuple[str, ...]  # attributes that belong to the group

    @classmethod
    def of(cls, table: pd.DataFrame, probs: FloatArray, numbers: FloatArray | None, task: Task) -> Evidence:
        """Return the evidence of labels and predictions (N, C)."""
        expected = None if numbers is None else np.asarray(numbers, float)
        parts = {attribute.name: np.asarray(part, np.float64)
                 for attribute, part in zip(task, task.marginals(probs), strict=True)}  # fmt: skip
        return cls(table.reset_index(drop=True), parts, expected, task, group_attributes(table, task))

    def suspicions(self) -> dict[str, Suspicions]:
        """Return the suspicions of each attribute."""
        return {attribute.name: self.search(attribute) for attribute in self.task}

    def search(self, attribute: Attribute) -> Suspicions:
        """Return the groups whose labels of an attribute are likely wrong."""
        classes = self.task.decode(self.table["label"])[self.task.axis(attribute.name)]
        if not attribute.is_number:
            return self.compare(attribute, classes)
        numbers = self.table[attribute.source].to_numpy(float)
        are_classes = np.isnan(numbers).any() or len(np.unique(numbers)) <= len(attribute.values)
        if attribute.name not in self.group_names or are_classes:
            found = self.compare(attribute, classes)
            return replace(found, new=typical_numbers(numbers, attribute)[found.new.astype(np.int64)])
        return self.measure(attribute, numbers, classes)

    def compare(self, attribute: Attribute, classes: IntArray) -> Suspicions:
        """Return the suspicions by classes: of a group's value, or of the values of its images."""
        probs = self.probs[attribute.name]
        if attribute.name in self.group_names:
            return self.vote(attribute.name, classes, probs)
        units, persons = pd.factorize(self.table["person"], sort=True)
        votes = calibrate_votes(log_probs(probs), classes)
        evidence, new, rate = find_image_errors(votes.logs, classes, units)
        return Suspicions(attribute.name, list(persons), evidence, np.ones(len(persons)), rate, units, new, True)

    def vote(self, kind: str, labels: IntArray, probs: Floats) -> Suspicions:
        """Return the groups whose class is likely wrong by the calibrated vote of their images."""
        units, persons, own = group_units(self.table["person"], labels)
        votes = calibrate_votes(log_probs(average(sharpen(probs), units)), own)
        new = other_class(votes, own)[units]
        return Suspicions(kind, persons, votes.evidence, np.ones(len(own)), votes.rate, units, new)

    def measure(self, attribute: Attribute, numbers: Floats, classes: IntArray) -> Suspicions:
        """Return the groups whose number is likely wrong and of another class."""
        units, persons, own = group_units(self.table["person"], numbers)
        evidence, model = find_number_errors(average(self.features(attribute, numbers, classes), units), own, attribute)
        bins = attribute.bin(own)
        votes = calibrate_votes(log_probs(average(sharpen(self.probs[attribute.name]), units)), bins)
        other = 1 - model.class_probs()[np.arange(len(own)), bins]
        # numbers and classes are two views of one prediction: the mean of their evidence, not the sum
        pooled = (evidence + votes.evidence) / 2
        rate = estimate_rate(pooled, len(own) / 2)  # a heavy prior: large errors of predicted numbers are often honest
        return Suspicions(attribute.name, persons, pooled, other, rate, units, suggest_numbers(model, own)[units])

    def features(self, attribute: Attribute, numbers: Floats, classes: IntArray) -> Floats:
        """Return predictors of the number: the expected one; of a head without, what its class probabilities say."""
        if self.numbers is not None and attribute == self.task.number:
            return self.numbers[:, :1]
        probs, typical = self.probs[attribute.name], typical_numbers(numbers, attribute)
        logs, num = log_probs(probs), len(attribute.values)
        means = [numbers[classes == k].mean() if (classes == k).any() else typical[k] for k in range(num)]
        odds = [np.logaddexp.reduce(logs[:, k:], axis=1) - np.logaddexp.reduce(logs[:, :k], axis=1)
                for k in range(1, num if num <= MAX_ODDS else 1)]  # fmt: skip
        return np.column_stack([probs @ np.array(means), *(np.clip(odd, -6, 6) for odd in odds)])


def group_attributes(table: pd.DataFrame, task: Task) -> tuple[str, ...]:
    """Return the names of the attributes that belong to the group, of a table with person and label of each image."""
    values = np.stack(task.decode(table["label"]), 1)
    return tuple(task.names[axis] for axis in group_axes(values, table["person"].tolist(), task))


def other_class(votes: Votes, labels: IntArray) -> IntArray:
    """Return the most probable class (n,) other than the label."""
    others = votes.logs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return others.argmax(1)


def group_units(persons: pd.Series, labels: Floats | IntArray) -> tuple[IntArray, list[str], np.ndarray]:
    """Return the unit of each image (N,), and the group and label of each unit: a group's images with one label."""
    keys = pd.MultiIndex.from_arrays([persons, labels])
    units, unique = pd.factorize(keys, sort=True)
    return units.astype(np.int64), list(unique.get_level_values(0)), unique.get_level_values(1).to_numpy()


def average(values: Floats, units: IntArray) -> Floats:
    """Return the means (n, d) of the values (N, d) of each unit."""
    sums = np.stack([np.bincount(units, column) for column in values.T], 1)
    return np.asarray(sums / np.bincount(units)[:, None], np.float64)
