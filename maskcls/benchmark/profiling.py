"""Where the time goes: within a step, before the first batch, and from the beginning of a run to its first step."""

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


class Stopwatch:
    """Seconds by name: each mark waits for the device and books the time since the mark before."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.at = device, defaultdict[str, float](float), 0.0

    def mark(self, name: str) -> None:
        """Book the time since the last mark under a name."""
        synchronize(self.device)
        now = time.perf_counter()
        self.seconds[name] += now - self.at
        self.at = now

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches, booking the time until each is there as `data`, and what follows its last mark as `rest`."""
        self.at = time.perf_counter()
        for batch in batches:
            self.mark("data")
            yield batch
            self.mark("rest")


def profile_step(given: Job, package: bool = False) -> dict[str, float]:
    """Return the ms that a training step of this package spends in each of PARTS: the loop of a run, with hooks.

    Waiting for the device at each mark keeps its work from running beside ours: the sum is no less than a step's time.
    With `package` the optimizer is the adamp package's. Medians of three epochs; one before them is not counted.
    """
    state, work, batches, source = build_training(given)
    if package:
        group = state.optimizer.param_groups[0]
        state.optimizer = reference_adamp()(group["params"], lr=group["lr"], weight_decay=group["weight_decay"])
    found = []
    for epoch in range(4):
        watch = Stopwatch(given.hardware.device)
        batches.epoch = epoch
        with with_hooks(watch, work, state.optimizer) as watched:
            train_one_epoch(given.cfg, state, watched, watch.over(source), len(batches), given.hardware)
        found.append(watch.seconds)
    return {part: statistics.median(row[part] for row in found[1:]) / len(batches) * 1000 for part in PARTS}


@contextlib.contextmanager
def with_hooks(watch: Stopwatch, work: TrainStep, optimizer: torch.optim.Optimizer) -> Iterator[TrainStep]:
    """Return the work of a loop whose model, objective and optimizer mark a stopwatch."""

    def objective(logits: Tensor, targets: Tensor) -> Tensor:
        watch.mark("rest")
        value = work.criterion(logits, targets)
        watch.mark("loss")
        return value

    hooks = [
        work.model.register_forward_pre_hook(lambda *_: watch.mark("rest")),
        work.model.register_forward_hook(lambda *_: watch.mark("forward")),
        optimizer.register_step_pre_hook(lambda *_: watch.mark("backward")),
        optimizer.register_step_post_hook(lambda *_: watch.mark("optimizer")),
    ]
    try:
        yield replace(work, criterion=objective)
    finally:
        for hook in hooks:
            hook.remove()


def evaluation(given: Job) -> dict[str, float]:
    """Return the rate of predictions on the held photos, in images/s, and the ms of their scores: what an epoch adds.

    Medians of three times; one before them is not counted.
    """
    state, _, _, _ = build_training(given)
    cfg, held, found = given.cfg, given.fold.val_indices, []
    for _ in range(4):
        watch = Stopwatch(given.hardware.device)
        watch.at = time.perf_counter()
        probs = predict_probs(
            state.eval_model,
            cfg.head.build(),
            given.fold.unchanged,
            held,
            given.hardware,
            cfg.precision,
            cfg.tta.build(),
        )
        watch.mark("predict")
        compute_scores(given.fold.labels[held], probs)
        watch.mark("metrics")
        found.append(watch.seconds)
    seconds = {name: statistics.median(row[name] for row in found[1:]) for name in found[0]}
    return {"images_per_second": len(held) / seconds["predict"], "metrics_ms": seconds["metrics"] * 1000}


def first_batch(cfg: Config, steps: int) -> tuple[Job, float]:
    """Return a job and the seconds until its first batch is there: table, cached photos (made if need be), loader."""
    begun = time.perf_counter()
    made = build_job(cfg, steps)
    _, source = build_train_loader(cfg, made.fold, made.hardware)
    next(iter(source))
    return made, time.perf_counter() - begun


class FirstBatchReached(Exception):
    """The first batch of a run is there."""


def start(setting: Setting, words: Sequence[str], times: int) -> list[dict[str, float]]:
    """Return the seconds of each stage from the beginning of a run to its first batch, a row for each time.

    The first row is what a first job of a sweep takes, with imports and an empty cache; the rest are later jobs.
    """
    result = []
    with tempfile.TemporaryDirectory() as place:
        for i in range(times + 1):
            cfg = setting_config(setting, [*words, f"cache_dir={place}/cache", f"runs_dir={place}/runs{i}"])
            result.append(time_startup(cfg.to_dict()))
    return result


def time_startup(config: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of each stage of one run until its first batch, where it is stopped."""
    seconds: dict[str, float] = {}

    def stop(*given: Any) -> float:
        next(iter(given[3]))
        raise FirstBatchReached

    with contextlib.ExitStack() as stack:
        for module, name in STAGES:
            stack.enter_context(patch_attribute(module, name, with_timer(getattr(module, name), name, seconds)))
        stack.enter_context(patch_attribute(training_loop, "train_one_epoch", stop))
        stack.enter_context(patch_attribute(console, "info", lambda *_: None))
        begun = time.perf_counter()
        with contextlib.suppress(FirstBatchReached):
            run(config)
        whole = time.perf_counter() - begun
    return seconds | {"rest": whole - sum(seconds.values()), "whole": whole}


def with_timer(function: Any, name: str, seconds: dict[str, float]) -> Any:
    """Return a function that books its time under a name."""

    @functools.wraps(function)
    def timed(*given: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*given)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

    return timed


@contextlib.contextmanager
def patch_attribute(module: Any, name: str, value: Any) -> Iterator[None]:
    """Put another value in a module's place for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
