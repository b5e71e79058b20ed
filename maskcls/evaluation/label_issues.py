"""Labels that are likely wrong, by kind: masks of a person's images, gender and age of a person."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from maskcls.core.task import AGES, FloatArray, IntArray, bin_age, decode, marginals
from maskcls.evaluation.age_errors import find_age_errors, suggest_ages
from maskcls.evaluation.label_votes import Floats, Votes, calibrate_votes, estimate_rate, log_probs, posterior, sharpen
from maskcls.evaluation.mask_errors import find_mask_errors

MID_AGES = (24, 45, 66)  # years, for a class of a table without ages in years


@dataclass(frozen=True)
class Suspicions:
    """How likely the labels of one kind are wrong; a unit is a person's images with one label of that kind."""

    kind: str
    persons: list[str]  # of each unit, (n,)
    evidence: Floats  # (n,): log-likelihood ratio of a wrong label to a right one
    other: Floats  # (n,): probability that a wrong label is of another class than the true one
    rate: float  # share of units with a wrong label, fitted together with the evidence
    units: IntArray  # (N,): unit of each image
    new: IntArray  # (N,): the best other value of each image: a class, or of an age the years

    @property
    def wrong(self) -> Floats:
        """The posterior probability (n,) that the label of a unit is wrong."""
        return np.asarray(posterior(self.evidence, self.rate) * self.other, np.float64)


@dataclass(frozen=True)
class Evidence:
    """Labels and out-of-fold predictions of the same N images; the labels can be exchanged for planted ones."""

    table: pd.DataFrame  # id, person, mask, gender, age (years or NaN), label
    probs: tuple[Floats, Floats, Floats]  # of masks (N, 3), genders (N, 2) and age classes (N, 3)
    ages: Floats | None  # (N, 2): expected age and its standard deviation in years, of a head over years

    @classmethod
    def of(cls, table: pd.DataFrame, probs: FloatArray, ages: FloatArray | None) -> Evidence:
        """Return the evidence of labels and predictions (N, 18)."""
        years = None if ages is None else np.asarray(ages, float)
        mask, gender, age = (np.asarray(part, np.float64) for part in marginals(probs))
        return cls(table.reset_index(drop=True), (mask, gender, age), years)

    def suspicions(self) -> dict[str, Suspicions]:
        """Return the suspicions of each kind."""
        return {"mask": self.mask(), "gender": self.gender(), "age": self.age()}

    def mask(self) -> Suspicions:
        """Return the people whose masks are likely wrong."""
        units, persons = pd.factorize(self.table["person"], sort=True)
        labels = self.table["mask"].to_numpy(np.int64)
        votes = calibrate_votes(log_probs(self.probs[0]), labels)
        evidence, new, rate = find_mask_errors(votes.logs, labels, units)
        return Suspicions("mask", list(persons), evidence, np.ones(len(persons)), rate, units, new)

    def gender(self) -> Suspicions:
        """Return the people whose gender is likely wrong."""
        return self.vote("gender", self.table["gender"].to_numpy(np.int64), self.probs[1])

    def vote(self, kind: str, labels: IntArray, probs: Floats) -> Suspicions:
        """Return the people whose class is likely wrong by the calibrated vote of their images."""
        units, persons, own = group_units(self.table["person"], labels)
        votes = calibrate_votes(log_probs(average(sharpen(probs), units)), own)
        new = other_class(votes, own)[units]
        return Suspicions(kind, persons, votes.evidence, np.ones(len(own)), votes.rate, units, new)

    def age(self) -> Suspicions:
        """Return the people whose age class is likely wrong: by years where all ages are known, else by classes."""
        years, classes = self.table["age"].to_numpy(float), decode(self.table["label"])[2]
        if np.isnan(years).any() or len(np.unique(years)) <= len(AGES):
            found = self.vote("age", classes, self.probs[2])
            return replace(found, new=np.array(MID_AGES)[found.new])
        units, persons, own = group_units(self.table["person"], years)
        evidence, model = find_age_errors(average(self.age_features(years, classes), units), own)
        votes = calibrate_votes(log_probs(average(sharpen(self.probs[2]), units)), bin_age(own))
        other = 1 - model.class_probs()[np.arange(len(own)), bin_age(own)]
        # years and classes are two views of one prediction: the mean of their evidence, not the sum
        pooled = (evidence + votes.evidence) / 2
        rate = estimate_rate(pooled, len(own) / 2)  # a heavy prior: large errors of predicted ages are often honest
        return Suspicions("age", persons, pooled, other, rate, units, suggest_ages(model, own)[units])

    def age_features(self, years: Floats, classes: IntArray) -> Floats:
        """Return predictors of the age: the expected one; of a head without years, what its class probabilities say."""
        if self.ages is not None:
            return self.ages[:, :1]
        probs, logs = self.probs[2], log_probs(self.probs[2])
        means = [years[classes == k].mean() if (classes == k).any() else MID_AGES[k] for k in range(len(AGES))]
        odds = [np.logaddexp(logs[:, 1], logs[:, 2]) - logs[:, 0], logs[:, 2] - np.logaddexp(logs[:, 0], logs[:, 1])]
        return np.column_stack([probs @ np.array(means), *(np.clip(odd, -6, 6) for odd in odds)])


def other_class(votes: Votes, labels: IntArray) -> IntArray:
    """Return the most probable class (n,) other than the label."""
    others = votes.logs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    return others.argmax(1)


def group_units(persons: pd.Series, labels: Floats | IntArray) -> tuple[IntArray, list[str], np.ndarray]:
    """Return the unit of each image (N,), and the person and label of each unit: a person's images with one label."""
    keys = pd.MultiIndex.from_arrays([persons, labels])
    units, unique = pd.factorize(keys, sort=True)
    return units.astype(np.int64), list(unique.get_level_values(0)), unique.get_level_values(1).to_numpy()


def average(values: Floats, units: IntArray) -> Floats:
    """Return the means (n, d) of the values (N, d) of each unit."""
    sums = np.stack([np.bincount(units, column) for column in values.T], 1)
    return np.asarray(sums / np.bincount(units)[:, None], np.float64)
