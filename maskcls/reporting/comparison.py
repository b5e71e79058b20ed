"""What a rung came to: scores with intervals over people, and the paired difference to another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.errors import RunError
from maskcls.core.table import content_differs, num_folds
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.bootstrap import MIN_PEOPLE, PersonCounts, bootstrap_ci, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.storage.run import Part, Run

Record = dict[str, Any]
Members = Sequence[Run]  # one run, or several that are blended


@dataclass(frozen=True)
class ScoredPredictions:
    """Predictions of the same rows by several models: one table (N, 18) for each seed, or for each seed and fold."""

    part: str  # evaluation | oof
    truth: IntArray  # (N,)
    ids: list[str]
    people: list[str]
    tables: list[FloatArray]
    seeds: int
    contents: pd.Series  # by id: digests of the photos' files, empty where a run does not know them

    def by_seed(self) -> list[float]:
        """Return the mean macro F1 of each seed's tables."""
        return np.reshape(self.f1(), (self.seeds, -1)).mean(1).tolist()

    def tallies(self) -> list[PersonCounts]:
        """Return each table's counts of each person."""
        return [person_counts(self.truth, table.argmax(1), self.people) for table in self.tables]

    def f1(self) -> list[float]:
        """Return each table's macro F1."""
        return [macro_f1(self.truth, table.argmax(1)) for table in self.tables]

    def scores(self) -> dict[str, Any]:
        """Return mean macro F1 with its interval, accuracy, and the sample's standard deviations over the tables."""
        f1, right = self.f1(), [float((table.argmax(1) == self.truth).mean()) for table in self.tables]
        sd = {"f1_sd": float(np.std(f1, ddof=1)), "accuracy_sd": float(np.std(right, ddof=1))} if len(f1) > 1 else {}
        return {
            "f1": float(np.mean(f1)), "interval": bootstrap_ci(self.tallies()), "accuracy": float(np.mean(right)), **sd,
            "tables": len(f1), "photos": len(self.ids), "people": len(set(self.people)),
        }  # fmt: skip

    def same_rows(self, other: ScoredPredictions) -> bool:
        """Tell whether another's scores are of the same photos with the same labels."""
        same = self.ids == other.ids and bool((self.truth == other.truth).all())
        return same and not content_differs(self.contents, other.contents).any()


def out_of_fold(seeds: Sequence[Members]) -> ScoredPredictions:
    """Return the out-of-fold predictions, one table for each seed; members are averaged."""
    rows = seeds[0][0].val_table.sort_values("id")
    return answers("oof", rows, [blended(run, rows, "oof") for run in seeds], seeds)


def evaluation(seeds: Sequence[Members], ensemble: bool) -> ScoredPredictions | None:
    """Return the predictions of the labelled evaluation rows, None where there are none.

    An ensemble has one table for each seed, the mean of the folds (and members); else there is one for each fold.
    """
    every = seeds[0][0].eval_table
    rows = every[every["label"] >= 0].sort_values("id")
    if rows.empty:
        return None
    if ensemble:
        tables = [blended(run, rows, "eval") for run in seeds]
    else:
        tables = [table for run in seeds for table in fold_predictions(run[0], rows["id"].tolist())]
    return answers("evaluation", rows, tables, seeds)


def answers(part: str, rows: pd.DataFrame, tables: list[FloatArray], seeds: Sequence[Members]) -> ScoredPredictions:
    """Return tables as answers; a RunError where a run was scored on other rows than the first."""
    mine, contents = frozenset(rows["id"]), rows.set_index("id")["content"]
    for run in (one for seed in seeds for one in seed):
        table = run.val_table if part == "oof" else run.eval_table.query("label >= 0")
        known = table.set_index("id")["content"]
        if frozenset(table["id"]) != mine or content_differs(contents, known.reindex(contents.index)).any():
            raise RunError(f"{run.path} and {seeds[0][0].path} are scored on different photos: they cannot be compared")
    ids, people = rows["id"].tolist(), rows["person"].tolist()
    return ScoredPredictions(part, rows["label"].to_numpy(np.int64), ids, people, tables, len(seeds), contents)


def blended(run: Members, rows: pd.DataFrame, part: Part) -> FloatArray:
    """Return the mean of a run's members on some rows."""
    ids = rows["id"].tolist()
    return np.mean([one.predictions(part).select(ids) for one in run], axis=0)


def fold_predictions(run: Run, ids: list[str]) -> list[FloatArray]:
    """Return each fold's own predictions of some evaluation rows."""
    return [run.fold_predictions(k).eval.select(ids) for k in range(num_folds(run.table))]


def paired_difference(mine: ScoredPredictions, below: ScoredPredictions) -> dict[str, Any]:
    """Return mean F1 minus that of another rung, with its paired interval; a RunError for scores on other rows.

    Where both have the same seeds, more than one, `sd` is the spread of the differences of their pairs.
    """
    if not mine.same_rows(below):
        raise RunError(f"scored on different rows ({len(mine.ids)} and {len(below.ids)} photos): no difference is told")
    ours, theirs = mine.by_seed(), below.by_seed()
    sd = {"sd": float(np.subtract(ours, theirs).std(ddof=1))} if len(ours) == len(theirs) > 1 else {}
    apart = float(np.mean(ours) - np.mean(theirs))
    return {"f1": apart, "interval": bootstrap_ci(mine.tallies(), below.tallies()), "rows": mine.part, **sd}


@dataclass(frozen=True)
class RunScores:
    """All of a rung's answers."""

    oof: ScoredPredictions
    single: ScoredPredictions | None
    ensemble: ScoredPredictions | None
    is_ensemble: bool
    blends: bool  # several runs

    @classmethod
    def of(cls, seeds: Sequence[Members], is_ensemble: bool) -> RunScores:
        """Return the outcome of runs, one for each seed (several for each seed where they are blended)."""
        blends = any(len(run) > 1 for run in seeds)
        single = None if blends else evaluation(seeds, ensemble=False)
        return cls(out_of_fold(seeds), single, evaluation(seeds, ensemble=True), is_ensemble or blends, blends)

    @property
    def primary(self) -> ScoredPredictions:
        """What a rung is compared by: labelled evaluation photos where there are some, else out-of-fold ones."""
        return (self.ensemble if self.is_ensemble else self.single) or self.oof

    def compare(self, below: RunScores) -> dict[str, Any]:
        """Return the difference to another rung, or `why` there is none: no rows in common, or none that tells."""
        for mine, theirs in ((self.primary, below.primary), (self.oof, below.oof)):
            if mine.part == "oof" and self.is_ensemble and not self.blends and not below.is_ensemble:
                return {"why": "needs labelled evaluation photos"}  # out of fold, an ensemble of folds is its folds
            if mine.same_rows(theirs):
                return paired_difference(mine, theirs)
        return {"why": "other rows"}

    def to_dict(self) -> dict[str, Any]:
        """Return the scores of each kind of answer, and which of them is the rung's."""
        kinds = {"oof": self.oof, "single": self.single, "ensemble": self.ensemble}
        found = {name: part.scores() for name, part in kinds.items() if part}
        return found | {"answer": next(name for name, part in kinds.items() if part is self.primary)}


def run_facts(seeds: Sequence[Members]) -> Mapping[str, Any]:
    """Return seconds of training and validation for each run, machines, commits and versions of some runs."""
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
    """Return the machine in words."""
    hardware = about.get("hardware") or {}
    what = hardware.get("gpu") or hardware.get("processor") or "CPU"
    return f"{what}, {hardware.get('cores')} cores, {hardware.get('threads')} threads"


def format_score_ci(scores: Record | None, spread: bool = False) -> str:
    """Return F1 with its interval, or with its standard deviation over folds."""
    if scores is None:
        return ""
    span = f"± {scores['f1_sd']:.3f}" if spread and "f1_sd" in scores else between(scores["interval"], ".3f")
    return f"{scores['f1']:.3f} {span}"


def between(interval: Sequence[float] | None, digits: str) -> str:
    """Return an interval in brackets, or why there is none."""
    if interval is None:
        return f"(n < {MIN_PEOPLE} people: no interval)"
    low, high = interval
    return f"[{low:{digits}}, {high:{digits}}]"


def format_difference(difference: Record | None) -> str:
    """Return a difference with its interval, or why there is none; out-of-fold ones are marked as such."""
    if difference is None or "why" in difference:
        return f"({difference['why']})" if difference else ""
    spread = f" ± {difference['sd']:.3f}" if "sd" in difference else ""
    where = " out of fold" if difference["rows"] == "oof" else ""
    return f"{difference['f1']:+.3f}{spread} {between(difference['interval'], '+.3f')}{where}"
