"""One run, from its config to its closing metrics: asked twice, it goes on, or answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from maskcls.components.hardware import Hardware
from maskcls.components.logger import LogFn, Logger
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import PhotoError, RunError
from maskcls.core.table import describe_table, num_folds, size_digest, table_digest
from maskcls.data.assemble import assemble_table, common_image_size
from maskcls.data.pixel_cache import Pixels, load_pixels
from maskcls.engine import fold_processes
from maskcls.engine.fold_processes import train_fold
from maskcls.engine.out_of_fold import summarize
from maskcls.engine.sanity_check import check_init_folds, dry_run
from maskcls.evaluation.metrics import macro_f1
from maskcls.reporting.run_report import write_report
from maskcls.reporting.summary import print_summary
from maskcls.storage.origins import collect_origins
from maskcls.storage.provenance import check_data, collect_provenance, describe_since, read_sessions, software_notes
from maskcls.storage.run import Run
from maskcls.system import console, distributed
from maskcls.system.files import check_writable, file_lock, write_json


def run(raw: DictConfig | Mapping[str, Any]) -> float:
    """Train the folds that a config asks for and return the macro F1: of all, or of the one that was asked for."""
    return run_experiment(validate(raw))


def run_experiment(cfg: Config) -> float:
    """Do what a checked config asks for."""
    place = Run.of(cfg)
    hardware = cfg.hardware.build()
    distributed.init_process_group(hardware.device)
    try:
        done = distributed.broadcast(load_metrics_if_done(cfg, place))
        if done is None:
            done = train_run(cfg, place, hardware)
        if done is not None:
            print_summary(place, done)
        return score_fold(place, cfg.fold) if done is None or cfg.fold is not None else float(done["oof"]["f1"])
    finally:
        distributed.destroy_process_group()


def load_metrics_if_done(cfg: Config, place: Run) -> dict[str, Any] | None:
    """Return the metrics of a run that is done; it answers only for the data that it was measured on."""
    done = place.metrics()
    if done is not None:
        table = assemble_table(cfg, lambda note: None)
        said = (claim(cfg, place, table), describe_since(cfg, place, num_folds(table)))
        for sentence in filter(None, said):
            console.info(sentence, "yellow")
    return done


def claim(cfg: Config, place: Run, table: pd.DataFrame) -> str | None:
    """Refuse a run's folder that is of other photos, labels, weights or runs; return a sentence on an older one."""
    return place.bind_data(table_digest(table), len(table), collect_origins(cfg), lambda: size_digest(table))


def train_run(cfg: Config, place: Run, hardware: Hardware) -> dict[str, Any] | None:
    """Train the wanted folds; return the closing metrics once all folds stand, else None."""
    notes: list[str] = []
    begun = time.monotonic()
    check_writable(runs_dir=cfg.runs_dir, cache_dir=cfg.cache_dir)
    dry_run(cfg, hardware)
    table, photos = load_photos(cfg, place, hardware, notes)
    if console.is_main_process():
        place.create({key: value for key, value in cfg.to_dict().items() if key != "fold"})
        claim(cfg, place, table)
        place.write_table(table)
        place.add_provenance(**collect_provenance(hardware.facts()))
    sink: Logger | None = cfg.logger.build(console.info) if console.is_main_process() else None
    closing, failed = None, True
    try:
        if sink:
            sink.begin(place, cfg.to_dict() | {"run": place.id})
        train_folds(cfg, place, table, photos, hardware, sink.log if sink else lambda numbers: None)
        closing = finalize_run(cfg, place, table, notes, begun) if console.is_main_process() else None
        failed = False
    finally:
        if sink:
            sink.end(closing or {}, failed)
    return distributed.broadcast(closing)


def load_photos(cfg: Config, place: Run, hardware: Hardware, notes: list[str]) -> tuple[pd.DataFrame, Pixels]:
    """Return the table and its pixels; `notes` gets what is worth knowing.

    With on_error=skip a photo that its decoding alone finds bad is left out too: the table is made again without it.
    """

    def note(text: str) -> None:
        notes.append(text)
        console.info(text, "yellow")

    table = make_table(cfg, place, hardware, note)
    while True:
        try:
            return table, load_pixels(table, cfg.crop, Path(cfg.cache_dir), note)
        except PhotoError:
            notes.clear()
            before, table = len(table), make_table(cfg, place, hardware, note)  # stops here with on_error=stop
            if len(table) == before:
                raise


def make_table(cfg: Config, place: Run, hardware: Hardware, note: Callable[[str], None]) -> pd.DataFrame:
    """Return the table of a run, once it is known that the run fits it."""
    table = assemble_table(cfg, note)
    console.info(f"{place.path}: {describe_table(table)}", "bold")
    console.info(f"hardware {cfg.hardware.name}: {hardware}")
    check_init_folds(cfg, table, note)
    if (size := common_image_size(cfg, table)) is not None:
        dry_run(cfg, hardware, size)
    if place.is_bound and (older := claim(cfg, place, table)):
        note(older)
    return table


def train_folds(cfg: Config, place: Run, table: pd.DataFrame, photos: Pixels, hardware: Hardware, log: LogFn) -> None:
    """Train the wanted folds, one after the other or some at once."""
    wanted = list(range(num_folds(table))) if cfg.fold is None else [cfg.fold]
    left = [k for k in wanted if not place.fold_is_done(k)]
    if hardware.folds_at_once > 1 and len(left) > 1 and distributed.world_size() == 1:
        fold_processes.train_folds(cfg, place, table, left, min(hardware.folds_at_once, len(left)), log)
        return
    for k in wanted:
        train_fold(cfg, place, table, photos, k, hardware, log)


def finalize_run(cfg: Config, place: Run, table: pd.DataFrame, notes: list[str], begun: float) -> dict[str, Any] | None:
    """Write tables, report and, last, metrics.json, once every fold is done; whoever comes last does it."""
    with file_lock(place.lock_path()):
        done = place.metrics()
        if done is None and all(place.fold_is_done(k) for k in range(num_folds(table))):
            count = num_folds(table)
            check_data(cfg, place, count, table_digest(table))
            done = summarize(place, cfg, table, [*notes, *software_notes(place, count)])
            place.add_provenance(folds={str(k): read_sessions(place, k) for k in range(count)})
            place.add_provenance(seconds=round(time.monotonic() - begun, 1))
            write_report(place, done, table)
            write_json(place.metrics_path, done)
    return done


def score_fold(place: Run, k: int | None) -> float:
    """Print and return the F1 of one fold of a run."""
    predictions = place.fold_predictions(int(k or 0)).val
    labels = place.table.set_index("id")["label"]
    if not set(predictions.ids) <= set(labels.index):
        raise RunError(f"{predictions.source} has other images than {place.table_path}. Delete it and run again")
    score = macro_f1(labels[predictions.ids.tolist()].to_numpy(np.int64), predictions.preds)
    console.info(f"{place.path} fold {k}: F1 {score:.4f}")
    return score
