"""Scores of runs with confidence intervals over people, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.errors import RunError
from maskcls.core.table import content_differs, num_folds
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.intervals import MIN_PEOPLE, PersonCounts, confidence_interval, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.evaluation.stacking import decide
from maskcls.storage.run import Run
from maskcls.storage.run_paths import Part

Record = dict[str, Any]
Members = Sequence[Run]  # one run, or several that are blended


@dataclass(frozen=True)
class ScoredPredictions:
    """Labels and predictions of the same rows: one table (N, C) per seed, or per seed and fold."""

    part: str  # evaluation | oof
    labels: IntArray  # (N,)
    ids: list[str]
    groups: list[str]  # person of each row
    probs: list[FloatArray]
    num_seeds: int
    contents: pd.Series  # by id: digest of the image file, empty if the run has none
    task: Task

    def f1_by_seed(self) -> list[float]:
        """Return the macro F1 of each seed, the mean over its tables."""
        return np.reshape(self.f1(), (self.num_seeds, -1)).mean(1).tolist()

    def tallies(self) -> list[PersonCounts]:
        """Return the counts per person of each table."""
        return [person_counts(self.labels, probs.argmax(1), self.groups, self.task) for probs in self.probs]

    def f1(self) -> list[float]:
        """Return the macro F1 of each table."""
        return [macro_f1(self.labels, probs.argmax(1)) for probs in self.probs]

    def scores(self) -> dict[str, Any]:
        """Return mean macro F1 with its interval, mean accuracy, and sample standard deviations over the tables."""
        f1, accuracy = self.f1(), [float((probs.argmax(1) == self.labels).mean()) for probs in self.probs]
        sd = {"f1_sd": float(np.std(f1, ddof=1)), "accuracy_sd": float(np.std(accuracy, ddof=1))} if len(f1) > 1 else {}
        return {
            "f1": float(np.mean(f1)), "interval": confidence_interval(self.tallies()),
            "accuracy": float(np.mean(accuracy)), **sd,
            "tables": len(f1), "photos": len(self.ids), "people": len(set(self.groups)),
        }  # fmt: skip

    def has_same_rows(self, other: ScoredPredictions) -> bool:
        """Return True if the other predictions are of the same images of the same people, with the same labels."""
        return self.has_same_labels(other) and self.groups == other.groups

    def has_same_labels(self, other: ScoredPredictions) -> bool:
        """Return True if the other predictions are of the same images with the same labels."""
        is_same = self.ids == other.ids and self.task.has_classes_of(other.task)
        is_same = is_same and bool((self.labels == other.labels).all())
        return is_same and not content_differs(self.contents, other.contents).any()


def oof_predictions(seeds: Sequence[Members]) -> ScoredPredictions:
    """Return the out-of-fold predictions, one table per seed, the mean of its members."""
    rows = scored_rows(seeds[0][0], "oof").sort_values("id")
    return build_scored("oof", rows, [mean_predictions(run, rows, "oof") for run in seeds], seeds)


def eval_predictions(seeds: Sequence[Members], ensemble: bool) -> ScoredPredictions | None:
    """Return the predictions of the labelled evaluation rows, None if there are none.

    An ensemble has one table per seed, the mean of its folds and members; otherwise each fold has one.
    """
    rows = scored_rows(seeds[0][0], "eval").sort_values("id")
    if rows.empty:
        return None
    if ensemble:
        probs = [mean_predictions(run, rows, "eval") for run in seeds]
    else:
        probs = [fold for run in seeds for fold in probs_per_fold(run[0], rows["id"].tolist())]
    return build_scored("evaluation", rows, probs, seeds)


def build_scored(part: str, rows: pd.DataFrame, probs: list[FloatArray], seeds: Sequence[Members]) -> ScoredPredictions:
    """Return scored predictions; raise RunError if a run is scored on other rows or classes than the first."""
    ids, contents = frozenset(rows["id"]), rows.set_index("id")["content"]
    for run in (one for seed in seeds for one in seed):
        if not run.task.has_classes_of(seeds[0][0].task):
            raise RunError(f"{run.path} and {seeds[0][0].path} cannot be compared: they predict other classes")
        table = scored_rows(run, "oof" if part == "oof" else "eval")
        other = table.set_index("id").reindex(contents.index)
        if frozenset(table["id"]) != ids or content_differs(contents, other["content"]).any():
            raise RunError(f"{run.path} and {seeds[0][0].path} cannot be compared: scored on different images")
        if other["person"].tolist() != rows["person"].tolist():
            raise RunError(f"{run.path} and {seeds[0][0].path} cannot be compared: other people of the same images")
    labels, groups = rows["label"].to_numpy(np.int64), rows["person"].tolist()
    task = seeds[0][0].task
    return ScoredPredictions(part, labels, rows["id"].tolist(), groups, probs, len(seeds), contents, task)


def scored_rows(run: Run, part: Part) -> pd.DataFrame:
    """Return the rows with a class that the out-of-fold or the evaluation scores of a run are of."""
    return (run.val_table if part == "oof" else run.eval_table).query("label >= 0")


def mean_predictions(run: Members, rows: pd.DataFrame, part: Part) -> FloatArray:
    """Return the mean prediction of the members of a run."""
    ids = rows["id"].tolist()
    return np.mean([one.predictions(part).select(ids) for one in run], axis=0)


def probs_per_fold(run: Run, ids: list[str]) -> list[FloatArray]:
    """Return the predictions of each fold for some evaluation rows."""
    return [decide(run.fold_predictions(k).eval.select(ids), run.bias) for k in range(num_folds(run.table))]


def paired_difference(scored: ScoredPredictions, other: ScoredPredictions) -> dict[str, Any]:
    """Return the difference in mean F1 with its paired interval; raise RunError if the rows differ.

    If both have the same number of seeds, more than one, `sd` is the standard deviation of the paired differences.
    """
    if not scored.has_same_rows(other):
        if scored.has_same_labels(other):
            counts = f"{len(set(scored.groups))} and {len(set(other.groups))}"
            raise RunError(f"scored on the same images of other people ({counts}): cannot compare")
        raise RunError(f"scored on different rows ({len(scored.ids)} and {len(other.ids)} images): cannot compare")
    f1, other_f1 = scored.f1_by_seed(), other.f1_by_seed()
    sd = {"sd": float(np.subtract(f1, other_f1).std(ddof=1))} if len(f1) == len(other_f1) > 1 else {}
    difference = float(np.mean(f1) - np.mean(other_f1))
    interval = confidence_interval(scored.tallies(), other.tallies())
    return {"f1": difference, "interval": interval, "rows": scored.part, **sd}


@dataclass(frozen=True)
class RunScores:
    """Out-of-fold and evaluation scores of one configuration over its seeds."""

    oof: ScoredPredictions
    single: ScoredPredictions | None
    ensemble: ScoredPredictions | None
    is_ensemble: bool
    is_blend: bool  # several runs

    @classmethod
    def of(cls, seeds: Sequence[Members], is_ensemble: bool) -> RunScores:
        """Return the scores of runs, one per seed (several per seed for a blend)."""
        is_blend = any(len(run) > 1 for run in seeds)
        single = None if is_blend else eval_predictions(seeds, ensemble=False)
        return cls(
            oof_predictions(seeds), single, eval_predictions(seeds, ensemble=True), is_ensemble or is_blend, is_blend
        )

    @property
    def primary(self) -> ScoredPredictions:
        """The predictions to compare by: the labelled evaluation rows if there are any, else out of fold."""
        return (self.ensemble if self.is_ensemble else self.single) or self.oof

    def compare(self, other: RunScores) -> dict[str, Any]:
        """Return the difference to other scores, or the reason why they cannot be compared under the key `why`."""
        for scored, reference in ((self.primary, other.primary), (self.oof, other.oof)):
            if scored.part == "oof" and self.is_ensemble and not self.is_blend and not other.is_ensemble:
                return {"why": "needs labelled evaluation images"}  # out of fold, an ensemble of folds equals its folds
            if scored.has_same_rows(reference):
                return paired_difference(scored, reference)
        if not self.oof.task.has_classes_of(other.oof.task):
            return {"why": "other classes"}
        return {"why": "other people" if self.oof.has_same_labels(other.oof) else "other rows"}

    def to_dict(self) -> dict[str, Any]:
        """Return the scores of each kind, and the name of the primary one."""
        kinds = {"oof": self.oof, "single": self.single, "ensemble": self.ensemble}
        scores = {name: part.scores() for name, part in kinds.items() if part}
        return scores | {"answer": next(name for name, part in kinds.items() if part is self.primary)}


def run_facts(seeds: Sequence[Members]) -> Mapping[str, Any]:
    """Return seconds of training and validation of each run, machines, commits and versions."""
    runs = [run for members in seeds for run in members]
    abouts = [run.provenance() for run in runs]
    seconds = {run.id: round(sum(row.get("seconds", 0) for row in run.history()), 1) for run in runs}
    return {
        "seeds": len(seeds), "runs": seconds,
        "hardware": sorted({machine_name(about) for about in abouts}),
        "commit": sorted({about.get("commit") or f"maskcls {about.get('maskcls')}" for about in abouts}),
        "versions": abouts[-1].get("versions"),
    }  # fmt: skip


def machine_name(about: Mapping[str, Any]) -> str:
    """Return a description of the machine."""
    hardware = about.get("hardware") or {}
    device = hardware.get("gpu") or hardware.get("processor") or "CPU"
    return f"{device}, {hardware.get('cores')} cores, {hardware.get('threads')} threads"


def format_score_ci(scores: Record | None, spread: bool = False) -> str:
    """Return F1 with its interval, or with its standard deviation over folds."""
    if scores is None:
        return ""
    interval = f"± {scores['f1_sd']:.3f}" if spread and "f1_sd" in scores else format_ci(scores["interval"], ".3f")
    return f"{scores['f1']:.3f} {interval}"


def format_ci(interval: Sequence[float] | None, digits: str) -> str:
    """Return an interval in brackets, or the reason why it is missing."""
    if interval is None:
        return f"(n < {MIN_PEOPLE} people: no interval)"
    low, high = interval
    return f"[{low:{digits}}, {high:{digits}}]"


def format_difference(difference: Record | None) -> str:
    """Return a difference with its interval, or the reason why it is missing; mark out-of-fold differences."""
    if difference is None or "why" in difference:
        return f"({difference['why']})" if difference else ""
    spread = f" ± {difference['sd']:.3f}" if "sd" in difference else ""
    part = " out of fold" if difference["rows"] == "oof" else ""
    return f"{difference['f1']:+.3f}{spread} {format_ci(difference['interval'], '+.3f')}{part}"
