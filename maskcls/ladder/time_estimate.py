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

QUICKER = 3  # times that a photo is predicted in the time that it is trained on


def count_images(cfg: Config) -> tuple[int, float]:
    """Return a run's folds, and the photos it trains on in all (a predicted photo counts as a part of one)."""
    table = assemble_table(cfg, lambda note: None)
    folds, seen = num_folds(table), 0.0
    for k in range(folds):
        predicted = len(val_indices(table, k)) * (cfg.epochs + 1) + len(eval_indices(table))
        seen += len(train_indices(table, k)) * cfg.epochs + predicted / QUICKER
    return folds, seen


def measure_throughput(cfg: Config, known: dict[str, float]) -> float:
    """Return the photos/s of training a config's model here: one measured step after one that is not."""
    (height, width), hardware = cropped_size(cfg), cfg.hardware.build()
    size = (height or 224, width or 224)
    key = f"{sorted(cfg.model.params.items(), key=str)} {size}"
    if key not in known:
        state = build_train_state(cfg, cfg.head.build(), hardware, size, 0)
        photos = torch.rand(8, 3, *size, device=hardware.device)
        for _ in range(2):
            begun = time.perf_counter()
            state.model.train()(photos).sum().backward()
            float(next(state.model.parameters()).detach().sum())  # waits for a GPU
            known[key] = len(photos) / (time.perf_counter() - begun)
    return known[key]


def estimate(steps: Sequence[PlannedRun]) -> float:
    """Say what is to be done and return about how many seconds it will take on this machine.

    A step that cannot be judged is left out; its training will say why.
    """
    known: dict[str, float] = {}
    seconds, folds, epochs = 0.0, 0, 0
    for step in console.track(steps, len(steps), "estimating"):
        with contextlib.suppress(MaskclsError, RuntimeError):
            cfg = compose_config(step.overrides)
            some, seen = count_images(cfg)
            seconds, folds, epochs = (
                seconds + seen / measure_throughput(cfg, known),
                folds + some,
                epochs + some * cfg.epochs,
            )
    console.info(
        f"to train: {len(steps)} runs, {folds} folds, {epochs} epochs; about {format_duration(seconds)} on this machine"
    )
    return seconds
