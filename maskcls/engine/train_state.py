"""All that a training carries from epoch to epoch: built from the config, saved whole, restored to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import nn

from maskcls.components.hardware import Hardware, keep_freed_memory
from maskcls.components.head import Head
from maskcls.core.config import Config
from maskcls.storage.checkpoint import load_checkpoint, load_weights, save_tensors, wrap_load_errors
from maskcls.system.safe_reading import FormatError, check_plain

MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}  # of the shape of their weight
FIRST_SCALE = 2.0**10  # of fp16's loss; at torch's 2^16 the first gradients overflow and their steps are skipped


@dataclass
class TrainState:
    """Model, optimizer, scaler, moving average; the score of each epoch that is over, from which all else follows.

    No random state is kept: each epoch seeds itself from seed, fold and epoch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    lr: float
    ema: ModelEmaV3 | None = None
    history: list[float] = field(default_factory=list)
    step: int = 0  # batches that were trained on: the clock of the learning rate
    updates: int = 0  # steps of the optimizer, which are fewer with `accumulate`: the clock of the moving average
    skipped: int = 0  # steps that fp16 gave up, since a gradient was too large for it

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.history)

    @property
    def eval_model(self) -> nn.Module:
        """The model that predicts: the moving average where there is one."""
        return self.ema.module if self.ema else self.model

    @property
    def rate(self) -> float:
        """The learning rate of the last layer: the largest, where it decays from layer to layer."""
        return float(max(group["lr"] for group in self.optimizer.param_groups))

    def set_lr(self, factor: float) -> None:
        """Set the learning rate of each group of parameters."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * factor * group.get("lr_scale", 1.0)

    def selected_epochs(self, select: str, count: int) -> list[int]:
        """Return the epochs, from 1, whose weights predict: the last `count`, or the best (earlier before equal)."""
        epochs = range(1, self.epoch + 1)
        ranked = sorted(epochs, key=lambda e: -self.history[e - 1]) if select == "best" else list(epochs)[::-1]
        return sorted(ranked[:count])

    def out_of_patience(self, patience: int | None) -> bool:
        """Tell whether `patience` epochs have gone by without a better score."""
        if patience is None or not self.history:
            return False
        return self.epoch - 1 - self.history.index(max(self.history)) >= patience

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        content = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "history": self.history, "step": self.step,
            "updates": self.updates, "skipped": self.skipped,
            "ema": self.ema.module.state_dict() if self.ema else None,
        }  # fmt: skip
        save_tensors(path, content)

    def load(self, path: Path) -> None:
        """Take the state from a file that `save` wrote; it is never unpickled as code."""
        content = load_checkpoint(path)
        with wrap_load_errors(path):
            load_weights(self.model, content["model"])
            load_optimizer(self.optimizer, content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            if (self.ema is None) != (content["ema"] is None):
                raise FormatError(f"expected {'no ' if self.ema is None else ''}weights of a moving average")
            if self.ema:
                load_weights(self.ema.module, content["ema"])
            self.history, self.step = check_history(content["history"]), int(content["step"])
            self.updates = int(content.get("updates", self.step))  # earlier versions did not count them
            self.skipped = int(content.get("skipped", 0))


def build_train_state(cfg: Config, head: Head, hardware: Hardware, size: tuple[int, int], fold: int) -> TrainState:
    """Return the untrained state of a fold for photos of `size` (height, width) pixels, seeded by seed and fold."""
    torch.manual_seed(cfg.seed * 1000 + fold)
    if hardware.device.type == "cpu":
        keep_freed_memory()
    model = hardware.to_device(cfg.model.build(head.outputs, *size, fold))
    scaler = torch.amp.GradScaler(hardware.device.type, FIRST_SCALE, enabled=cfg.precision == "fp16")
    ema = ModelEmaV3(model, decay=cfg.ema, use_warmup=True, foreach=True) if cfg.ema else None
    optimizer = cfg.optimizer.build(param_groups(cfg, model), hardware.fused)
    return TrainState(model, optimizer, scaler, cfg.optimizer.params["lr"], ema)


def param_groups(cfg: Config, model: nn.Module) -> list[Any]:
    """Return the parameters that are trained, in groups by depth where the learning rate decays from layer to layer."""
    if cfg.layer_decay is None:
        return [parameter for parameter in model.parameters() if parameter.requires_grad]
    from timm.optim import param_groups_layer_decay

    decay = cfg.optimizer.params["weight_decay"]
    return param_groups_layer_decay(model, decay, weight_decay_exclude_1d=False, layer_decay=cfg.layer_decay)


def load_optimizer(optimizer: torch.optim.Optimizer, given: Any) -> None:
    """Restore an optimizer; a FormatError where it was saved with other parameters, which would be taken over."""
    check_plain(given, keys=int, leaves=(torch.Tensor,))
    before = [parameters_of(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(given)
    if before != [parameters_of(group) for group in optimizer.param_groups]:
        raise FormatError("its optimizer has other parameters")
    for parameter, state in optimizer.state.items():
        for name in MOMENTS & state.keys():
            if state[name] is not None and state[name].shape != parameter.shape:
                raise FormatError(f"{name} of its optimizer has another shape than its weight")
    check_moments(optimizer)


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise a FormatError for a state of other weights: torch compares counts, and fused kernels read beyond memory."""
    for parameter, own in optimizer.state.items():
        for key, value in own.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise FormatError(f"{key} is of shape {tuple(value.shape)} for a weight {tuple(parameter.shape)}")


def parameters_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer's own parameters of a group; the rate is set anew for each step."""
    return {key: value for key, value in group.items() if key not in ("params", "lr", "initial_lr")}


def check_history(given: Any) -> list[float]:
    """Return the scores of the epochs that are over."""
    check_plain(given)
    if not isinstance(given, list) or not all(isinstance(score, float) and 0 <= score <= 1 for score in given):
        raise FormatError("its history is not a list of scores")
    return list(given)
