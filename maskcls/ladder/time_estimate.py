"""Estimated training time of planned runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch

from maskcls.core.config import Config
from maskcls.core.errors import MaskclsError
from maskcls.core.table import eval_indices, num_folds, train_indices, val_indices
from maskcls.data.assemble import assemble_table
from maskcls.engine.sanity_check import cropped_size
from maskcls.engine.train_state import build_train_state
from maskcls.ladder.plan import PlannedRun, compose_config
from maskcls.system import console
from maskcls.system.console import format_duration

PREDICTION_SPEEDUP = 3  # images predicted in the time of training on one


def count_images(cfg: Config) -> tuple[int, float]:
    """Return the number of folds and of trained images of a run, a predicted image counted as a fraction."""
    table = assemble_table(cfg, lambda note: None)
    folds, num_images = num_folds(table), 0.0
    for k in range(folds):
        num_predicted = len(val_indices(table, k)) * (cfg.epochs + 1) + len(eval_indices(table))
        num_images += len(train_indices(table, k)) * cfg.epochs + num_predicted / PREDICTION_SPEEDUP
    return folds, num_images


def measure_throughput(cfg: Config, measured: dict[str, float]) -> float:
    """Return the training speed of the model in images/s, measured on one step after a warm-up step."""
    (height, width), hardware = cropped_size(cfg), cfg.hardware.build()
    image_size = (height or 224, width or 224)
    key = f"{sorted(cfg.model.params.items(), key=str)} {image_size}"
    if key not in measured:
        state = build_train_state(cfg, cfg.head.build(), hardware, image_size, 0)
        images = torch.rand(8, 3, *image_size, device=hardware.device)
        for _ in range(2):
            started_at = time.perf_counter()
            state.model.train()(images).sum().backward()
            float(next(state.model.parameters()).detach().sum())  # waits for a GPU
            measured[key] = len(images) / (time.perf_counter() - started_at)
    return measured[key]


def estimate_time(planned_runs: Sequence[PlannedRun]) -> float:
    """Print the planned work and return the estimated seconds on this machine.

    Runs with errors are left out; their training reports the error.
    """
    measured: dict[str, float] = {}
    seconds, folds, epochs = 0.0, 0, 0
    for planned in console.track(planned_runs, len(planned_runs), "estimating"):
        with contextlib.suppress(MaskclsError, RuntimeError):
            cfg = compose_config(planned.overrides)
            run_folds, num_images = count_images(cfg)
            seconds, folds, epochs = (
                seconds + num_images / measure_throughput(cfg, measured),
                folds + run_folds,
                epochs + run_folds * cfg.epochs,
            )
    console.info(
        f"to train: {len(planned_runs)} runs, {folds} folds, {epochs} epochs; "
        f"about {format_duration(seconds)} on this machine"
    )
    return seconds
