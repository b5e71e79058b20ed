"""Scores of groups of people, with intervals over people, and their largest gap tested against chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.group_terms import NUM_REST, AttributeSplit, Sums, score_terms, scores_of_totals
from maskcls.evaluation.intervals import MIN_PEOPLE, jackknife_interval

NUM_PERMUTATIONS, MIN_PERMUTATIONS = 1999, 199
MAX_WORK = 72_000_000  # people × permutations × classes; more people have fewer permutations
CHUNK = 16_000_000  # numbers in memory at once
MAX_GROUPS = 100  # of attributes: more have too few people
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
