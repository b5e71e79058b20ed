"""All that a training carries from epoch to epoch: built from the config, saved whole, restored to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskcls.config import Config
from maskcls.errors import RunError
from maskcls.parts.hardware import Hardware
from maskcls.parts.head import Head
from maskcls.rundir import write


@dataclass
class State:
    """Model, optimizer and scaler; the score of each epoch that is over, from which schedule and patience follow.

    No random state is kept: each epoch seeds itself from seed, fold and epoch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    history: list[float] = field(default_factory=list)
    step: int = 0

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.history)

    @property
    def improved(self) -> bool:
        """Tell whether the last epoch is the best so far (the earlier one of two equal ones)."""
        return bool(self.history) and self.history[-1] > max(self.history[:-1], default=-1.0)

    def stale(self, patience: int | None) -> bool:
        """Tell whether `patience` epochs have gone by without a better score."""
        if patience is None or not self.history:
            return False
        return self.epoch - 1 - self.history.index(max(self.history)) >= patience

    def save(self, path: Path) -> None:
        """Write the state whole or not at all."""
        content = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "history": self.history, "step": self.step,
        }  # fmt: skip
        write(path, lambda file: torch.save(content, file))

    def restore(self, path: Path) -> None:
        """Take the state from a file that `save` wrote; it is never unpickled as code."""
        content = loaded(path)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.history, self.step = list(content["history"]), int(content["step"])


def build(cfg: Config, head: Head, hardware: Hardware, size: tuple[int, int], fold: int) -> State:
    """Return the untrained state of a fold for photos of `size` (height, width) pixels, seeded by seed and fold."""
    torch.manual_seed(cfg.seed * 1000 + fold)
    model = hardware.place(cfg.model(head.outputs, *size))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    scaler = torch.amp.GradScaler(hardware.device.type, enabled=cfg.precision == "fp16")
    return State(model, cfg.optimizer(trained, hardware.fused), scaler)


def loaded(path: Path) -> Any:
    """Return a checkpoint's content, on the CPU."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(
            f"{path} is no readable checkpoint ({type(error).__name__}): remove it to begin again"
        ) from error


def save_weights(state: State, path: Path, facts: dict[str, Any]) -> None:
    """Write the weights and the preprocessing that they were trained with: all that prediction needs."""
    content = {"model": state.model.state_dict(), **facts}
    write(path, lambda file: torch.save(content, file))
