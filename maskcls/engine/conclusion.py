"""Conclusion of a stopped run: predictions, tables and report with the best weights of the epochs so far."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from maskcls.components.loggers.base import LogFn
from maskcls.config.validation import validate
from maskcls.core.config import UNHASHED_OPTIONS, Config
from maskcls.core.errors import RunError, and_others
from maskcls.core.table import num_folds
from maskcls.engine.experiment import Experiment
from maskcls.engine.fold import conclude_fold
from maskcls.engine.runner import NO_CONTEXT, train_run
from maskcls.reporting.summary import print_summary
from maskcls.storage.run import Run, find_run
from maskcls.system import console
from maskcls.system.files import file_lock


def conclude(name: str, runs_dir: str, plugins: Sequence[str]) -> float:
    """Finish a stopped run as it is, by its folder or its name in `runs_dir`; return its macro F1 out of fold."""
    run = Run(find_run(name, Path(runs_dir)))
    metrics = run.metrics()
    if metrics is None:
        run.check()
        check_started(run)
        cfg = restore_config(run, plugins)
        metrics = train_run(cfg, run, cfg.hardware.build(), NO_CONTEXT, conclude_folds)
        message = f"To train the other epochs, delete {run.metrics_path.name} and fold*/oof.npz there and run it again"
        console.info(message)
    assert metrics is not None  # every fold has predictions
    print_summary(run, metrics)
    return float(metrics["oof"]["f1"])


def check_started(run: Run) -> None:
    """Raise RunError if a fold has neither predictions nor a completed epoch."""
    folds = range(num_folds(run.table))
    missing = [str(k) for k in folds if not run.fold_is_done(k) and not run.state_path(k).is_file()]
    if missing:
        folds_have = "folds {} have" if len(missing) > 1 else "fold {} has"
        what = f"{run.path}: {folds_have.format(and_others(missing, 9))} no completed epoch"
        raise RunError(
            f"{what}. Run it again to train, or predict with the others: maskcls predict runs='[{run.path}]'"
        )


def restore_config(run: Run, plugins: Sequence[str]) -> Config:
    """Return the config of a run; plugins of its config.yaml must be named, for they are code."""
    if missing := [name for name in run.config.get("plugins") or [] if name not in plugins]:
        raise RunError(f"{run.path} uses plugins. Set plugins={','.join(map(str, missing))} to import them")
    config = UNHASHED_OPTIONS | dict(run.config) | {"fold": None}  # older versions have no such keys
    return replace(validate(config), runs_dir=str(run.path.parent))


def conclude_folds(experiment: Experiment, log: LogFn) -> None:
    """Predict with the best weights so far of each fold; RunError, before any fold is concluded, if one is trained."""

    def refuse(k: int) -> None:
        raise RunError(f"fold {k} is being trained by another process. Stop it first")

    with ExitStack() as locks:
        for k in range(experiment.num_folds):
            locks.enter_context(file_lock(experiment.run.lock_path(k), partial(refuse, k)))
        for k in range(experiment.num_folds):
            conclude_fold(experiment, k)
