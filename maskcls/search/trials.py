"""One trial: a run, reported to the study fold by fold, and stopped if it surely loses against the best one."""

from __future__ import annotations

import hashlib
import traceback
from concurrent.futures import BrokenExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hydra.core.hydra_config import HydraConfig

from maskcls.components.loggers.base import LogContext
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import DataError, MaskclsError, as_user_error
from maskcls.core.table import num_folds
from maskcls.engine.runner import run_experiment
from maskcls.evaluation.metrics import macro_f1
from maskcls.search.plan import Search
from maskcls.search.study import PARTS
from maskcls.storage.run import Run
from maskcls.system import console

if TYPE_CHECKING:
    import optuna

MIN_PEOPLE = 2  # of a part
SHARED_ERRORS = (OSError, DataError, BrokenExecutor)  # which other trials would have, too: they end the search


def run_trial(search: Search, study: optuna.Study, trial: optuna.Trial) -> None:
    """Run a trial and tell its score to the study, or its error; errors of the machine or the data are raised."""
    import optuna

    console.info(f"\ntrial {trial.number}: {' '.join(trial.user_attrs['words'])}", "bold")
    try:
        cfg, context = prepare(search, trial)
        run = Run.of(cfg)
        trial.set_user_attr("run", run.id)
        with console.progress_prefix(f"trial {trial.number}"):
            f1 = run_experiment(cfg, context, FoldReports(search, trial).should_stop)
    except SHARED_ERRORS:
        raise
    except Exception as error:
        trial.set_user_attr("error", describe(error))
        console.print_error(MaskclsError(f"trial {trial.number} failed: {describe(error)}"))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    if run.is_done:
        FoldReports(search, trial).report(run)  # of a run that was finished before
        study.tell(trial, f1)
    else:
        console.info(f"trial {trial.number} stopped, losing to the best one; {run.path} keeps its folds", "yellow")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def prepare(search: Search, trial: optuna.Trial) -> tuple[Config, LogContext]:
    """Return the config of a trial, under the name of an equal run if there is one, and what a logger shows of it."""
    cfg: Config = validate(compose(*search.base, *trial.user_attrs["words"]))
    choices = HydraConfig.get().runtime.choices.items()
    words = {str(key): str(option) for key, option in choices if option and not str(key).startswith("hydra/")}
    return reuse_run(cfg), LogContext(search.id, words)


def reuse_run(cfg: Config) -> Config:
    """Return a config under the name of the finished run with the same content, if another name has one."""
    own = Run.of(cfg)
    hash_ = own.id.rpartition("-")[2]
    others = [Run(path) for path in sorted(Path(cfg.runs_dir).glob(f"*-{hash_}"))]
    finished = [run for run in others if run.is_done]
    if own.is_done or not finished:
        return cfg
    return replace(cfg, name=finished[0].id.rpartition("-")[0])


class FoldReports:
    """Reports the finished folds of a trial to its study."""

    def __init__(self, search: Search, trial: optuna.Trial) -> None:
        self.search, self.trial = search, trial

    def report(self, run: Run) -> bool:
        """Report the folds that are finished; return True if all are."""
        import optuna

        folds = range(num_folds(run.table))
        done = [k for k in folds if run.fold_is_done(k)]
        reported = set(self.trial.storage.get_trial(self.trial._trial_id).intermediate_values)
        for k in done:
            for i, score in enumerate(part_scores(run, k)):
                if k * PARTS + i not in reported:
                    optuna.Trial.report(self.trial, score, k * PARTS + i)
        return len(done) == len(folds)

    def should_stop(self, run: Run, k: int) -> bool:
        """Return True if the folds so far surely lose against the same folds of the best trial."""
        return not self.report(run) and self.search.options.prune and self.trial.should_prune()


def part_scores(run: Run, k: int) -> list[float]:
    """Return the macro F1 of fold k on PARTS parts of its people, the same parts in every run over these people."""
    predictions = run.fold_predictions(k).val
    rows = run.table.set_index("id").loc[predictions.ids.tolist()]
    labels, persons = rows["label"].to_numpy(np.int64), rows["person"].to_numpy(str)
    people = sorted(set(persons), key=lambda person: hashlib.sha256(str(person).encode()).hexdigest())
    parts = np.array_split(np.array(people), max(min(PARTS, len(people) // MIN_PEOPLE), 1))
    inside = [np.isin(persons, part) & (labels >= 0) for part in parts]
    return [macro_f1(labels[rows], predictions.preds[rows]) for rows in inside]


def describe(error: Exception) -> str:
    """Return an error as the user reads it; the traceback of a bug is printed."""
    try:
        return str(as_user_error(error))
    except Exception:
        traceback.print_exception(error)
        return f"{type(error).__name__}: {error}"
