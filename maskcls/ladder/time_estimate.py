"""Estimated training time of planned runs, from steps that are measured and from runs that are finished."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from maskcls.core.config import Config
from maskcls.core.errors import MaskclsError
from maskcls.core.table import eval_indices, num_folds, train_indices, val_indices
from maskcls.data.assemble import assemble_table
from maskcls.engine.experiment import Fold
from maskcls.engine.sanity_check import cropped_size
from maskcls.engine.train_state import build_train_state
from maskcls.engine.training_loop import build_train_loader, build_train_step, train_one_epoch
from maskcls.inference.forward import predict_probs
from maskcls.ladder.plan import PlannedRun, compose_config
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.console import format_duration

ROUND_SECONDS = 2.0  # of steps or predictions that are timed together
MAX_BATCHES = 8  # of a round
MAX_SECONDS = 20.0  # of all rounds of a kind
MAX_SHARE = 0.1  # of the estimated run
MAX_SPREAD = 0.05  # spread of the last three rounds, as a fraction of their median
MIN_STEPS = 50  # of training; a shorter run takes less time than its measurement
NUM_CHECKED = 3  # finished runs that the estimate is checked against


@dataclass(frozen=True)
class Speed:
    """Images per second."""

    training: float
    prediction: float


@dataclass(frozen=True)
class RunEstimate:
    """Folds, epochs and estimated seconds of a run."""

    folds: int
    epochs: int
    seconds: float


class Probe:
    """A model in training on some batches of random images, as a run trains it."""

    def __init__(self, cfg: Config, table: pd.DataFrame, num_batches: int) -> None:
        height, width = cropped_size(cfg)
        image_size, rows = (height or 224, width or 224), table.iloc[train_indices(table, 0)]
        rows = rows.iloc[np.resize(np.arange(len(rows)), num_batches * cfg.batch_size)].reset_index(drop=True)
        pixels = np.random.default_rng(0).integers(0, 256, (len(rows), *image_size, 3), np.uint8)
        self.cfg, self.hardware, self.head = cfg, cfg.hardware.build(), cfg.head.build()
        self.fold = Fold.of(rows, pixels, 0, self.hardware, self.head)
        self.state = build_train_state(cfg, self.head, self.hardware, image_size, 0)
        self.step = build_train_step(cfg, self.state, self.fold, self.head, self.hardware, num_batches)
        self.sampler, self.loader = build_train_loader(cfg, self.fold, self.hardware)

    def train(self) -> float:
        """Return the images per second of the training steps, as an epoch takes them."""
        self.state.step, started_at = 0, time.perf_counter()
        losses, _ = train_one_epoch(self.cfg, self.state, self.step, self.loader, len(self.sampler), self.hardware)
        float(losses.sum())  # waits for the device
        return len(self.fold.train_indices) / (time.perf_counter() - started_at)

    def predict(self) -> float:
        """Return the images per second of predictions."""
        fold, started_at = self.fold, time.perf_counter()
        predict_probs(
            self.state.eval_model, self.head, fold.unchanged, fold.train_indices, self.hardware, self.cfg.precision,
            self.cfg.tta.build(),
        )  # fmt: skip
        return len(fold.train_indices) / (time.perf_counter() - started_at)


def measure_speed(cfg: Config, table: pd.DataFrame) -> Speed:
    """Return the speed of training steps and of predictions on random images, each measured until it is steady."""
    probe = Probe(cfg, table, 1)
    probe.train()  # libraries choose their kernels
    first = probe.train()
    budget = min(MAX_SECONDS, MAX_SHARE * estimate_run(cfg, table, Speed(first, first)).seconds)
    num_batches = round(ROUND_SECONDS * first / cfg.batch_size)
    if num_batches > 1 and budget > ROUND_SECONDS:
        probe = Probe(cfg, table, min(MAX_BATCHES, num_batches))
        probe.train()  # starts the workers
    return Speed(measure_until_steady(probe.train, budget), measure_until_steady(probe.predict, budget))


def measure_until_steady(measure: Callable[[], float], seconds: float) -> float:
    """Return the median of the last three measurements as soon as they agree, or of all when the time is spent."""
    values, started_at = [measure()], time.monotonic()
    while time.monotonic() - started_at < seconds:
        values.append(measure())
        last = values[-3:]
        if len(last) == 3 and max(last) - min(last) < MAX_SPREAD * statistics.median(last):
            return statistics.median(last)
    return statistics.median(values)


def speed_key(cfg: Config) -> str:
    """Return what the speed of a config depends on; configs that share it are measured once."""
    names = [getattr(cfg, group).name for group in ("head", "loss", "optimizer", "augmentation", "mixing", "tta")]
    model = {key: value for key, value in cfg.model.params.items() if key not in ("pretrained", "init", "normalize")}
    return str((names, model, cropped_size(cfg), cfg.batch_size, cfg.precision, cfg.ema, cfg.hardware.params))


def estimate_run(cfg: Config, table: pd.DataFrame, speed: Speed) -> RunEstimate:
    """Return the estimate of a run at a speed, with the predictions of validation and evaluation images at its end."""
    folds = num_folds(table)
    epochs = sum(epoch_seconds(table, k, speed) for k in range(folds)) * cfg.epochs
    num_predicted = sum(len(val_indices(table, k)) for k in range(folds)) + folds * len(eval_indices(table))
    return RunEstimate(folds, folds * cfg.epochs, epochs + num_predicted / speed.prediction)


def epoch_seconds(table: pd.DataFrame, k: int, speed: Speed) -> float:
    """Return the seconds of an epoch of fold k: training and validation."""
    return len(train_indices(table, k)) / speed.training + len(val_indices(table, k)) / speed.prediction


class Estimator:
    """Estimates of runs; each kind of step is measured once."""

    def __init__(self) -> None:
        self.speeds: dict[str, Speed] = {}
        self.num_short = self.num_failed = 0

    def speed(self, cfg: Config, table: pd.DataFrame) -> Speed:
        """Return the speed of a config, measured at the first call."""
        key = speed_key(cfg)
        if key not in self.speeds:
            self.speeds[key] = measure_speed(cfg, table)
        return self.speeds[key]

    def estimate(self, planned: PlannedRun) -> RunEstimate | None:
        """Return the estimate of a run, without seconds if it is short; None if it cannot be measured."""
        try:
            cfg = compose_config(planned.overrides)
            table = assemble_table(cfg, lambda note: None)
            if len(train_indices(table, 0)) * num_folds(table) * cfg.epochs < MIN_STEPS * cfg.batch_size:
                self.num_short += 1
                return estimate_run(cfg, table, Speed(math.inf, math.inf))
            return estimate_run(cfg, table, self.speed(cfg, table))
        except Exception:  # each library has its own exception types; the training reports it
            self.num_failed += 1
            return None

    def factor(self, finished: Sequence[PlannedRun]) -> float | None:
        """Return the median of measured by estimated seconds of the epochs of finished runs of this machine."""
        factors: list[float] = []
        for planned in finished:
            with contextlib.suppress(MaskclsError, RuntimeError):
                cfg = planned.config()
                run = Run.of(cfg)
                if len(factors) < NUM_CHECKED and run.provenance().get("hardware") == cfg.hardware.build().facts():
                    table, rows = assemble_table(cfg, lambda note: None), run.history()
                    expected = sum(epoch_seconds(table, row["fold"], self.speed(cfg, table)) for row in rows)
                    factors.append(sum(row["seconds"] for row in rows) / expected)
        return statistics.median(factors) if factors else None


def estimate_time(remaining: Sequence[PlannedRun], finished: Sequence[PlannedRun] = ()) -> float:
    """Print the planned work and return the estimated seconds on this machine."""
    estimator = Estimator()
    estimates = [estimator.estimate(planned) for planned in console.track(remaining, len(remaining), "estimating")]
    known = [estimate for estimate in estimates if estimate]
    total = sum(run.seconds for run in known)
    factor = estimator.factor(finished) if total else None
    remarks = [f", {factor:.2f} times the measured steps, as in finished runs"] if factor else []
    remarks += [f", without {estimator.num_short} runs of less than {MIN_STEPS} steps"] if estimator.num_short else []
    remarks += [f", without {estimator.num_failed} runs that cannot be measured"] if estimator.num_failed else []
    total *= factor or 1.0
    duration = f"; about {format_duration(total)} of training and validation on this machine" if total else ""
    console.info(
        f"to train: {len(remaining)} runs, {sum(run.folds for run in known)} folds, "
        f"{sum(run.epochs for run in known)} epochs{duration}{''.join(remarks)}"
    )
    return total
