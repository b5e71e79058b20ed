"""The training loop, a generator: it yields the numbers of each epoch, and its caller logs, saves and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from maskcls.components.hardware import Hardware
from maskcls.components.head import Head, Objective
from maskcls.components.mixing import Mix
from maskcls.components.model import set_train_mode
from maskcls.components.scheduler import Schedule
from maskcls.core.config import Config
from maskcls.core.errors import NonFiniteError
from maskcls.core.table import train_indices, train_labels, train_targets, val_indices, with_fold_labels
from maskcls.core.task import FloatArray, IntArray
from maskcls.data.loader import Batch, EpochBatchSampler, build_loader, seeded_rng
from maskcls.data.pixel_cache import Pixels
from maskcls.engine.out_of_memory import explain_out_of_memory
from maskcls.engine.train_state import TrainState
from maskcls.evaluation.metrics import compute_scores, log_loss
from maskcls.inference.forward import autocast, channel_stats, normalize, predict_probs
from maskcls.system import distributed

Track = Callable[[Iterable[Batch]], Iterable[Batch]]


@dataclass(frozen=True)
class Fold:
    """What one fold trains and is scored on."""

    index: int
    pixels: Pixels  # (N, H, W, 3), all rows of the table
    unchanged: Pixels | Tensor  # the same, where photos are read that nothing changes: on the device if it holds them
    labels: IntArray  # (N,), what is scored
    targets: FloatArray  # (N, 18), what is trained towards
    train_labels: IntArray  # (N,), the class that training counts a row to, however soft its target is
    train_indices: IntArray  # positions
    val_indices: IntArray  # positions
    image_ids: Sequence[str]  # (N,), of the photos

    @classmethod
    def of(cls, table: pd.DataFrame, pixels: Pixels, k: int, hardware: Hardware) -> Fold:
        """Return fold k of a table; RunError where the device is to hold the photos and cannot."""
        mine = with_fold_labels(table, k)
        return cls(
            k, pixels, hardware.to_device_memory(pixels), table["label"].to_numpy(), train_targets(mine),
            train_labels(mine), train_indices(table, k), val_indices(table, k), table["id"].to_list(),
        )  # fmt: skip

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the photos."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class TrainStep:
    """What a fold's words have built: all that a training step calls."""

    model: nn.Module
    scale: tuple[Tensor, Tensor]  # mean and std of the photos
    targets: Tensor  # (N, 18), all rows of the table, on the device
    labels: Tensor  # (N,), the class that training counts a row to, on the device
    mix: Mix | None
    criterion: Objective
    schedule: Schedule


def fit(
    cfg: Config, state: TrainState, fold: Fold, head: Head, hardware: Hardware, track: Track
) -> Iterator[dict[str, Any]]:
    """Train from wherever `state` is, yielding loss, scores on the held rows, rate and lr after each epoch.

    `loss` is the config's own (weighted, smoothed, focal, on mixed photos); `val_loss` is always plain cross entropy:
    in general the two cannot be compared.
    `track` wraps the batches, for a progress bar. A loss that is no number is a NumberError.
    """
    batches, source = build_train_loader(cfg, fold, hardware)
    work = build_train_step(cfg, state, fold, head, hardware, len(batches))
    truth, views = fold.labels[fold.val_indices], cfg.tta.build()
    while state.epoch < cfg.epochs:
        batches.epoch, begun = state.epoch, time.perf_counter()
        seed_epoch(cfg.seed, fold.index, state.epoch)
        with explain_out_of_memory(cfg, hardware, state, work.criterion, fold.image_size):
            losses, order = train_one_epoch(cfg, state, work, track(source), len(batches), hardware)
        loss = mean_loss(losses, order, state, fold)
        distributed.broadcast_buffers(state.eval_model)
        rate = len(batches) * cfg.batch / (time.perf_counter() - begun)
        with explain_out_of_memory(cfg, hardware, state):
            probs = predict_probs(
                state.eval_model, head, fold.unchanged, fold.val_indices, hardware, cfg.precision, views
            )
        numbers = compute_scores(truth, probs)
        state.history.append(numbers["f1"])
        seconds = time.perf_counter() - begun
        yield {
            "fold": fold.index, "epoch": state.epoch, "step": state.step, "updates": state.updates,
            **({"skipped": state.skipped} if state.scaler.is_enabled() else {}), "loss": loss,
            "val_loss": log_loss(truth, probs), **numbers,
            "lr": state.rate, "images_per_second": rate, "seconds": seconds,
        }  # fmt: skip


def build_train_step(
    cfg: Config, state: TrainState, fold: Fold, head: Head, hardware: Hardware, per_epoch: int
) -> TrainStep:
    """Return all that the steps of a fold call."""
    return TrainStep(
        targets=torch.from_numpy(fold.targets).to(hardware.device),
        mix=cfg.mixing.build(),
        labels=torch.from_numpy(fold.train_labels).to(hardware.device),
        scale=channel_stats(state.model, hardware.device),
        criterion=head.build_criterion(
            cfg.loss.build, torch.from_numpy(fold.targets[fold.train_indices].sum(0)).to(hardware.device)
        ),
        schedule=cfg.scheduler.build(cfg.epochs * per_epoch, per_epoch),
        model=hardware.compile_if_enabled(distributed.wrap_ddp(state.model, hardware.device)),
    )


def build_train_loader(cfg: Config, fold: Fold, hardware: Hardware) -> tuple[EpochBatchSampler, Iterable[Batch]]:
    """Return the order of a fold's batches, and the batches."""
    order = cfg.sampler.build(fold.train_labels[fold.train_indices])
    batches = EpochBatchSampler(fold.train_indices, order, cfg.batch, cfg.seed, fold.index)
    augment = cfg.augmentation.build()
    return batches, build_loader(fold.pixels if augment else fold.unchanged, augment, batches, hardware)


def update_bn(cfg: Config, model: nn.Module, fold: Fold, hardware: Hardware) -> None:
    """Give averaged weights batch-norm statistics of their own, by a pass over the training photos."""
    batches, source = build_train_loader(cfg, fold, hardware)
    batches.epoch = cfg.epochs
    seed_epoch(cfg.seed, fold.index, cfg.epochs)
    norms = [
        m for m in set_train_mode(model).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training
    ]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    scale = channel_stats(model, hardware.device)
    with torch.no_grad(), autocast(hardware.device, cfg.precision):
        for images, _ in source:
            model(normalize(images, scale))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    distributed.broadcast_buffers(model)


def seed_epoch(seed: int, fold: int, epoch: int) -> None:
    """Seed torch for an epoch (dropout, stochastic depth), so that a resumed epoch is the same epoch."""
    torch.manual_seed(int(seeded_rng(seed, fold, epoch, distributed.rank()).integers(2**63)))


def train_one_epoch(
    cfg: Config, state: TrainState, work: TrainStep, batches: Iterable[Batch], steps: int, hardware: Hardware
) -> tuple[Tensor, list[Tensor]]:
    """Take a step for each batch; return the losses (steps,), still on the device, and the rows of each batch."""
    set_train_mode(work.model)
    state.optimizer.zero_grad(set_to_none=True)
    order: list[Tensor] = []
    losses = torch.zeros(steps, device=hardware.device)
    for images, rows in batches:
        state.set_lr(work.schedule(state.step, state.history))
        inputs = normalize(images, work.scale)
        at = rows.to(hardware.device, non_blocking=True)
        targets = work.targets[at]
        if work.mix:
            inputs, targets = work.mix(inputs, targets, work.labels[at])
        with autocast(hardware.device, cfg.precision):
            logits = work.model(inputs)
        loss = work.criterion(logits, targets)
        losses[len(order)] = loss.detach()
        order.append(rows.clone())  # what a worker sent is an open file for as long as it is kept
        state.step += 1
        backward_and_step(cfg, state, loss, len(order), steps)
    return losses, order


def mean_loss(losses: Tensor, order: Sequence[Tensor], state: TrainState, fold: Fold) -> float:
    """Return the mean loss of an epoch over all ranks, for which the device is waited for.

    A NumberError names the first step whose loss is no number, and its photos.
    """
    whole = float(distributed.all_reduce_mean(losses.mean()))
    if math.isfinite(whole):
        return whole
    (bad,) = np.nonzero(~np.isfinite(losses.cpu().numpy()))
    where = f"the loss of epoch {state.epoch + 1} of fold {fold.index} is {whole}"
    if not len(bad):
        raise NonFiniteError(f"{where}, from another rank's photos")
    step, rows = int(bad[0]), order[bad[0]].tolist()
    names = ", ".join(fold.image_ids[row] for row in rows[:8]) + (", …" if len(rows) > 8 else "")
    raise NonFiniteError(
        f"{where}: step {step + 1} of {len(losses)} left the numbers, at lr {state.rate:g}, "
        f"with {names}: try a smaller optimizer.lr, or clip=1"
    )


def backward_and_step(cfg: Config, state: TrainState, loss: Tensor, count: int, steps: int) -> None:
    """Go down the gradient, in one step for every `accumulate` batches; the last step takes what is left.

    A step that fp16 skips moves no weight, so that the moving average does not count it either.
    """
    begun = (count - 1) // cfg.accumulate * cfg.accumulate
    state.scaler.scale(loss / min(cfg.accumulate, steps - begun)).backward()
    if count % cfg.accumulate and count < steps:
        return
    if cfg.clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), cfg.clip)
    scale = state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.scaler.get_scale() < scale:
        state.skipped += 1
        return
    state.updates += 1
    if state.ema:
        state.ema.update(state.model, state.updates)
