"""The training loop, a generator: it yields the numbers of each epoch, and its caller logs, saves and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from maskcls import distrib
from maskcls.cache import Pixels
from maskcls.config import Config
from maskcls.errors import NumberError
from maskcls.infer import autocast, cross_entropy, normalized, predict
from maskcls.labels import Ints, onehot
from maskcls.loaders import Epochs, Photos, derived, loader
from maskcls.metrics import scores
from maskcls.parts.hardware import Hardware
from maskcls.parts.head import Head, Objective
from maskcls.parts.model import training
from maskcls.parts.scheduler import Schedule
from maskcls.rows import scored_rows, training_rows
from maskcls.state import State

Track = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Fold:
    """What one fold trains and is scored on."""

    number: int
    pixels: Pixels  # (N, H, W, 3), all rows of the table
    labels: Ints  # (N,)
    train: Ints  # positions
    held: Ints  # positions

    @classmethod
    def of(cls, table: pd.DataFrame, pixels: Pixels, k: int) -> Fold:
        """Return fold k of a table."""
        return cls(k, pixels, table["label"].to_numpy(), training_rows(table, k), scored_rows(table, k))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photos."""
        return self.pixels.shape[1], self.pixels.shape[2]


def fit(
    cfg: Config, state: State, fold: Fold, head: Head, hardware: Hardware, track: Track
) -> Iterator[dict[str, Any]]:
    """Train from wherever `state` is, yielding loss, scores on the held rows, rate and lr after each epoch.

    `track` wraps the batches, for a progress bar. A loss that is no number is a NumberError.
    """
    labels = fold.labels[fold.train]
    batches = Epochs(fold.train, cfg.sampler(labels), cfg.batch, cfg.seed, fold.number)
    batches_of = loader(Photos(fold.pixels, cfg.augmentation()), batches, hardware)
    targets = torch.from_numpy(onehot(np.maximum(fold.labels, 0))).to(hardware.device)  # (N, 18)
    objective = head.objective(cfg.loss, torch.from_numpy(onehot(labels).sum(0)))
    schedule = cfg.scheduler(cfg.epochs * len(batches), len(batches))
    model = distrib.wrap(state.model, hardware.device)
    truth = fold.labels[fold.held]
    while state.epoch < cfg.epochs:
        batches.epoch, begun = state.epoch, time.perf_counter()
        seed_epoch(cfg.seed, fold.number, state.epoch)
        loss = train_epoch(cfg, state, model, track(batches_of), targets, objective, schedule, hardware)
        rate = len(batches) * cfg.batch / (time.perf_counter() - begun)
        probs = predict(state.model, head, fold.pixels, fold.held, hardware, cfg.precision)
        numbers = scores(truth, probs)
        lr = state.optimizer.param_groups[0]["lr"]
        state.history.append(numbers["f1"])
        seconds = time.perf_counter() - begun
        yield {
            "fold": fold.number, "epoch": state.epoch, "step": state.step, "loss": loss,
            "val_loss": cross_entropy(truth, probs), **numbers,
            "lr": lr, "images_per_second": rate, "seconds": seconds,
        }  # fmt: skip


def seed_epoch(seed: int, fold: int, epoch: int) -> None:
    """Seed torch for an epoch (dropout, stochastic depth), so that a resumed epoch is the same epoch."""
    torch.manual_seed(int(derived(seed, fold, epoch, distrib.rank()).integers(2**63)))


def train_epoch(
    cfg: Config, state: State, model: nn.Module, batches: Iterable[Any], targets: Tensor, objective: Objective,
    schedule: Schedule, hardware: Hardware,
) -> float:  # fmt: skip
    """Take a step for each batch and return the mean loss; the device is waited for only at the end."""
    training(model)
    base = state.optimizer.defaults["lr"]
    total, count = torch.zeros((), device=hardware.device), 0
    for images, rows in batches:
        for group in state.optimizer.param_groups:
            group["lr"] = base * schedule(state.step, state.history)
        inputs = normalized(images, state.model, hardware.device)
        with autocast(hardware.device, cfg.precision):
            logits = model(inputs)
        loss = objective(logits, targets[rows.to(hardware.device, non_blocking=True)])
        descend(cfg, state, loss)
        total += loss.detach()
        state.step, count = state.step + 1, count + 1
    mean = float(distrib.mean(total / max(count, 1)))
    if not math.isfinite(mean):
        raise NumberError(
            f"the loss of epoch {state.epoch + 1} is {mean}, at lr {state.optimizer.param_groups[0]['lr']:g}"
        )
    return mean


def descend(cfg: Config, state: State, loss: Tensor) -> None:
    """Take one step of the optimizer down the gradient of the loss."""
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    if cfg.clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), cfg.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
