"""Training of one fold: resume, save each epoch, predict with the selected weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.components.head import Head
from maskcls.components.loggers.base import LogFn
from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.core.table import eval_indices, table_digest, val_indices
from maskcls.core.task_options import DEFAULT_TASK
from maskcls.engine.experiment import Experiment, Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import fit, update_bn
from maskcls.inference.forward import predict_columns
from maskcls.storage.checkpoint import (
    average_weights,
    load_checkpoint,
    load_weights,
    retry_hint,
    save_tensors,
    save_weights,
    split_members,
    wrap_load_errors,
)
from maskcls.storage.predictions import FoldPredictions, Predictions
from maskcls.storage.provenance import begin_session
from maskcls.storage.run import Run
from maskcls.system import console, distributed
from maskcls.system.files import file_lock


def train_fold(experiment: Experiment, k: int, log: LogFn) -> None:
    """Train fold k and write its predictions, unless they exist; the main process holds the fold's lock."""
    run = experiment.run
    lock = file_lock(run.lock_path(k), lambda: console.info("fold is being trained by another process; waiting"))
    with lock if console.is_main_process() else nullcontext():
        distributed.barrier()
        if not distributed.broadcast(run.fold_is_done(k)):
            train_epochs(experiment, k, log)


def train_epochs(experiment: Experiment, k: int, log: LogFn) -> None:
    """Train the remaining epochs of fold k and predict."""
    cfg, run, hardware = experiment.cfg, experiment.run, experiment.hardware
    head, fold = experiment.head, experiment.fold(k)
    state = build_train_state(cfg, head, hardware, fold.image_size, k)
    last_path = run.state_path(k)
    if last_path.exists():
        state.load(last_path)
        console.info(f"fold {k}: resuming after epoch {state.epoch}")
    facts, digest = hardware.facts(), table_digest(experiment.table, experiment.task)
    if console.is_main_process() and (change := begin_session(cfg, run, k, state.epoch, digest, facts)):
        console.info(f"fold {k}: resuming with different software ({change})", "yellow")
    num_batches = len(fold.train_indices) // cfg.batch_size
    with console.FoldProgress(f"fold {k}", num_batches * cfg.epochs, num_batches * state.epoch) as progress:
        is_stopped = state.out_of_patience(cfg.patience, cfg.min_delta)
        for row in () if is_stopped else fit(cfg, state, fold, head, hardware, progress):
            if console.is_main_process():
                save_epoch(experiment, state, row, log)
            progress.epoch(row, cfg.epochs)
            if state.out_of_patience(cfg.patience, cfg.min_delta):
                break
    finish_fold(experiment, state, fold, head)


def conclude_fold(experiment: Experiment, k: int) -> None:
    """Predict with the best weights so far of fold k, unless it is finished; the caller holds the fold's lock."""
    cfg, run = experiment.cfg, experiment.run
    if not run.fold_is_done(k):
        head, fold = experiment.head, experiment.fold(k)
        state = build_train_state(cfg, head, experiment.hardware, fold.image_size, k)
        state.load(run.state_path(k))
        console.info(f"fold {k}: concluding after epoch {state.epoch} of {cfg.epochs}")
        finish_fold(experiment, state, fold, head)


def save_epoch(experiment: Experiment, state: TrainState, row: dict[str, Any], log: LogFn) -> None:
    """Save an epoch: weights before last.pt, which refers to them; then remove the weights no longer selected."""
    cfg, run, k = experiment.cfg, experiment.run, row["fold"]
    selected, metadata = state.selected_epochs(cfg.select, cfg.num_selected_epochs), checkpoint_metadata(cfg, state)
    if state.epoch in selected:
        save_weights(state.eval_model, run.epoch_path(k, state.epoch), metadata)
    run.append_epoch(row)
    log(row)
    state.save(run.state_path(k), metadata)
    remove_unused_weights(run, k, selected)


def remove_unused_weights(run: Run, k: int, selected: Sequence[int]) -> None:
    """Remove the weights of fold k after epochs that are not selected."""
    selected_paths = {run.epoch_path(k, epoch) for epoch in selected}
    for path in run.fold_dir(k).glob("epoch*.pt"):
        if path not in selected_paths:
            path.unlink()


def checkpoint_metadata(cfg: Config, state: TrainState) -> dict[str, Any]:
    """Return what prediction needs besides the weights."""
    options = cfg.to_dict()
    task = {} if cfg.task.build() == DEFAULT_TASK else {"task": options["task"]}  # as in older versions
    return task | {
        "model_word": options["model"], "head": options["head"], "crop": options["crop"], "tta": options["tta"],
        "precision": cfg.precision, "classes": list(cfg.task.build().classes), "epoch": state.epoch,
        "mean": list(state.model.mean), "std": list(state.model.std),  # type: ignore[arg-type]
    }  # fmt: skip


def finish_fold(experiment: Experiment, state: TrainState, fold: Fold, head: Head) -> None:
    """Predict the validation and evaluation rows with the selected weights; oof.npz, written last, ends the fold."""
    distributed.barrier()
    cfg, run, hardware, k = experiment.cfg, experiment.run, experiment.hardware, fold.index
    ids, eval_rows = experiment.table["id"].to_numpy(str), eval_indices(experiment.table)
    model, num_val = state.eval_model, len(fold.val_indices)
    epochs = (state.ranked_epochs if cfg.ensemble_epochs > 1 else state.selected_epochs)(
        cfg.select, cfg.num_selected_epochs
    )
    members, is_averaged = collect_weights(cfg, run, k, epochs)
    parts, indices = [], np.concatenate([fold.val_indices, eval_rows])
    for path, weights in members:
        with wrap_load_errors(path):
            load_weights(model, weights)
        if is_averaged:
            update_bn(cfg, model, fold, hardware)
        parts.append(predict_columns(model, head, fold.unchanged, indices, hardware, cfg.precision, cfg.tta.build()))
    columns = np.stack(parts).mean(0, dtype=np.float64)  # (val + eval, C or C + 2)
    if console.is_main_process():
        others = {"members": [weights for _, weights in members[1:]]} if len(members) > 1 else {}
        weights = members[0][1] if others else model.state_dict()
        metadata = checkpoint_metadata(cfg, state) | {"epoch": epochs}
        save_tensors(run.checkpoint_path(k), {"model": weights, **metadata, **others})
        is_concluded = state.epoch < cfg.epochs and not state.out_of_patience(cfg.patience, cfg.min_delta)
        if not is_concluded:  # else the fold may still be trained on
            remove_unused_weights(run, k, ())  # before oof.npz: finished folds are not opened again
        val = Predictions.of_columns(ids[fold.val_indices], columns[:num_val], experiment.task.num_classes)
        evaluation = Predictions.of_columns(ids[eval_rows], columns[num_val:], experiment.task.num_classes)
        FoldPredictions(val, evaluation, state.epoch, epochs, is_concluded).write(run.fold_predictions_path(k))
    distributed.barrier()


def collect_weights(cfg: Config, run: Run, k: int, epochs: Sequence[int]) -> tuple[list[tuple[Path, Any]], bool]:
    """Return the weights that predict together with their files, and True if they are newly averaged over epochs.

    best.pt has them if the fold was killed before oof.npz.
    """
    best_path = run.checkpoint_path(k)
    if distributed.broadcast(best_path.exists() and has_epochs(best_path, epochs)):
        with wrap_load_errors(best_path):
            return [(best_path, member["model"]) for member in split_members(load_checkpoint(best_path))], False
    paths = [run.epoch_path(k, epoch) for epoch in epochs]
    if cfg.ensemble_epochs > 1:
        return [(path, average_weights([path])) for path in paths], False
    return [(paths[-1], average_weights(paths))], len(paths) > 1


def has_epochs(path: Path, epochs: Sequence[int]) -> bool:
    """Return True if a checkpoint has the weights of these epochs."""
    with wrap_load_errors(path):
        return bool(load_checkpoint(path)["epoch"] == epochs)


def check_rows(predictions: FoldPredictions, table: pd.DataFrame, k: int) -> None:
    """Raise RunError if the predictions of fold k are not for the rows of this table."""
    ids = table["id"].to_numpy(str)
    for part, indices in ((predictions.val, val_indices(table, k)), (predictions.eval, eval_indices(table))):
        if not np.array_equal(part.ids, ids[indices]):
            path = Path(part.source)
            raise RunError(f"{path} has other images than fold {k} of this run. {retry_hint(path)}")
