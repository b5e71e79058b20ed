"""Scores of groups of people, with intervals over people, and their largest gap tested against chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import AGES, CLASSES, GENDERS, SHAPE, FloatArray, IntArray
from maskcls.evaluation.calibration import calibration_terms, expected_calibration_error
from maskcls.evaluation.intervals import MIN_PEOPLE, jackknife_interval

Sums = npt.NDArray[np.float64]
NUM_CLASSES, NUM_OTHERS = len(CLASSES), SHAPE[1] * SHAPE[2]  # all, and those of gender × age
NUM_PERMUTATIONS, MIN_PERMUTATIONS = 1999, 199
MAX_WORK = 4_000_000  # people × permutations; more people have fewer permutations
SIGNIFICANCE = 0.05  # of all gaps together: of one, this / the number of gaps
GENDER_AGE = "gender × age"
LARGER_IS_BETTER = {"f1": True, "accuracy": True, "calibration_error": False, "covered": True}


@dataclass(frozen=True)
class PersonGroups:
    """What determines the scores of groups: sums over the images of each person in each group."""

    names: list[str]  # of the groups
    codes: IntArray  # (people,): the group of each
    sums: Sums  # (people, …): of the columns of `score_terms`
    strata: IntArray  # (people,): people are permuted within these

    @classmethod
    def of(
        cls, terms: Sums, groups: Sequence[str], person_ids: Sequence[str], strata: IntArray | None = None
    ) -> PersonGroups:
        """Return the sums of `score_terms` (N, …); a person with images in two groups counts in both.

        `strata` (N,) keep what a permutation must not change, such as gender and age when other groups are compared.
        """
        codes, names = pd.factorize(np.asarray(groups, dtype=object), sort=True)
        keys = pd.DataFrame({"person": np.asarray(person_ids, dtype=object), "group": codes})
        people, is_first = keys.groupby(["person", "group"], sort=False).ngroup().to_numpy(), ~keys.duplicated()
        sums = np.zeros((int(is_first.sum()), terms.shape[1]))
        np.add.at(sums, people, terms)
        kept = np.zeros(len(codes), np.int64) if strata is None else strata
        return cls([str(name) for name in names], codes[is_first].astype(np.int64), sums, kept[is_first])

    @property
    def num_people(self) -> IntArray:
        """The number of people in each group, (groups,)."""
        return np.bincount(self.codes, minlength=len(self.names))

    @property
    def comparable(self) -> PersonGroups:
        """The groups with enough people."""
        return self.select(np.flatnonzero(self.num_people >= MIN_PEOPLE))

    def select(self, indices: IntArray) -> PersonGroups:
        """Return the groups at some positions, ascending."""
        kept = np.isin(self.codes, indices)
        codes = np.searchsorted(indices, self.codes[kept])
        return PersonGroups([self.names[i] for i in indices], codes, self.sums[kept], self.strata[kept])

    def totals(self, codes: IntArray) -> Sums:
        """Return the sums of each group, (groups, …), if people had these groups; every group must have people."""
        order = np.argsort(codes, kind="stable")
        return np.add.reduceat(self.sums[order], np.searchsorted(codes[order], np.arange(len(self.names))))

    def permuted_codes(self, rng: np.random.Generator) -> IntArray:
        """Return the groups of people, (people,), permuted within the strata."""
        codes = np.empty_like(self.codes)
        order = np.argsort(self.strata, kind="stable")
        codes[order] = self.codes[np.lexsort((rng.random(len(codes)), self.strata))]
        return codes


def score_terms(
    labels: IntArray, preds: IntArray, truth: IntArray, probs: FloatArray, covered: npt.NDArray[np.bool_]
) -> Sums:
    """Return terms (N, …) whose sums over the images of a group determine its scores.

    `labels` and `preds` (N,) are the classes of F1; `truth` (N,) and `probs` (N, 18) give accuracy and calibration;
    `covered` (N,) is True where a prediction set has the class.
    """
    rows, counts = np.arange(len(labels)), np.zeros((len(labels), 3, NUM_CLASSES))
    counts[rows, 0, labels] = labels == preds
    counts[rows, 1, labels] = counts[rows, 2, preds] = 1
    outcomes = np.stack([probs.argmax(1) == truth, covered], 1)
    return np.hstack([counts.reshape(len(labels), -1), outcomes, calibration_terms(truth, probs)])


def scores_of_totals(totals: Sums) -> dict[str, npt.NDArray[Any]]:
    """Return the scores (K,) of the sums of terms, (K, …)."""
    counts, rest = np.split(totals, [3 * NUM_CLASSES], axis=1)
    num_images = rest[:, 2]
    return {
        "f1": own_f1(counts.reshape(-1, 3, NUM_CLASSES)), "accuracy": rest[:, 0] / num_images,
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


def group_scores(
    labels: IntArray, probs: FloatArray, covered: npt.NDArray[np.bool_], person_ids: Sequence[str],
    columns: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the scores of each gender × age class, and of each value of further columns (N,), "" for an unknown one.

    In a gender × age group, F1 is over its three classes, one for each mask; a prediction of another gender or age
    class is wrong and of none of them. The values of a further column are compared among people of one gender and age
    class: only they are permuted, so that a gap is not one of age.
    """
    preds, persons = probs.argmax(1), np.asarray(person_ids, dtype=object)
    is_own = labels % NUM_OTHERS == preds % NUM_OTHERS
    own = score_terms(labels // NUM_OTHERS, np.where(is_own, preds // NUM_OTHERS, SHAPE[0]), labels, probs, covered)
    names = [f"{g} {a}" for g in GENDERS for a in AGES]
    parts = {GENDER_AGE: PersonGroups.of(own, [names[i] for i in labels % NUM_OTHERS], person_ids)}
    terms, unknown = score_terms(labels, preds, labels, probs, covered), {}
    for column, values in columns.items():
        known = np.array([value != "" for value in values], bool)
        if not known.any():
            continue
        parts[column] = PersonGroups.of(terms[known], np.asarray(values, dtype=object)[known].tolist(),
                                        persons[known].tolist(), (labels % NUM_OTHERS)[known])  # fmt: skip
        unknown[column] = {"unknown": int((~known).sum())}
    count = required_permutations(parts.values())
    results = [describe_groups(column, groups, count) | unknown.get(column, {}) for column, groups in parts.items()]
    results[0]["rows"].sort(key=lambda row: names.index(row["value"]))
    return results


def required_permutations(parts: Iterable[PersonGroups]) -> int:
    """Return the smallest number of permutations with which the gap of any score can be significant.

    The smallest p is 1 / (1 + permutations), and must be well below 0.05 / the number of gaps.
    """
    num_gaps = len(LARGER_IS_BETTER) * sum(len(groups.comparable.names) > 1 for groups in parts)
    return max(MIN_PERMUTATIONS, 2 * round(num_gaps / SIGNIFICANCE))


def describe_groups(column: str, groups: PersonGroups, min_permutations: int) -> dict[str, Any]:
    """Return a row of scores with intervals for each group, and the largest gap of each score.

    Groups with fewer than 20 people have no intervals and are not compared.
    """
    return {
        "column": column, "rows": [describe_group(groups, i) for i in range(len(groups.names))],
        "gaps": largest_gaps(groups.comparable, min_permutations),
    }  # fmt: skip


def describe_group(groups: PersonGroups, index: int) -> dict[str, Any]:
    """Return name, numbers and scores of a group, with their jackknife intervals over people."""
    sums = groups.sums[groups.codes == index]
    scores = scores_of_totals(sums.sum(0, keepdims=True))
    row: dict[str, Any] = {"value": groups.names[index], "people": len(sums)}
    row["photos"] = int(sums[:, NUM_CLASSES : 2 * NUM_CLASSES].sum())
    for name, value in scores.items():
        row[name] = float(value[0])
        statistic = score_statistic(name)
        row[f"{name}_interval"] = jackknife_interval(sums, statistic, low=0.0, high=1.0)
    return row


def score_statistic(name: str) -> Any:
    """Return the function from sums of terms (K, …) to one score (K,)."""
    return lambda totals: scores_of_totals(totals)[name]


def largest_gaps(groups: PersonGroups, min_permutations: int) -> dict[str, dict[str, Any]]:
    """Return the best and the worst group by each score, their gap, and how often chance has one as large.

    `p` is the share of permutations of the groups among people, within the strata, whose largest gap is at least as
    large (Phipson & Smyth 2010: the observed order is one of them). Empty for fewer than two groups.
    """
    if len(groups.names) < 2:
        return {}
    num_groups, rng = len(groups.names), np.random.default_rng(0)
    count = max(min_permutations, min(NUM_PERMUTATIONS, MAX_WORK // len(groups.codes)))
    draws = scores_of_totals(np.concatenate([groups.totals(groups.permuted_codes(rng)) for _ in range(count)]))
    gaps = {}
    for name, values in scores_of_totals(groups.totals(groups.codes)).items():
        ranked = np.argsort(values if LARGER_IS_BETTER[name] else -values, kind="stable")
        gap = float(np.ptp(values))
        num_larger = (np.ptp(draws[name].reshape(count, num_groups), axis=1) >= gap - 1e-12).sum()
        gaps[name] = {"worst": groups.names[ranked[0]], "best": groups.names[ranked[-1]], "gap": gap,
                      "p": (1 + int(num_larger)) / (1 + count), "permutations": count}  # fmt: skip
    return gaps
