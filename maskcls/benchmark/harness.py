"""Benchmark harness: settings, the training data that all contenders share, and timed rounds."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from maskcls.components.hardware import Hardware
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError, RunError
from maskcls.data.assemble import assemble_table
from maskcls.data.loader import EpochBatchSampler
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import TrainStep, build_train_loader, build_train_step

EpochFn = Callable[[], Any]  # trains one epoch, Setting.steps long
OVERRIDES = (
    "name=bench", "data=synthetic", "data.people=60", "data.eval_people=0", "data.height=512", "data.width=384",
    "split=holdout", "crop=center", "augmentation=team", "head=single", "loss=focal", "optimizer=adamp",
    "scheduler=constant", "logger=none",
)  # fmt: skip

NOT_APPLIED = (  # by the other training loops
    "crop", r"crop\.out", "clip_grad", "ema", "grad_accum_steps", "mixing", "layer_decay", "head_lr", "freeze_epochs",
    "size_schedule",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """Model option, image size in pixels, batch size, and number of steps in an epoch."""

    model: str
    height: int
    width: int
    batch: int
    steps: int

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Return the setting of model:HEIGHTxWIDTH:batch:steps, such as resnet18:200x100:32:8."""
        try:
            model, image_size, batch, steps = text.split(":")
            height, width = map(int, image_size.split("x"))
            setting = cls(model, height, width, int(batch), int(steps))
        except ValueError:
            setting = cls("", 0, 0, 0, 0)
        if min(setting.height, setting.width, setting.batch, setting.steps) < 1:
            message = f"settings: expected model:HEIGHTxWIDTH:batch:steps, got {text!r}"
            raise ConfigError(f"{message}. Example: resnet18:200x100:32:8")
        return setting

    def to_text(self) -> str:
        """Return the setting in the form that `parse` reads."""
        return f"{self.model}:{self.height}x{self.width}:{self.batch}:{self.steps}"

    def __str__(self) -> str:
        return f"{self.model} {self.height} × {self.width}, batch {self.batch}, {self.steps} steps"


@dataclass(frozen=True)
class Job:
    """Inputs that all contenders of a setting share; training rows are repeated to fill an epoch."""

    cfg: Config
    hardware: Hardware
    fold: Fold
    paths: list[str]
    steps: int

    @property
    def labels(self) -> list[int]:
        """The class of each image of an epoch."""
        return self.fold.labels[self.fold.train_indices].tolist()

    def build_model(self) -> nn.Module:
        """Return a new network with an output for each class, in torch's default memory layout."""
        num_classes = self.cfg.task.build().num_classes
        return self.cfg.model.build(num_classes, *self.fold.image_size, 0).to(self.hardware.device)


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an override of a setting's values, or one that only some contenders would apply."""
    for override in overrides:
        if re.match(r"(model|crop\.height|crop\.width|batch_size)=", override):
            raise ConfigError(f"benchmark: {override} conflicts with settings=. Set it in settings=")
        if re.match(rf"({'|'.join(NOT_APPLIED)})=", override):
            raise ConfigError(f"benchmark: {override} is not supported: the other training loops do not apply it")


def without_paths(words: Iterable[str]) -> list[str]:
    """Return overrides without the places of files, which differ between machines and change no result."""
    return [word for word in words if not re.match(r"(data|extra)\.(root|file)=|runs_dir=|cache_dir=|out=", word)]


def check_time_overrides(overrides: Sequence[str]) -> None:
    """Raise ConfigError for an override under which the time to a score would not be that of one whole new run."""
    for override in overrides:
        if re.match(r"(runs_dir|cache_dir)=", override):
            raise ConfigError(f"benchmark: {override} is not supported: new folders ensure that nothing is cached")
        if re.match(r"fold=(?!null)", override):
            raise ConfigError(f"benchmark: {override} is not a whole run. Use split=holdout for one fold")
        if re.match(r"model\.init=(?!null)", override):
            raise ConfigError(f"benchmark: {override} is not supported: all contenders start from the same weights")
        if re.match(r"(extra|overlay|pseudo)[.=](?!none)", override):
            raise ConfigError(f"benchmark: {override} is not supported: all contenders train on the same images")


def setting_config(setting: Setting, overrides: Sequence[str]) -> Config:
    """Return the config of a setting; `overrides` have the highest priority."""
    image_size = f"crop.height={setting.height}", f"crop.width={setting.width}"
    model = f"model={setting.model}", "model.pretrained=false"  # speed does not depend on the weights
    defaults = [*OVERRIDES, *model, *image_size, f"batch_size={setting.batch}"]
    return validate(compose(*merge_overrides(defaults, overrides)))


def merge_overrides(defaults: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Return both lists; defaults are dropped for keys and config groups that `overrides` set."""
    keys = {override.partition("=")[0] for override in overrides}
    return [*(default for default in defaults if default.partition("=")[0].split(".")[0] not in keys), *overrides]


def build_job(cfg: Config, steps: int) -> Job:
    """Return the job of a config; this fills the pixel cache."""
    table = assemble_table(replace(cfg, batch_size=1), lambda note: None)  # a batch may exceed the number of images
    check_labels(table)
    hardware = cfg.hardware.build()
    fold = Fold.of(table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)), 0, hardware, cfg.head.build())
    indices = np.resize(fold.train_indices, steps * cfg.batch_size)
    return Job(cfg, hardware, replace(fold, train_indices=indices), table["path"].iloc[indices].tolist(), steps)


def check_labels(table: pd.DataFrame) -> None:
    """Raise DataError if some images lack the label of an attribute."""
    if count := int(table.get("partial", pd.Series(dtype=bool)).sum()):
        problem = f"{count} images lack the label of an attribute, and the other training loops need a class for each"
        raise DataError(f"benchmark: {problem}. Remove these images from the table")


def synchronize(device: torch.device) -> None:
    """Wait for all work queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_rounds(contenders: Mapping[str, Callable[[], float]], rounds: int, num_images: int) -> list[dict[str, float]]:
    """Return images/s of each contender, a row for each round.

    In each round every contender trains one epoch, in a new random order, so that none always follows the same other
    one. A contender returns its own seconds, from the request for its first batch to the end of the device's work:
    what its process does between epochs is not included. The first round is a warm-up and is not counted.
    """
    names, rng = list(contenders), np.random.default_rng(0)
    for contender in contenders.values():
        contender()
    rows = []
    for _ in range(rounds):
        rates = {name: num_images / contenders[name]() for name in rng.permutation(names).tolist()}
        rows.append({name: rates[name] for name in names})
    return rows


class Contender:
    """A training loop in its own process, with its own memory and torch settings; a call returns an epoch's seconds."""

    def __init__(self, worker: Callable[..., None], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_pipe = context.Pipe()
        self.process = context.Process(target=worker, args=(worker_pipe, *args), daemon=False)
        self.process.start()
        worker_pipe.close()

    def __call__(self, command: str = "epoch") -> Any:
        try:
            self.pipe.send(command)
            return self.pipe.recv()
        except (EOFError, OSError):
            raise RunError("benchmark: a contender's process ended early. Its error is printed above") from None

    def end(self) -> dict[str, float]:
        """End the process; return its peak memory in MB."""
        memory = self("end")
        self.process.join()
        return dict(memory)


def ratios(rounds: Sequence[Mapping[str, float]], of: str, to: str) -> dict[str, float]:
    """Return the quartiles of the ratio of two contenders' rates, each ratio within one round."""
    return quartiles([row[of] / row[to] for row in rounds])


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the lower and upper quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def build_training(job: Job) -> tuple[TrainState, TrainStep, EpochBatchSampler, Iterable[Any]]:
    """Return a fold's training state, step, batch sampler and loader, as a run builds them."""
    cfg, hardware, head = job.cfg, job.hardware, job.cfg.head.build()
    state = build_train_state(cfg, head, hardware, job.fold.image_size, 0)
    sampler, loader = build_train_loader(cfg, job.fold, hardware)
    return state, build_train_step(cfg, state, job.fold, head, hardware, len(sampler)), sampler, loader
