"""Training state: built from the config, saved after each epoch, restored exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from timm.optim import NvNovoGrad
from timm.utils import ModelEmaV3
from torch import nn

from maskcls.components.hardware import Hardware, keep_freed_memory
from maskcls.components.head import Head
from maskcls.components.model import unfreeze
from maskcls.core.config import Config
from maskcls.engine.param_groups import build_param_groups
from maskcls.storage.checkpoint import load_checkpoint, load_weights, save_tensors, wrap_load_errors
from maskcls.system.safe_reading import FormatError, check_plain

MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}  # shaped like their weight
FACTORS = {"exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq_r", "exp_avg_sq_c"}  # of Adafactor: not shaped like it
COUNTERS = {"lookahead_step", "buffer"}  # in a parameter group beside its hyperparameters
FIRST_SCALE = 2.0**10  # loss scale of fp16; with torch's 2^16 the first gradients overflow and their steps are skipped


@dataclass
class TrainState:
    """Model, optimizer, gradient scaler, EMA and the validation score of each completed epoch, higher is better.

    It has no random state: each epoch is seeded by seed, fold and epoch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    base_lr: float
    ema: ModelEmaV3 | None = None
    history: list[float] = field(default_factory=list)
    step: int = 0  # batches trained on; the scheduler's clock
    updates: int = 0  # optimizer steps, fewer with `accumulate`; the EMA's clock
    freeze_epochs: int | None = None  # epochs after which frozen parameters are trained, too
    lr_factor: float = 1.0  # of the schedule, in the last step
    skipped: int = 0  # fp16 steps skipped because a gradient overflowed

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self.history)

    @property
    def eval_model(self) -> nn.Module:
        """The model that predicts: the EMA if there is one."""
        return self.ema.module if self.ema else self.model

    @property
    def lr(self) -> float:
        """The learning rate before the factors of layer_decay and head_lr."""
        return self.base_lr * self.lr_factor

    def set_lr(self, factor: float) -> None:
        """Set the learning rate of each parameter group."""
        self.lr_factor = factor
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_lr * factor * group.get("lr_scale", 1.0)

    def unfreeze_if_due(self) -> bool:
        """Let all parameters be trained once `freeze_epochs` epochs are completed; return True if some were frozen."""
        if self.freeze_epochs is None or self.epoch < self.freeze_epochs:
            return False
        if self.ema:
            unfreeze(self.ema.module)  # its batch-norm statistics are recomputed as those of the model
        return unfreeze(self.model)

    def selected_epochs(self, select: str, count: int) -> list[int]:
        """Return the epochs, from 1, whose weights predict: the last `count`, or the best (the earlier one of ties)."""
        return sorted(self.ranked_epochs(select, count))

    def ranked_epochs(self, select: str, count: int) -> list[int]:
        """Return the selected epochs, the best or the latest one first."""
        epochs = range(1, self.epoch + 1)
        ranked = sorted(epochs, key=lambda e: -self.history[e - 1]) if select == "best" else list(epochs)[::-1]
        return ranked[:count]

    def out_of_patience(self, patience: int | None, min_delta: float = 0.0) -> bool:
        """Return True if the last `patience` epochs brought no score that is better by more than `min_delta`."""
        best, waited = -math.inf, 0
        for score in self.history:
            best, waited = (score, 0) if score - min_delta > best else (best, waited + 1)
        return patience is not None and waited >= patience

    def save(self, path: Path, metadata: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Save the state atomically, with metadata for a prediction with its weights."""
        content = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "history": self.history, "step": self.step,
            "updates": self.updates, "skipped": self.skipped,
            "ema": self.ema.module.state_dict() if self.ema else None,
        }  # fmt: skip
        save_tensors(path, {**metadata, **content})

    def load(self, path: Path) -> None:
        """Load a saved state; nothing in the file is unpickled as code."""
        content = load_checkpoint(path)
        with wrap_load_errors(path):
            load_weights(self.model, content["model"])
            load_optimizer(self.optimizer, content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            if (self.ema is None) != (content["ema"] is None):
                raise FormatError(f"expected {'no ' if self.ema is None else ''}EMA weights")
            if self.ema:
                load_weights(self.ema.module, content["ema"])
            self.history, self.step = check_history(content["history"]), int(content["step"])
            self.updates = int(content.get("updates", self.step))  # not in files of earlier versions
            self.skipped = int(content.get("skipped", 0))
        self.unfreeze_if_due()


def build_train_state(cfg: Config, head: Head, hardware: Hardware, image_size: tuple[int, int], k: int) -> TrainState:
    """Return the initial state of fold k for images of `image_size` (height, width), seeded by seed and fold."""
    torch.manual_seed(cfg.seed * 1000 + k)
    if hardware.device.type == "cpu":
        keep_freed_memory()
    model = hardware.to_device(cfg.model.build(head.outputs, *image_size, k))
    scaler = torch.amp.GradScaler(hardware.device.type, FIRST_SCALE, enabled=cfg.precision == "fp16")
    ema = ModelEmaV3(model, decay=cfg.ema, use_warmup=True, foreach=True) if cfg.ema else None
    optimizer = cfg.optimizer.build(build_param_groups(cfg, model), hardware.fused)
    return TrainState(model, optimizer, scaler, cfg.optimizer.params["lr"], ema, freeze_epochs=cfg.freeze_epochs)


def load_optimizer(optimizer: torch.optim.Optimizer, content: Any) -> None:
    """Restore an optimizer; raise FormatError if its saved hyperparameters differ, which loading would replace."""
    check_plain(content, keys=int, leaves=(torch.Tensor, torch.dtype))
    before = [hyperparameters(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(content)
    groups = zip(before, optimizer.param_groups, strict=True)
    for key, value, got in ((k, v, group.get(k)) for fresh, group in groups for k, v in fresh.items()):
        if got != value:
            raise FormatError(f"optimizer {key}: expected {value}, got {got}")
    check_moments(getattr(optimizer, "_base_optimizer", optimizer))  # Lookahead's state is that of its base


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise FormatError if shapes do not match: torch compares only counts, and fused kernels read beyond memory."""
    for parameter, state in optimizer.state.items():
        for name in MOMENTS & state.keys() if not isinstance(optimizer, NvNovoGrad) else ():  # which has one number
            if state[name] is not None and state[name].shape != parameter.shape:
                got = tuple(state[name].shape)
                raise FormatError(f"optimizer {name}: expected shape {tuple(parameter.shape)}, got {got}")
        for key, value in state.items():
            is_array = isinstance(value, torch.Tensor) and value.dim() > 0 and key not in FACTORS
            if is_array and value.shape != parameter.shape:
                raise FormatError(f"optimizer {key}: expected shape {tuple(parameter.shape)}, got {tuple(value.shape)}")


def hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of a parameter group without lr, which is set at each step."""
    return {key: value for key, value in group.items() if key not in {"params", "lr", "initial_lr", *COUNTERS}}


def check_history(history: Any) -> list[float]:
    """Return the scores of the completed epochs."""
    check_plain(history)
    scores = history if isinstance(history, list) else [history]
    wrong = [score for score in scores if not isinstance(score, float) or not -math.inf < score <= 1]
    if wrong or not isinstance(history, list):
        raise FormatError(f"history: expected a list of scores up to 1, got {repr((wrong or scores)[0])[:40]}")
    return history
