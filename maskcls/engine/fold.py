"""Folds of a run: each trained from wherever it was left; together they are the out-of-fold table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.components.hardware import Hardware
from maskcls.components.head import Head
from maskcls.components.logger import LogFn
from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.core.table import eval_indices, table_digest, val_indices
from maskcls.core.task import CLASSES
from maskcls.data.pixel_cache import Pixels
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import Fold, fit, update_bn
from maskcls.inference.forward import predict_probs
from maskcls.storage.checkpoint import (
    average_weights,
    load_checkpoint,
    load_weights,
    retry_hint,
    save_weights,
    wrap_load_errors,
)
from maskcls.storage.predictions import FoldPredictions, Predictions
from maskcls.storage.provenance import begin_session
from maskcls.storage.run import Run
from maskcls.system import console, distributed


def train_fold(
    cfg: Config, run: Run, table: pd.DataFrame, pixels: Pixels, k: int, hardware: Hardware, log: LogFn
) -> None:
    """Train fold k to its end and write its predictions; nothing is done where they stand."""
    if distributed.broadcast(run.fold_is_done(k)):
        return
    head, fold = cfg.head.build(), Fold.of(table, pixels, k, hardware)
    state = build_train_state(cfg, head, hardware, fold.image_size, k)
    last = run.state_path(k)
    if last.exists():
        state.load(last)
        console.info(f"fold {k} goes on after epoch {state.epoch}")
    facts, data = hardware.facts(), table_digest(table)
    if console.is_main_process() and (change := begin_session(cfg, run, k, state.epoch, data, facts)):
        console.info(f"fold {k} goes on with other software: {change}", "yellow")
    batches = len(fold.train_indices) // cfg.batch
    with console.FoldProgress(f"fold {k}", batches * cfg.epochs, batches * state.epoch) as meter:
        for numbers in fit(cfg, state, fold, head, hardware, meter) if not state.out_of_patience(cfg.patience) else ():
            if console.is_main_process():
                save_epoch(cfg, run, state, numbers, log)
            meter.epoch(numbers, cfg.epochs)
            if state.out_of_patience(cfg.patience):
                break
    finish_fold(cfg, run, state, fold, head, hardware, table)


def save_epoch(cfg: Config, run: Run, state: TrainState, numbers: dict[str, Any], log: LogFn) -> None:
    """Write what an epoch gave: weights first, so that last.pt never speaks of lost ones; drop weights not wanted."""
    k, wanted = numbers["fold"], state.selected_epochs(cfg.select, cfg.average)
    if state.epoch in wanted:
        save_weights(state.eval_model, run.epoch_path(k, state.epoch), checkpoint_metadata(cfg, state))
    run.append_epoch(numbers)
    log(numbers)
    state.save(run.state_path(k))
    remove_unused_weights(run, k, wanted)


def remove_unused_weights(run: Run, k: int, epochs: Sequence[int]) -> None:
    """Delete the weights of fold k after all epochs but these."""
    kept = {run.epoch_path(k, epoch) for epoch in epochs}
    for file in run.fold_dir(k).glob("epoch*.pt"):
        if file not in kept:
            file.unlink()


def checkpoint_metadata(cfg: Config, state: TrainState) -> dict[str, Any]:
    """Return all that prediction must know beside the weights."""
    words = cfg.to_dict()
    return {
        "model_word": words["model"], "head": words["head"], "crop": words["crop"], "tta": words["tta"],
        "classes": list(CLASSES), "epoch": state.epoch,
        "mean": list(state.model.mean), "std": list(state.model.std),  # type: ignore[arg-type]
    }  # fmt: skip


def finish_fold(
    cfg: Config, run: Run, state: TrainState, fold: Fold, head: Head, hardware: Hardware, table: pd.DataFrame
) -> None:
    """Predict the held and the evaluation rows with the selected weights and write them: the fold is done."""
    distributed.barrier()
    epochs, rest = state.selected_epochs(cfg.select, cfg.average), eval_indices(table)
    model, best = state.eval_model, run.checkpoint_path(fold.index)
    made = distributed.broadcast(best.exists() and is_complete(best, epochs))  # killed between this file and the next
    files = [best] if made else [run.epoch_path(fold.index, epoch) for epoch in epochs]
    with wrap_load_errors(files[-1]):
        load_weights(model, average_weights(files))
    if not made and len(epochs) > 1:
        update_bn(cfg, model, fold, hardware)
    every = np.concatenate([fold.val_indices, rest])
    probs = predict_probs(model, head, fold.unchanged, every, hardware, cfg.precision, cfg.tta.build())
    if console.is_main_process():
        held = len(fold.val_indices)
        save_weights(model, best, checkpoint_metadata(cfg, state) | {"epoch": epochs})
        remove_unused_weights(run, fold.index, ())  # before oof.npz: a fold that is done is not looked at again
        ids = table["id"].to_numpy(str)
        val, evaluation = Predictions(ids[fold.val_indices], probs[:held]), Predictions(ids[rest], probs[held:])
        predictions = FoldPredictions(val, evaluation, state.epoch, list(epochs))
        predictions.write(run.fold_predictions_path(fold.index))
    distributed.barrier()


def is_complete(best: Path, epochs: Sequence[int]) -> bool:
    """Tell whether a file holds the weights of these epochs."""
    with wrap_load_errors(best):
        return bool(load_checkpoint(best)["epoch"] == epochs)


def check_rows(predictions: FoldPredictions, table: pd.DataFrame, k: int) -> None:
    """Raise RunError if a fold's predictions are of other images than the table's."""
    ids = table["id"].to_numpy(str)
    for part, indices in ((predictions.val, val_indices(table, k)), (predictions.eval, eval_indices(table))):
        if not np.array_equal(part.ids, ids[indices]):
            file = Path(part.source)
            raise RunError(f"{file} has other images than fold {k} of this run. {retry_hint(file)}")
