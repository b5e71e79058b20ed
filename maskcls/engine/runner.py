"""One run, from its config to its closing metrics; an interrupted run is resumed, a finished one only reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from maskcls.components.hardware import Hardware
from maskcls.components.loggers.base import LogContext, LogFn
from maskcls.config.auto_weights import share_weights
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import PhotoError, RunError
from maskcls.core.table import describe_table, num_folds, size_digest, table_digest
from maskcls.data.assemble import assemble_table, common_image_size, fit_batch_size
from maskcls.data.pixel_cache import Pixels, load_pixels
from maskcls.engine import fold_processes
from maskcls.engine.experiment import Experiment
from maskcls.engine.extension import extend_run, find_shorter_run
from maskcls.engine.fold import train_fold
from maskcls.engine.out_of_fold import summarize
from maskcls.engine.run_log import RunLog, build_logger, log_finished
from maskcls.engine.sanity_check import check_init_folds, dry_run
from maskcls.evaluation.metrics import macro_f1
from maskcls.reporting.run_report import write_report
from maskcls.reporting.summary import print_summary
from maskcls.storage.origins import collect_origins
from maskcls.storage.provenance import check_data, collect_provenance, describe_since, read_sessions, software_notes
from maskcls.storage.run import Run
from maskcls.system import console, distributed
from maskcls.system.files import check_writable, file_lock, write_json

NO_CONTEXT = LogContext()
TrainFn = Callable[[Experiment, LogFn], None]
StopFn = Callable[[Run, int], bool]  # called after each fold, with its index: True ends the run before the other folds


def never_stop(run: Run, k: int) -> bool:
    """Return False: all folds are trained."""
    return False


def run(raw: DictConfig | Mapping[str, Any], context: LogContext = NO_CONTEXT) -> float:
    """Train the folds of a config; return the macro F1 over all folds, or of `fold` if that is set."""
    return run_experiment(validate(raw), context)


def run_experiment(cfg: Config, context: LogContext = NO_CONTEXT, should_stop: StopFn = never_stop) -> float:
    """Run a validated config, logged with its context; return the macro F1.

    If `should_stop` ends the run, it is the macro F1 of fold 0, and the same config trains the other folds later.
    """
    hardware = cfg.hardware.build()
    distributed.init_process_group(hardware.device)
    try:
        cfg = share_weights(cfg)
        run = Run.of(cfg)
        for note in cfg.notes:
            console.warn_once(note)
        metrics = distributed.broadcast(load_metrics_if_done(cfg, run, context))
        if metrics is None:
            metrics = train_run(cfg, run, hardware, context, should_stop=should_stop)
        if metrics is not None:
            print_summary(run, metrics)
        return print_fold_scores(cfg, run) if metrics is None or cfg.fold is not None else float(metrics["oof"]["f1"])
    finally:
        distributed.destroy_process_group()


def load_metrics_if_done(cfg: Config, run: Run, context: LogContext | None = None) -> dict[str, Any] | None:
    """Return the metrics of a finished run, None if it is not finished; raise RunError if its data have changed.

    With a context, loggers that need a finished run again get it.
    """
    metrics = run.metrics()
    if metrics is not None:
        table = assemble_table(cfg, lambda note: None)
        for message in filter(None, (bind_data(cfg, run, table), describe_since(cfg, run, num_folds(table)))):
            console.info(message, "yellow")
        if context is not None:
            log_finished(cfg, run, table, metrics, context)
    return metrics


def bind_data(cfg: Config, run: Run, table: pd.DataFrame) -> str | None:
    """Bind a run to its images, labels and initial weights; RunError if it has others. Return a note on an old run."""
    task = cfg.task.build()
    digest = table_digest(table, task)
    return run.bind_data(digest, len(table), collect_origins(cfg), lambda: size_digest(table, task))


def train_run(
    cfg: Config, run: Run, hardware: Hardware, context: LogContext, train: TrainFn | None = None,
    should_stop: StopFn = never_stop,
) -> dict[str, Any] | None:  # fmt: skip
    """Train the folds of a config; return the closing metrics if all folds are finished, else None.

    `train` replaces the training of the folds, for a run that is concluded.
    """
    notes: list[str] = []
    started_at = time.monotonic()
    logger = build_logger(cfg, context)
    check_writable(runs_dir=cfg.runs_dir, cache_dir=cfg.cache_dir)
    dry_run(cfg, hardware)
    table, pixels = load_images(cfg, run, hardware, notes)
    shorter = find_shorter_run(cfg, run) if train is None and console.is_main_process() else None
    cfg = replace(cfg, batch_size=fit_batch_size(table, cfg))
    if console.is_main_process():
        run.create({key: value for key, value in cfg.to_dict().items() if key != "fold"})
        bind_data(cfg, run, table)
        run.write_table(table)
        run.add_provenance(**collect_provenance(hardware.facts()), notes=cfg.notes, **context.facts())
    experiment = Experiment(cfg, run, table, pixels, hardware)
    with RunLog(cfg, run, table, logger) as log:
        if shorter:
            extend_run(shorter, cfg, run, table, log.log)
        (train or partial(train_folds, should_stop=should_stop))(experiment, log.log)
        metrics = finalize_run(experiment, notes, started_at) if console.is_main_process() else None
        log.metrics = metrics or {}
    return distributed.broadcast(metrics)


def load_images(cfg: Config, run: Run, hardware: Hardware, notes: list[str]) -> tuple[pd.DataFrame, Pixels]:
    """Return the image table and its pixels; remarks are appended to `notes`.

    With on_error=skip, images that fail only when decoded are excluded, too: the table is assembled again.
    """

    def note(text: str) -> None:
        notes.append(text)
        console.info(text, "yellow")

    table = build_table(cfg, run, hardware, note)
    while True:
        try:
            return table, load_pixels(table, cfg.crop, Path(cfg.cache_dir), note)
        except PhotoError:
            notes.clear()
            num_images, table = len(table), build_table(cfg, run, hardware, note)  # raises with on_error=stop
            if len(table) == num_images:
                raise


def build_table(cfg: Config, run: Run, hardware: Hardware, note: Callable[[str], None]) -> pd.DataFrame:
    """Return the image table, checked against the config and the run."""
    table = assemble_table(cfg, note)
    console.info(f"{run.path}: {describe_table(table, cfg.task.build())}", "bold")
    console.info(f"hardware {cfg.hardware.name}: {hardware}")
    check_init_folds(cfg, table, note)
    if (image_size := common_image_size(cfg, table)) is not None:
        dry_run(cfg, hardware, image_size)
    if run.is_bound and (message := bind_data(cfg, run, table)):
        note(message)
    return table


def train_folds(experiment: Experiment, log: LogFn, should_stop: StopFn = never_stop) -> None:
    """Train the folds of the config, one after the other or in parallel processes, until `should_stop`."""
    cfg, num_processes = experiment.cfg, experiment.hardware.folds_at_once
    folds = list(range(experiment.num_folds)) if cfg.fold is None else [cfg.fold]
    remaining = [k for k in folds if not experiment.run.fold_is_done(k)]
    if num_processes > 1 and len(remaining) > 1 and distributed.world_size() == 1:
        fold_processes.train_in_processes(experiment, remaining, min(num_processes, len(remaining)), log, should_stop)
        return
    for k in folds:
        train_fold(experiment, k, log)
        if distributed.broadcast(should_stop(experiment.run, k)):
            break


def finalize_run(experiment: Experiment, notes: list[str], started_at: float) -> dict[str, Any] | None:
    """Write tables, report and, last, metrics.json once every fold is finished, in the process that finishes last."""
    cfg, run, table, num_folds = experiment.cfg, experiment.run, experiment.table, experiment.num_folds
    with file_lock(run.lock_path()):
        metrics = run.metrics()
        if metrics is None and all(run.fold_is_done(k) for k in range(num_folds)):
            check_data(cfg, run, num_folds, table_digest(table, cfg.task.build()))
            metrics = summarize(experiment, [*cfg.notes, *notes, *software_notes(run, num_folds)])
            run.add_provenance(folds={str(k): read_sessions(run, k) for k in range(num_folds)})
            run.add_provenance(seconds=round(time.monotonic() - started_at, 1))
            write_report(run, metrics, table)
            write_json(run.metrics_path, metrics)
    return metrics


def print_fold_scores(cfg: Config, run: Run) -> float:
    """Print the F1 of the config's fold, or of each finished fold of a stopped run, and return the mean.

    The F1 is without a decision, which is fitted to all folds.
    """
    folds = [k for k in range(num_folds(run.table)) if run.fold_is_done(k)] if cfg.fold is None else [cfg.fold]
    scores = [fold_f1(run, k) for k in folds]
    hint = f", before decision={cfg.decision.name}, which needs all folds" if cfg.decision.name != "none" else ""
    for k, score in zip(folds, scores, strict=True):
        console.info(f"{run.path} fold {k}: F1 {score:.4f}{hint}")
    return float(np.mean(scores))


def fold_f1(run: Run, k: int) -> float:
    """Return the F1 of the out-of-fold predictions of a fold; raise RunError if they are not those of the table."""
    predictions = run.fold_predictions(k).val
    labels = run.table.set_index("id")["label"]
    if not set(predictions.ids) <= set(labels.index):
        raise RunError(f"{predictions.source} has other images than {run.table_path}. Delete it and run again")
    return macro_f1(labels[predictions.ids.tolist()].to_numpy(np.int64), predictions.preds)
