"""Extension of a finished run: a run with more epochs continues from the states of the run that had fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from maskcls.components.loggers.base import LogFn
from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.core.table import num_folds, table_digest, train_indices
from maskcls.engine.size_schedule import epoch_scale
from maskcls.storage.checkpoint import load_checkpoint, save_tensors, split_members
from maskcls.storage.origins import collect_origins
from maskcls.storage.provenance import (
    code_digest,
    collect_provenance,
    describe_change,
    read_sessions,
    software_versions,
)
from maskcls.storage.run import Run, differing_origins
from maskcls.system import console
from maskcls.system.files import atomic_write, file_lock, write_json
from maskcls.system.safe_reading import read_bytes


def find_shorter_run(cfg: Config, run: Run) -> Run | None:
    """Return the finished run whose config differs only in its fewer epochs, the longest if there are several."""
    others = {path.parent.name for path in run.path.parent.glob(f"{cfg.name}-*/metrics.json")} - {run.id}
    shorter = (Run.of(replace(cfg, epochs=epochs)) for epochs in range(cfg.epochs - 1, 0, -1) if others)
    return next((other for other in shorter if other.id in others), None)


def extend_run(shorter: Run, cfg: Config, run: Run, table: pd.DataFrame, log: LogFn) -> None:
    """Copy the states of a shorter run to the folds of a run that have none; print why if they cannot be continued."""
    folds = range(num_folds(table)) if cfg.fold is None else [cfg.fold]
    new_folds = [k for k in folds if not run.state_path(k).exists() and not run.fold_is_done(k)]
    for k in new_folds:
        reason = explain_refusal(shorter, cfg, table, k) or continue_fold(shorter, run, k, log)
        if reason:
            console.info(f"{shorter.id} has fewer epochs, but {reason}. Training from the start", "yellow")
            return
    if new_folds:
        run.add_provenance(extends=shorter.id)


def explain_refusal(shorter: Run, cfg: Config, table: pd.DataFrame, k: int) -> str | None:
    """Return why fold k of a shorter run cannot be continued with the same result as a training from the start."""
    if cfg.average_epochs > 1:
        return f"average_epochs={cfg.average_epochs} needs the weights of its single epochs, which were averaged"
    for path in (shorter.state_path(k), shorter.checkpoint_path(k)):
        if not path.is_file():
            return f"{path} is missing"
    if change := describe_difference(shorter, cfg, table, k):
        return change
    try:
        history = load_checkpoint(shorter.state_path(k))["history"]
    except RunError as error:
        return str(error)
    steps = len(train_indices(table, k)) // cfg.batch_size
    if not is_same_schedule(cfg, int(shorter.config["epochs"]), steps, history):
        return f"scheduler={cfg.scheduler.name} depends on the number of epochs"
    fewer = replace(cfg, epochs=int(shorter.config["epochs"]))
    if any(epoch_scale(fewer, epoch) != epoch_scale(cfg, epoch) for epoch in range(len(history))):
        return "size_schedule depends on the number of epochs"
    return None


def describe_difference(shorter: Run, cfg: Config, table: pd.DataFrame, k: int) -> str | None:
    """Return the difference in software, data or initial weights between fold k of a shorter run and now, or None."""
    here = software_versions(collect_provenance({}) | {"code": code_digest(cfg.plugins)})
    sessions = read_sessions(shorter, k)
    if not sessions:
        return f"the software that trained its fold {k} is unknown"
    for session in sessions:
        if change := describe_change(software_versions(session), here):
            return f"it was trained with other software ({change})"
        digest = table_digest(table, cfg.task.build())
        if session.get("data") != digest or differing_origins(collect_origins(cfg), session.get("from")):
            return "it was trained on other data or from other weights"
    return None


def is_same_schedule(cfg: Config, epochs: int, steps_per_epoch: int, history: Sequence[float]) -> bool:
    """Return True if the first steps have the same learning rates with fewer epochs and with those of the config.

    `history` has the scores of the completed epochs.
    """
    fewer, more = (cfg.scheduler.build(count * steps_per_epoch, steps_per_epoch) for count in (epochs, cfg.epochs))
    return all(
        fewer(epoch * steps_per_epoch + step, history[:epoch]) == more(epoch * steps_per_epoch + step, history[:epoch])
        for epoch in range(len(history))
        for step in range(steps_per_epoch)
    )


def continue_fold(shorter: Run, run: Run, k: int, log: LogFn) -> str | None:
    """Copy weights, history and, last, the state of a shorter run's fold; return why this is impossible, or None."""

    def refuse() -> None:
        raise RunError(f"fold {k} is being trained by another process")

    try:
        with file_lock(run.lock_path(k), refuse):
            content = load_checkpoint(shorter.checkpoint_path(k))
            rows = [row for row in shorter.history() if row["fold"] == k]
            for epoch, member in zip(content["epoch"], split_members(content), strict=True):
                save_tensors(run.epoch_path(k, epoch), {**member, "epoch": epoch, "members": []})
            for row in rows:
                run.append_epoch(row)
                log(row)
            write_json(run.sessions_path(k), {"sessions": read_sessions(shorter, k)})
            atomic_write(run.state_path(k), lambda file: file.write(read_bytes(shorter.state_path(k))))
    except RunError as error:
        return str(error)
    console.info(f"fold {k}: continuing {shorter.id}, trained for {len(rows)} epochs")
    return None
