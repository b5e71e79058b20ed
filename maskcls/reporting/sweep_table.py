"""The closing table of a sweep: one row per run, the best first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.reporting.comparison import format_ci, oof_predictions
from maskcls.storage.run import Run
from maskcls.system import console

HEAD = ("run", "differs in", "out-of-fold F1", "evaluation F1", "seconds")


@dataclass(frozen=True)
class SweptRun:
    """The scores of a run of a sweep."""

    id: str
    words: str
    f1: float
    interval: Sequence[float] | None
    eval_f1: float | None
    seconds: float  # training and validation
    remark: str  # what the F1 is of, if not of all folds, and a leak

    @classmethod
    def of(cls, path: Path, words: Sequence[str]) -> SweptRun | None:
        """Return the scores of a run, of its finished folds if it is not finished; None if no fold is finished."""
        run = Run(path)
        seconds = sum(row.get("seconds", 0.0) for row in run.history())
        if (metrics := run.metrics()) is None:
            return score_folds(run, " ".join(words), seconds)
        scores = oof_predictions([[run]]).scores()
        evaluation = (metrics["eval"] or {}).get("f1")
        is_concluded = any(row.get("concluded") for row in metrics["folds"])
        remark = " ".join(["concluded early"] * is_concluded + ["LEAK"] * bool(metrics["people_on_both_sides"]))
        return cls(run.id, " ".join(words), scores["f1"], scores["interval"], evaluation, seconds, remark)

    def cells(self) -> list[str]:
        """Return the cells of the row of this run."""
        f1 = f"{self.f1:.4f} {format_ci(self.interval, '.3f')} {self.remark}".strip()
        return [self.id, self.words, f1, "" if self.eval_f1 is None else f"{self.eval_f1:.4f}", f"{self.seconds:.0f}"]


def score_folds(run: Run, words: str, seconds: float) -> SweptRun | None:
    """Return the score of the finished folds of an unfinished run, None if there are none."""
    finished = [k for k in sorted(set(run.table["fold"])) if k >= 0 and run.fold_is_done(k)]
    if not finished:
        return None
    predictions = [run.fold_predictions(k).val for k in finished]
    ids = np.concatenate([part.ids for part in predictions]).tolist()
    preds = np.concatenate([part.preds for part in predictions])
    rows = run.table.set_index("id").loc[ids]
    preds, rows = preds[rows["label"] >= 0], rows[rows["label"] >= 0]
    labels = rows["label"].to_numpy(np.int64)
    interval = confidence_interval([person_counts(labels, preds, rows["person"].tolist(), run.task)])
    remark = f"fold {', '.join(map(str, finished))} only"
    return SweptRun(run.id, words, macro_f1(labels, preds), interval, None, seconds, remark)


def swept_runs(jobs: Iterable[tuple[Path, Sequence[str]]]) -> list[SweptRun]:
    """Return the runs of jobs, the best first; several jobs, such as one per fold, can share a run."""
    words_by_run: dict[Path, list[Sequence[str]]] = {}
    for path, words in jobs:
        words_by_run.setdefault(path, []).append(words)
    runs = [SweptRun.of(path, merge_words(words)) for path, words in words_by_run.items()]
    return sorted(filter(None, runs), key=lambda run: -run.f1)


def merge_words(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Return the words of several jobs as one, with all values of a key."""
    values: Mapping[str, dict[str, None]] = {word.partition("=")[0]: {} for words in jobs for word in words}
    for words in jobs:
        for word in words:
            key, _, value = word.partition("=")
            values[key][value] = None
    return [f"{key}={','.join(texts)}" for key, texts in values.items()]


def print_sweep_table(jobs: Iterable[tuple[Path, Sequence[str]]]) -> None:
    """Print the runs of a sweep, the best first."""
    if rows := [run.cells() for run in swept_runs(jobs)]:
        console.print_table("", HEAD, rows, left=2)
