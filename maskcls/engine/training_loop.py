"""Training loop: a generator of epochs, whose caller logs, saves and stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from timm.optim import Lookahead
from torch import Tensor, nn

from maskcls.components.hardware import Hardware
from maskcls.components.head import Head
from maskcls.components.loss import Loss
from maskcls.components.mixing import Mix
from maskcls.components.model import keep_statistics, set_train_mode
from maskcls.components.sampler import build_order, group_size
from maskcls.components.scheduler import Schedule
from maskcls.core.config import Config
from maskcls.core.errors import NonFiniteError
from maskcls.data.loader import Batch, EpochBatchSampler, build_loader, seeded_rng
from maskcls.engine.experiment import Fold
from maskcls.engine.out_of_memory import explain_out_of_memory
from maskcls.engine.size_schedule import epoch_scale, resize_batch, scaled_size
from maskcls.engine.train_state import TrainState
from maskcls.evaluation.metrics import compute_scores, log_loss, macro_f1
from maskcls.inference.forward import autocast, channel_stats, normalize, predict_probs
from maskcls.system import distributed

Track = Callable[[Iterable[Batch]], Iterable[Batch]]


@dataclass(frozen=True)
class TrainStep:
    """The components that a training step calls."""

    model: nn.Module
    image_size: tuple[int, int]  # (height, width) that the images are resized to
    scale: tuple[Tensor, Tensor]  # mean and std of the images
    targets: Tensor  # (N, head.target_size), all rows of the table, on the device
    labels: Tensor  # (N,), the class that mixing uses, on the device
    mix: Mix | None
    criterion: Loss
    schedule: Schedule


def fit(
    cfg: Config, state: TrainState, fold: Fold, head: Head, hardware: Hardware, track: Track
) -> Iterator[dict[str, Any]]:
    """Train the remaining epochs; yield loss, validation scores, images/s and lr after each.

    `loss` is the config's (weighted, smoothed, focal, on mixed images), `val_loss` plain cross entropy: in general
    they are not comparable. `track` wraps the batches, for a progress bar. Raise NonFiniteError for a loss of NaN.
    """
    sampler, loader = build_train_loader(cfg, fold, hardware)
    step = build_train_step(cfg, state, fold, head, hardware, len(sampler))
    labels, values, tta_views = fold.labels[fold.val_indices], fold.values[fold.val_indices], cfg.tta.build()
    while state.epoch < cfg.epochs:
        if state.unfreeze_if_due():
            step = replace(step, model=wrap_model(state.model, hardware))
        scale = epoch_scale(cfg, state.epoch)
        step = replace(step, image_size=scaled_size(fold.image_size, scale))
        sampler.epoch, started_at = state.epoch, time.perf_counter()
        seed_epoch(cfg.seed, fold.index, state.epoch)
        with explain_out_of_memory(cfg, hardware, state, step.criterion, fold.image_size):
            losses, batch_rows = train_one_epoch(cfg, state, step, track(loader), len(sampler), hardware)
        loss = mean_loss(losses, batch_rows, state, fold)
        distributed.broadcast_buffers(state.eval_model)
        images_per_second = len(sampler) * cfg.batch_size / (time.perf_counter() - started_at)
        with explain_out_of_memory(cfg, hardware, state):
            probs = predict_probs(
                state.eval_model, head, fold.unchanged, fold.val_indices, hardware, cfg.precision, tta_views
            )
            train_score = {"train_f1": score_training(cfg, state, fold, head, hardware)} if cfg.train_score else {}
        scores, val_loss = compute_scores(labels, probs, head.task, values), log_loss(labels, probs)
        state.history.append(scores["f1"] if cfg.monitor == "f1" else -val_loss)
        yield {
            "fold": fold.index, "epoch": state.epoch, "step": state.step, "updates": state.updates,
            **({"skipped": state.skipped} if state.scaler.is_enabled() else {}), "loss": loss,
            "val_loss": val_loss, **scores, **train_score, "lr": state.lr,
            **({"image_scale": scale} if cfg.size_schedule else {}),
            "images_per_second": images_per_second, "seconds": time.perf_counter() - started_at,
        }  # fmt: skip


def score_training(cfg: Config, state: TrainState, fold: Fold, head: Head, hardware: Hardware) -> float:
    """Return the macro F1 of the training images without augmentation, against the classes that are trained on."""
    rows = fold.train_indices
    probs = predict_probs(state.eval_model, head, fold.unchanged, rows, hardware, cfg.precision, cfg.tta.build())
    return macro_f1(fold.train_labels[rows], probs.argmax(1))


def build_train_step(
    cfg: Config, state: TrainState, fold: Fold, head: Head, hardware: Hardware, steps_per_epoch: int
) -> TrainStep:
    """Return the components that the steps of a fold call."""
    return TrainStep(
        targets=torch.from_numpy(fold.targets).to(hardware.device),
        mix=cfg.mixing.build(),
        labels=torch.from_numpy(fold.train_labels).to(hardware.device),
        image_size=fold.image_size,
        scale=channel_stats(state.model, hardware.device),
        criterion=head.build_criterion(
            cfg.loss.build, torch.from_numpy(fold.targets[fold.train_indices].sum(0)).to(hardware.device),
            cfg.loss.params,
        ),
        schedule=cfg.scheduler.build(cfg.epochs * steps_per_epoch, steps_per_epoch),
        model=wrap_model(state.model, hardware),
    )


def wrap_model(model: nn.Module, hardware: Hardware) -> nn.Module:
    """Return the model as a training step calls it: distributed over the ranks, and compiled if enabled."""
    return hardware.compile_if_enabled(distributed.wrap_ddp(model, hardware.device))


def build_train_loader(cfg: Config, fold: Fold, hardware: Hardware) -> tuple[EpochBatchSampler, Iterable[Batch]]:
    """Return the batch sampler and the loader of a fold's training images."""
    rows, group = fold.train_indices, group_size(cfg.sampler)
    sample_order = build_order(cfg.sampler, fold.train_labels[rows], fold.people[rows])
    sampler = EpochBatchSampler(rows, sample_order, cfg.batch_size, cfg.seed, fold.index, group)
    augment = cfg.augmentation.build()
    return sampler, build_loader(fold.pixels if augment else fold.unchanged, augment, sampler, hardware)


def update_bn(cfg: Config, model: nn.Module, fold: Fold, hardware: Hardware) -> None:
    """Recompute batch-norm statistics for averaged weights on the training images, in the size of the last epoch."""
    sampler, loader = build_train_loader(cfg, fold, hardware)
    sampler.epoch = cfg.epochs
    seed_epoch(cfg.seed, fold.index, cfg.epochs)
    norms = [
        m for m in set_train_mode(model).modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    stats = channel_stats(model, hardware.device)
    image_size = scaled_size(fold.image_size, epoch_scale(cfg, cfg.epochs - 1))
    with torch.no_grad(), autocast(hardware.device, cfg.precision):
        for images, _ in loader:
            model(normalize(resize_batch(images, image_size, hardware.device), stats))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    distributed.broadcast_buffers(model)


def seed_epoch(seed: int, fold: int, epoch: int) -> None:
    """Seed torch for an epoch (dropout, stochastic depth), so that a resumed epoch repeats the same numbers."""
    torch.manual_seed(int(seeded_rng(seed, fold, epoch, distributed.rank()).integers(2**63)))


def train_one_epoch(
    cfg: Config, state: TrainState, step: TrainStep, batches: Iterable[Batch], num_steps: int, hardware: Hardware
) -> tuple[Tensor, list[Tensor]]:
    """Take a step per batch; return the losses (num_steps,), on the device, and the rows of each batch."""
    set_train_mode(step.model)
    state.optimizer.zero_grad(set_to_none=True)
    batch_rows: list[Tensor] = []
    losses = torch.zeros(num_steps, device=hardware.device)
    for images, rows in batches:
        state.set_lr(step.schedule(state.step, state.history))
        inputs = normalize(resize_batch(images, step.image_size, hardware.device), step.scale)
        indices = rows.to(hardware.device, non_blocking=True)
        targets = step.targets[indices]
        if step.mix:
            inputs, targets = step.mix(inputs, targets, step.labels[indices])
        with autocast(hardware.device, cfg.precision):
            logits = step.model(inputs)
        loss = step.criterion(logits, targets)
        losses[len(batch_rows)] = loss.detach()
        batch_rows.append(rows.clone())  # a worker's tensor keeps a file open
        state.step += 1
        backward_and_step(cfg, state, loss, len(batch_rows), num_steps)
    return losses, batch_rows


def mean_loss(losses: Tensor, batch_rows: Sequence[Tensor], state: TrainState, fold: Fold) -> float:
    """Return the mean loss of an epoch over all ranks; this waits for the device.

    Raise NonFiniteError with the first step whose loss is not finite, and its images.
    """
    mean = float(distributed.all_reduce_mean(losses.mean()))
    if math.isfinite(mean):
        return mean
    (bad,) = np.nonzero(~np.isfinite(losses.cpu().numpy()))
    where = f"fold {fold.index}, epoch {state.epoch + 1}: non-finite loss"
    if not len(bad):
        raise NonFiniteError(f"{where} in another process, got {mean}")
    step, rows = int(bad[0]), batch_rows[bad[0]].tolist()
    names = ", ".join(fold.image_ids[row] for row in rows[:8]) + (", …" if len(rows) > 8 else "")
    raise NonFiniteError(
        f"{where} at step {step + 1}/{len(losses)}, lr {state.lr:g}, images {names}. "
        "Try a smaller optimizer.lr or clip_grad=1"
    )


def backward_and_step(cfg: Config, state: TrainState, loss: Tensor, count: int, num_steps: int) -> None:
    """Back-propagate; step the optimizer every `accumulate` batches and at the end of the epoch.

    A step that fp16 skips changes no weights and does not update the EMA.
    """
    first = (count - 1) // cfg.grad_accum_steps * cfg.grad_accum_steps
    repeats_forward = cfg.model.params.get("grad_checkpointing", False)
    with keep_statistics(state.model) if repeats_forward else nullcontext():
        state.scaler.scale(loss / min(cfg.grad_accum_steps, num_steps - first)).backward()
    if count % cfg.grad_accum_steps and count < num_steps:
        return
    if cfg.clip_grad:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), cfg.clip_grad)
    scale = state.scaler.get_scale()
    state.scaler.step(state.optimizer)
    if isinstance(state.optimizer, Lookahead) and count == num_steps:
        state.optimizer.sync_lookahead()  # validation uses the slow weights; it needs the gradients
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.scaler.get_scale() < scale:
        state.skipped += 1
        return
    state.updates += 1
    if state.ema:
        state.ema.update(state.model, state.updates)
