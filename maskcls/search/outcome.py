"""Outcome of a search: its trials, the score of the best one and its correction, importances, and a page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.core.errors import MaskclsError
from maskcls.core.table import num_folds
from maskcls.evaluation.selection import selection_bias
from maskcls.reporting.comparison import format_ci, oof_predictions
from maskcls.reporting.sweep_table import SweptRun
from maskcls.search.plan import Search
from maskcls.storage.run import Run
from maskcls.system.console import format_duration

if TYPE_CHECKING:
    import optuna

STATES = {"COMPLETE": "", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
MAX_ERROR = 80  # characters of an error in the table


@dataclass(frozen=True)
class TrialRow:
    """A trial with its run, as far as it is on disk."""

    trial: optuna.trial.FrozenTrial
    run: SweptRun | None
    folds_done: int

    @property
    def words(self) -> dict[str, str]:
        """The values of the trial by key, as the command line writes them."""
        return dict(word.split("=", 1) for word in self.trial.user_attrs.get("words", ()))

    @property
    def is_finished(self) -> bool:
        """True if all folds are trained; Optuna gives a stopped trial the value of its last report."""
        return self.trial.state.name == "COMPLETE"

    @property
    def state(self) -> str:
        """What became of the trial, an empty text for a finished one."""
        return STATES[self.trial.state.name]

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Sort key: finished trials by their score, then the others by their folds."""
        f1 = self.run.f1 if self.run else self.trial.value or 0.0
        return not self.is_finished, -self.folds_done, -f1


class Outcome:
    """The trials of a search, the best first."""

    def __init__(self, search: Search, study: optuna.Study) -> None:
        self.search, self.study = search, study
        runs_dir = Path(search.example.runs_dir)
        self.rows = sorted((read_row(trial, runs_dir) for trial in study.get_trials()), key=lambda row: row.rank)
        self.finished = [row for row in self.rows if row.is_finished]

    @property
    def best(self) -> TrialRow | None:
        """The trial with the highest score, None if no trial is finished."""
        return self.finished[0] if self.finished else None

    @property
    def keys(self) -> list[str]:
        """The keys in which the trials differ, in the order of the space."""
        keys = dict.fromkeys(param.key for param in self.search.space.params)
        return [key for key in keys if len({row.words.get(key) for row in self.rows}) > 1]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the head and a row for each trial: its number, the values that differ, and its scores."""
        with_eval = any(row.run and row.run.eval_f1 is not None for row in self.rows)
        head = ["trial", *self.keys, "out-of-fold F1", *["evaluation F1"] * with_eval, "folds", "seconds"]
        return head, [row_cells(row, self.keys, with_eval) for row in self.rows]

    @cached_property
    def bias(self) -> float | None:
        """By how much the best score is too high because it was chosen; None with too few people, or without runs."""
        runs = [Run(Path(self.search.example.runs_dir) / row.run.id) for row in self.finished if row.run]
        unique = list({run.id: run for run in runs}.values())
        try:
            scored = [oof_predictions([[run]]) for run in unique]
        except MaskclsError:  # a run was deleted
            return None
        first = scored[0].ids if scored else []
        same = [one for one in scored if one.ids == first]  # a trial can have another number of people
        return selection_bias([one.tallies()[0] for one in same]) if len(same) == len(scored) > 0 else None

    @cached_property
    def importances(self) -> dict[str, float]:
        """The share of each parameter in the variance of the scores (fANOVA), empty with too few finished trials."""
        import optuna

        if len(self.finished) < 4 or len({row.trial.value for row in self.finished}) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(self.study, evaluator=evaluator)

    @property
    def command(self) -> str:
        """The command that trains the best trial; its run is finished, so it prints its result."""
        words = self.best.trial.user_attrs["words"] if self.best else []
        return shlex.join(["python", "-m", "maskcls.run", *self.search.base, *words])

    def sentences(self) -> list[str]:
        """Return the conclusions: the counts, the best score with its correction, and the exam's score."""
        counts = {state: sum(row.state == state for row in self.rows) for state in STATES.values()}
        stopped = "".join(f", {count} {state}" for state, count in counts.items() if state and count)
        seconds = sum(row.run.seconds for row in {row.run.id: row for row in self.rows if row.run}.values() if row.run)
        folds = sum(row.folds_done for row in self.rows)
        lines = [f"{counts['']} trials finished{stopped}: {folds} folds, {format_duration(seconds)} of training"]
        if self.best is None or self.best.run is None:
            return [*lines, "no trial is finished: there is no best one"] if self.best is None else lines
        return [*lines, *describe_best(self.best, self.best.run, len(self.finished), self.bias)]


def describe_best(row: TrialRow, run: SweptRun, count: int, bias: float | None) -> list[str]:
    """Return the score of the best of `count` trials, and by how much it is too high."""
    score = f"best: trial {row.trial.number}, out-of-fold F1 {run.f1:.4f} {format_ci(run.interval, '.3f')}"
    if bias is None:
        lines = [f"{score}. It is the largest of {count} and so too high; too few people to say by how much"]
    else:
        lines = [f"{score}. It is the largest of {count} and so too high: by {bias:.4f} (bootstrap over people), "
                 f"which leaves {run.f1 - bias:.4f}"]  # fmt: skip
    if run.eval_f1 is not None:
        lines.append(f"on the evaluation set, which chose no trial: F1 {run.eval_f1:.4f}")
    return lines


def read_row(trial: optuna.trial.FrozenTrial, runs_dir: Path) -> TrialRow:
    """Return a trial with the scores of its run, without them if the run is gone or broken."""
    words = trial.user_attrs.get("words", [])
    try:
        run = Run(runs_dir / trial.user_attrs["run"])
        return TrialRow(trial, SweptRun.of(run.path, words), sum(map(run.fold_is_done, range(num_folds(run.table)))))
    except (KeyError, MaskclsError):
        return TrialRow(trial, None, 0)


def row_cells(row: TrialRow, keys: Sequence[str], with_eval: bool) -> list[str]:
    """Return the cells of a trial."""
    run = row.run
    error = row.trial.user_attrs.get("error", "").partition("\n")[0]
    outcome = f"failed: {error[:MAX_ERROR]}" if row.state == "failed" else row.state
    f1 = f"{run.f1:.4f} {format_ci(run.interval, '.3f')}" if run else ""
    score = " ".join(filter(None, [f1, run.remark if run and not row.state else "", outcome]))
    evaluation = [f"{run.eval_f1:.4f}" if run and run.eval_f1 is not None else ""] * with_eval
    seconds = f"{run.seconds:.0f}" if run else ""
    values = [row.words.get(key, "") for key in keys]
    return [str(row.trial.number), *values, score, *evaluation, str(row.folds_done), seconds]
