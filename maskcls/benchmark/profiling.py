"""Time profiles: parts of a training step, evaluation, and stages from the start of a run to its first batch."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from maskcls.benchmark.harness import Job, Setting, build_job, build_training, setting_config, synchronize
from maskcls.components.optimizer import reference_adamp
from maskcls.core.config import Config
from maskcls.engine import fold, runner, training_loop
from maskcls.engine.runner import run
from maskcls.engine.training_loop import TrainStep, build_train_loader, train_one_epoch
from maskcls.evaluation.metrics import compute_scores
from maskcls.inference.forward import predict_probs
from maskcls.system import console

PARTS = ("data", "forward", "loss", "backward", "optimizer", "rest")
STAGES = (
    (runner, "dry_run"),
    (runner, "assemble_table"),
    (runner, "table_digest"),
    (runner, "load_pixels"),
    (fold, "build_train_state"),
)
REPEATS = 3  # measured epochs or evaluations, after one warm-up


class Stopwatch:
    """Seconds by name: each mark synchronizes the device and adds the time since the previous mark."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.last_mark = device, defaultdict[str, float](float), time.perf_counter()

    def mark(self, name: str) -> None:
        """Add the time since the previous mark to a name."""
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] += now - self.last_mark
        self.last_mark = now

    def iterate(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches; the time to load each is added to `data`, the time after its last mark to `rest`."""
        self.last_mark = time.perf_counter()
        for batch in batches:
            self.mark("data")
            yield batch
            self.mark("rest")


def profile_step(job: Job, package: bool = False) -> dict[str, float]:
    """Return the ms of each of PARTS in a training step of this package, measured by hooks in the loop of a run.

    Synchronizing at each mark keeps CPU and device from working in parallel: the sum is at least the time of a step.
    `package=True` uses the optimizer of the adamp package. Medians over REPEATS epochs.
    """
    state, step, sampler, loader = build_training(job)
    if package:
        group = state.optimizer.param_groups[0]
        state.optimizer = reference_adamp()(group["params"], lr=group["lr"], weight_decay=group["weight_decay"])
    profiles = []
    for epoch in range(1 + REPEATS):
        watch = Stopwatch(job.hardware.device)
        sampler.epoch = epoch
        with with_hooks(watch, step, state.optimizer) as timed_step:
            train_one_epoch(job.cfg, state, timed_step, watch.iterate(loader), len(sampler), job.hardware)
        profiles.append(watch.seconds)
    return {part: statistics.median(row[part] for row in profiles[1:]) / len(sampler) * 1000 for part in PARTS}


@contextlib.contextmanager
def with_hooks(watch: Stopwatch, step: TrainStep, optimizer: torch.optim.Optimizer) -> Iterator[TrainStep]:
    """Context manager that yields the step with a model, criterion and optimizer that mark a stopwatch."""

    def timed_criterion(logits: Tensor, targets: Tensor) -> Tensor:
        watch.mark("rest")
        loss = step.criterion(logits, targets)
        watch.mark("loss")
        return loss

    hooks = [
        step.model.register_forward_pre_hook(lambda *_: watch.mark("rest")),
        step.model.register_forward_hook(lambda *_: watch.mark("forward")),
        optimizer.register_step_pre_hook(lambda *_: watch.mark("backward")),
        optimizer.register_step_post_hook(lambda *_: watch.mark("optimizer")),
    ]
    try:
        yield replace(step, criterion=timed_criterion)
    finally:
        for hook in hooks:
            hook.remove()


def profile_evaluation(job: Job) -> dict[str, float]:
    """Return images/s of predicting the validation rows, and the ms of their scores: the cost at an epoch's end.

    Medians over REPEATS evaluations.
    """
    state, _, _, _ = build_training(job)
    cfg, val_indices, head, tta_views = job.cfg, job.fold.val_indices, job.cfg.head.build(), job.cfg.tta.build()
    profiles = []
    for _ in range(1 + REPEATS):
        watch = Stopwatch(job.hardware.device)
        probs = predict_probs(
            state.eval_model, head, job.fold.unchanged, val_indices, job.hardware, cfg.precision, tta_views
        )
        watch.mark("predict")
        compute_scores(job.fold.labels[val_indices], probs, head.task)
        watch.mark("metrics")
        profiles.append(watch.seconds)
    seconds = {name: statistics.median(row[name] for row in profiles[1:]) for name in profiles[0]}
    return {"images_per_second": len(val_indices) / seconds["predict"], "metrics_ms": seconds["metrics"] * 1000}


def time_first_batch(cfg: Config, steps: int) -> float:
    """Return the seconds to the first batch: table, pixels (decoded unless cached), loader."""
    started_at = time.perf_counter()
    job = build_job(cfg, steps)
    _, loader = build_train_loader(cfg, job.fold, job.hardware)
    next(iter(loader))
    return time.perf_counter() - started_at


class FirstBatchReached(Exception):
    """Raised in place of training when a run has its first batch."""


def time_jobs(setting: Setting, overrides: Sequence[str], num_later_jobs: int) -> list[dict[str, float]]:
    """Return the seconds of each stage from the start of a run to its first batch, a row for each job of a sweep.

    The first job includes imports and decoding; the later jobs read the pixel cache.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + num_later_jobs):
            cfg = setting_config(setting, [*overrides, f"cache_dir={folder}/cache", f"runs_dir={folder}/runs{i}"])
            rows.append(time_startup(cfg.to_dict()))
    return rows


def time_startup(config: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage of one run, which is stopped at its first batch."""
    seconds: dict[str, float] = {}

    def load_first_batch(*args: Any) -> float:
        next(iter(args[3]))
        raise FirstBatchReached

    with contextlib.ExitStack() as stack:
        for module, name in STAGES:
            stack.enter_context(patch_attribute(module, name, with_timer(getattr(module, name), name, seconds)))
        stack.enter_context(patch_attribute(training_loop, "train_one_epoch", load_first_batch))
        stack.enter_context(patch_attribute(console, "info", lambda *_: None))
        started_at = time.perf_counter()
        with contextlib.suppress(FirstBatchReached):
            run(config)
        total = time.perf_counter() - started_at
    return seconds | {"rest": total - sum(seconds.values()), "whole": total}


def with_timer(function: Any, name: str, seconds: dict[str, float]) -> Any:
    """Return a function that adds its duration to `seconds[name]`."""

    @functools.wraps(function)
    def timed(*args: Any) -> Any:
        started_at = time.perf_counter()
        try:
            return function(*args)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started_at

    return timed


@contextlib.contextmanager
def patch_attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    """Context manager that replaces an attribute of a module."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
