"""What is timed on an equal footing: a setting, the photos that all contenders share, and rounds in turns."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from maskcls.components.hardware import Hardware
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, RunError
from maskcls.core.task import CLASSES
from maskcls.data.assemble import assemble_table
from maskcls.data.loader import EpochBatchSampler
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import TrainStep, build_train_loader, build_train_step

Turn = Callable[[], Any]  # one epoch of a setting's steps
WORDS = (
    "name=bench", "data=synthetic", "data.people=60", "data.eval_people=0", "data.height=512", "data.width=384",
    "split=holdout", "crop=center", "augmentation=team", "head=single", "loss=focal", "optimizer=adamp",
    "scheduler=constant", "logger=none",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A model word, the photos' size in pixels, the photos of a step and the steps of a turn."""

    model: str
    height: int
    width: int
    batch: int
    steps: int

    @classmethod
    def of(cls, text: str) -> Setting:
        """Read model:HEIGHTxWIDTH:batch:steps, such as resnet18:200x100:32:8."""
        try:
            model, size, batch, steps = text.split(":")
            height, width = map(int, size.split("x"))
            setting = cls(model, height, width, int(batch), int(steps))
        except ValueError:
            setting = cls("", 0, 0, 0, 0)
        if min(setting.height, setting.width, setting.batch, setting.steps) < 1:
            raise ConfigError(f"--settings: {text!r} is no model:HEIGHTxWIDTH:batch:steps, as resnet18:200x100:32:8 is")
        return setting

    def __str__(self) -> str:
        return f"{self.model} {self.height} × {self.width}, batch {self.batch}, {self.steps} steps"


@dataclass(frozen=True)
class Job:
    """What all contenders of a setting share; the rows repeat the set's photos as often as a turn needs them."""

    cfg: Config
    hardware: Hardware
    fold: Fold
    paths: list[str]
    steps: int

    @property
    def labels(self) -> list[int]:
        """The class of each photo of a turn."""
        return self.fold.labels[self.fold.train_indices].tolist()

    def model(self) -> nn.Module:
        """Return a fresh network with 18 outputs, in torch's own memory layout."""
        return self.cfg.model.build(len(CLASSES), *self.fold.image_size, 0).to(self.hardware.device)


def check_overrides(words: Sequence[str]) -> None:
    """Raise a ConfigError for a word that the setting has, or that would not be the same work for all contenders."""
    for word in words:
        if re.match(r"(model|crop|crop\.(height|width|out)|batch|clip|ema|accumulate|mixing|layer_decay)=", word):
            raise ConfigError(f"bench: {word} is told by --settings, or would not be the same work for all")


def setting_config(setting: Setting, words: Sequence[str]) -> Config:
    """Return the config of a setting; `words` come last and may change all of it."""
    own = (f"model={setting.model}", f"crop.height={setting.height}", f"crop.width={setting.width}")
    return validate(compose(*merge_overrides([*WORDS, *own, f"batch={setting.batch}"], words)))


def merge_overrides(words: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return words with the given ones: a group that is chosen anew loses its parameters here."""
    anew = {word.partition("=")[0] for word in given}
    return [*(word for word in words if word.partition("=")[0].split(".")[0] not in anew), *given]


def build_job(cfg: Config, steps: int) -> Job:
    """Return the job of a config; its photos are in the cache when this returns."""
    table = assemble_table(replace(cfg, batch=1), lambda note: None)  # a batch may be larger than the set
    hardware = cfg.hardware.build()
    fold = Fold.of(table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)), 0, hardware)
    chosen = np.resize(fold.train_indices, steps * cfg.batch)
    return Job(cfg, hardware, replace(fold, train_indices=chosen), table["path"].iloc[chosen].tolist(), steps)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_rounds(turns: Mapping[str, Callable[[], float]], rounds: int, photos: int) -> list[dict[str, float]]:
    """Return images/s of each contender, a row for each round.

    In each round each takes one turn, in an order drawn anew, so that no one always follows the same other one. A turn
    is a whole epoch, and it tells its seconds, from asking for its first batch to the device's last work: what a
    process does between its turns is not in them. A round that is not counted comes first.
    """
    names, random = list(turns), np.random.default_rng(0)
    for turn in turns.values():
        turn()
    result = []
    for _ in range(rounds):
        rates = {name: photos / turns[name]() for name in random.permutation(names).tolist()}
        result.append({name: rates[name] for name in names})
    return result


class Contender:
    """A contender in a process of its own, whose memory and settings are its own; calling it is a turn, in seconds."""

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *arguments), daemon=False)
        self.process.start()
        theirs.close()

    def __call__(self, order: str = "turn") -> Any:
        try:
            self.pipe.send(order)
            return self.pipe.recv()
        except (EOFError, OSError):
            raise RunError("bench: a contender ended too early; it has said why") from None

    def end(self) -> dict[str, float]:
        """Return the memory that the contender has needed, in MB, and end it."""
        memory = self("end")
        self.process.join()
        return dict(memory)


def ratios(rounds: Sequence[Mapping[str, float]], of: str, to: str) -> dict[str, float]:
    """Return quartiles of the ratio of two contenders' rates, each ratio taken within one round."""
    return quartiles([row[of] / row[to] for row in rounds])


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the quartiles about it."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def build_training(job: Job) -> tuple[TrainState, TrainStep, EpochBatchSampler, Iterable[Any]]:
    """Return what a run builds for a fold: state, what a step calls, the order of batches, and the batches."""
    cfg, hardware, head = job.cfg, job.hardware, job.cfg.head.build()
    state = build_train_state(cfg, head, hardware, job.fold.image_size, 0)
    batches, source = build_train_loader(cfg, job.fold, hardware)
    return state, build_train_step(cfg, state, job.fold, head, hardware, len(batches)), batches, source
