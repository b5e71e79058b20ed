"""Scores of groups of people, with intervals over people, and their largest gap tested against chance."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.calibration import BINS, calibration_terms, expected_calibration_error
from maskcls.evaluation.intervals import MIN_PEOPLE, jackknife_interval
from maskcls.evaluation.label_issues import group_attributes

Sums = npt.NDArray[np.float64]
NUM_PERMUTATIONS, MIN_PERMUTATIONS = 1999, 199
MAX_WORK = 72_000_000  # people × permutations × classes; more people have fewer permutations
CHUNK = 16_000_000  # numbers in memory at once
NUM_REST = 4 + BINS  # terms after those of the classes
MAX_GROUPS = 100  # of attributes: more have too few people
JOIN = " × "  # names of attributes
SIGNIFICANCE = 0.05  # of all gaps together: of one, this / the number of gaps
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

        `strata` (N,) keep what a permutation must not change, such as other attributes when a column is compared.
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


def group_scores(
    labels: IntArray, probs: FloatArray, covered: npt.NDArray[np.bool_], person_ids: Sequence[str],
    columns: Mapping[str, Sequence[str]], task: Task,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the scores of each combination of the attributes of people, and of each value of further columns (N,), ""
    for an unknown one.

    Within a combination, F1 is over the classes of the other attributes; a prediction of another combination is wrong
    and of none of them. The values of a further column are compared among people of one combination: only they are
    permuted, so that a gap is not one of these attributes. Images with label −1 are left out, and so are combinations
    that are more than MAX_GROUPS.
    """
    rows = labels >= 0
    labels, probs, covered, persons = labels[rows], probs[rows], covered[rows], np.asarray(person_ids, object)[rows]
    split, parts, unknown = AttributeSplit.of(labels, persons, task), {}, {}
    codes = split.combinations(labels)
    if 1 < len(split.names) <= MAX_GROUPS and len(labels):
        own, names = split.own_terms(labels, probs, covered), [split.names[i] for i in codes]
        parts[split.column] = PersonGroups.of(own, names, persons.tolist())
    terms = score_terms(labels, probs.argmax(1), labels, probs, covered, task.num_classes)
    for column, texts in columns.items():
        values = np.asarray(texts, dtype=object)[rows]
        known = np.array([value != "" for value in values], bool)
        if not known.any():
            continue
        parts[column] = PersonGroups.of(terms[known], values[known].tolist(), persons[known].tolist(), codes[known])
        unknown[column] = {"unknown": int((~known).sum())}
    count = required_permutations(parts.values())
    results = [describe_groups(column, groups, count) | unknown.get(column, {}) for column, groups in parts.items()]
    for part in results[:1] if split.column in parts else ():
        part["rows"].sort(key=lambda row: split.names.index(row["value"]))
    return results


@dataclass(frozen=True)
class AttributeSplit:
    """The attributes of people, whose combinations are groups, and those whose classes F1 is over within a group."""

    axes: tuple[int, ...]  # of the attributes of people
    task: Task

    @classmethod
    def of(cls, labels: IntArray, person_ids: npt.NDArray[Any], task: Task) -> AttributeSplit:
        """Return the split that the task names or the data shows; if all attributes are of people, the first is not."""
        found = group_attributes(pd.DataFrame({"person": person_ids, "label": labels}), task)
        axes = tuple(task.axis(name) for name in found)
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
    row["photos"] = int(sums[:, 2 - NUM_REST].sum())
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
    num_classes = (groups.sums.shape[1] - NUM_REST) // 3
    count = max(min_permutations, min(NUM_PERMUTATIONS, MAX_WORK // (num_classes * len(groups.codes))))
    draws = permuted_scores(groups, count, rng)
    gaps = {}
    for name, values in scores_of_totals(groups.totals(groups.codes)).items():
        ranked = np.argsort(values if LARGER_IS_BETTER[name] else -values, kind="stable")
        gap = float(np.ptp(values))
        num_larger = (np.ptp(draws[name].reshape(count, num_groups), axis=1) >= gap - 1e-12).sum()
        gaps[name] = {"worst": groups.names[ranked[0]], "best": groups.names[ranked[-1]], "gap": gap,
                      "p": (1 + int(num_larger)) / (1 + count), "permutations": count}  # fmt: skip
    return gaps


def permuted_scores(groups: PersonGroups, count: int, rng: np.random.Generator) -> dict[str, npt.NDArray[Any]]:
    """Return the scores (count · groups,) of the groups under permutations."""
    size = max(1, CHUNK // (len(groups.names) * groups.sums.shape[1]))
    chunks = [
        scores_of_totals(np.concatenate([groups.totals(groups.permuted_codes(rng)) for _ in range(number)]))
        for number in np.diff([*range(0, count, size), count])
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in LARGER_IS_BETTER}
