"""How good a list of suspected label errors is: estimated with errors planted in copies of the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from maskcls.evaluation.label_issues import Evidence, Suspicions
from maskcls.evaluation.label_votes import Floats, posterior
from maskcls.evaluation.planted_errors import count_errors, plant_errors

SHARE = 0.02  # of the groups that get a planted error of each kind in a copy
CLEAN = 0.5  # groups that are more suspicious are left out of planting: their labels may be wrong already
MIN_RECALL = 0.2  # below it a share of planted errors is too uncertain to divide by
STRICTEST = 0.9  # a posterior above which flags are not false, whatever their number
LOWEST = 0.02  # of a posterior that is worth a look


@dataclass(frozen=True)
class KindEstimate:
    """The suspicions of one kind, and the posteriors of errors that were planted in copies."""

    suspicions: Suspicions  # with the rate that planting allows
    planted: Floats  # (m,): posteriors of planted errors at that rate

    @property
    def errors(self) -> float:
        """The estimated number of errors."""
        return self.suspicions.rate * len(self.suspicions.wrong)

    def recall(self, threshold: float) -> float:
        """Return the share of planted errors whose posterior is at least a threshold."""
        return float((self.planted >= threshold).mean()) if len(self.planted) else 0.0

    def num_flags(self, threshold: float) -> int:
        """Return the number of units whose posterior is at least a threshold."""
        return int((self.suspicions.wrong >= threshold).sum())

    def precision(self, threshold: float, flags: int | None = None) -> float:
        """Return the estimated share of flags that are errors; `flags` is their number without refused ones."""
        flags = self.num_flags(threshold) if flags is None else flags
        return min(1.0, self.errors * self.recall(threshold) / flags) if flags else 1.0


def estimate_audit(
    evidence: Evidence, repeats: int, seed: int,
    track: Callable[[Iterable[int], int], Iterable[int]] = lambda items, total: items,
) -> dict[str, KindEstimate]:  # fmt: skip
    """Return the suspicions of each kind with their estimates from `repeats` copies with planted errors.

    The whole search, with its calibration, is repeated on each copy. The predictions stay: they were made by networks
    that were trained on the labels as they are, so errors that a network learns by heart are not imitated.
    """
    found = evidence.suspicions()
    planted: dict[str, list[tuple[Floats, Floats]]] = {kind: [] for kind in found}
    suspects = {person for part in found.values() for person, wrong in zip(part.persons, part.wrong, strict=True)
                if wrong >= CLEAN}  # fmt: skip
    is_clean = ~evidence.table["person"].isin(suspects)
    clean = evidence.table[is_clean]
    counts = count_errors(clean, SHARE, evidence.task)
    for i in track(range(repeats), repeats):
        rng = np.random.default_rng([seed, i])
        copy, errors = plant_errors(clean, counts, rng, evidence.group_names, evidence.task)
        table = pd.concat([copy, evidence.table[~is_clean]]).loc[evidence.table.index]
        for kind, part in replace(evidence, table=table).suspicions().items():
            planted[kind].append(collect_planted(part, errors[errors["kind"] == kind]["person"].unique()))
    return {kind: estimate_kind(part, planted[kind]) for kind, part in found.items()}


def collect_planted(suspicions: Suspicions, persons: np.ndarray) -> tuple[Floats, Floats]:
    """Return evidence and probability of another class of the units of groups with a planted error."""
    rows = np.isin(np.array(suspicions.persons), persons)
    return suspicions.evidence[rows], suspicions.other[rows]


def estimate_kind(suspicions: Suspicions, planted: list[tuple[Floats, Floats]]) -> KindEstimate:
    """Return the estimate of a kind; the rate of errors is at most what planted errors allow."""
    evidence, other = (np.concatenate([pair[i] for pair in planted] or [np.zeros(0)]) for i in range(2))

    def scores(rate: float) -> Floats:
        return posterior(evidence, rate) * other

    limit = error_limit(suspicions.wrong, scores(suspicions.rate)) / len(suspicions.wrong)
    rate = min(suspicions.rate, limit)
    return KindEstimate(replace(suspicions, rate=rate), scores(rate))


def error_limit(wrong: Floats, planted: Floats) -> float:
    """Return the largest number of errors that flags above any threshold allow.

    Of E errors, a threshold that finds the share R of planted ones finds about E · R, which are at most its flags F.
    So E is at most F / R, most tightly at a strict threshold, where few flags are false; F + 1 keeps the limit honest
    for few flags, as in target-decoy searches (Elias and Gygi 2007).
    """
    thresholds = np.unique(np.minimum(planted, STRICTEST))
    recalls = np.array([(planted >= threshold).mean() for threshold in thresholds])
    flags = np.array([(wrong >= threshold).sum() for threshold in thresholds])
    valid = recalls >= MIN_RECALL
    return float(((flags[valid] + 1) / recalls[valid]).min()) if valid.any() else float(len(wrong))


def choose_threshold(kinds: Mapping[str, KindEstimate], precision: float) -> float | None:
    """Return the lowest posterior whose list, of all kinds, has an estimated precision of at least `precision`.

    None if no list has it, or if no posterior is worth a look.
    """
    wrong = np.unique(np.concatenate([kind.suspicions.wrong for kind in kinds.values()]))
    best = None
    for threshold in wrong[wrong >= LOWEST][::-1]:
        if total_precision(kinds, threshold) >= precision:
            best = float(threshold)
    return best


def total_recall(kinds: Mapping[str, KindEstimate], threshold: float) -> float:
    """Return the share of planted errors of all kinds whose posterior is at least a threshold."""
    planted = np.concatenate([kind.planted for kind in kinds.values()])
    return float((planted >= threshold).mean()) if len(planted) else 0.0


def total_precision(kinds: Mapping[str, KindEstimate], threshold: float) -> float:
    """Return the estimated share of errors among the flags of all kinds."""
    flags = sum(kind.num_flags(threshold) for kind in kinds.values())
    return sum(kind.precision(threshold) * kind.num_flags(threshold) for kind in kinds.values()) / max(flags, 1)
