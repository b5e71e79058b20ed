"""What is said when a device's memory is full: which batch fits, found by trying."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from maskcls.components.hardware import Hardware
from maskcls.components.head import Objective
from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.core.task import CLASSES
from maskcls.engine.train_state import TrainState
from maskcls.inference.forward import autocast
from maskcls.system import distributed


@contextmanager
def explain_out_of_memory(
    cfg: Config,
    hardware: Hardware,
    state: TrainState,
    objective: Objective | None = None,
    size: tuple[int, int] = (0, 0),
) -> Iterator[None]:
    """Make a RunError, with what to try, of a device that has not the memory for a batch.

    With an objective it is training on photos of `size` (height, width) that goes on inside.
    """
    before = state.step
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold the batch that was too large
        lacks = "photos do not fit into the device's memory"
        more = ", or hardware.resident=false" if hardware.resident else ""
        if objective is None:
            fewer = max(min(cfg.batch, hardware.eval_batch // 2), 1)
            raise RunError(
                f"hardware.eval_batch: {hardware.eval_batch} {lacks} without gradients, where a batch of {cfg.batch} "
                f"fitted with them: try hardware.eval_batch={fewer}{more}"
            ) from error
        seen = f"after {state.step - before} steps" if state.step > before else "at the first step"
        fits = find_batch_size(cfg, hardware, state, objective, size)
        less = "not even two do: try a smaller crop or model"
        if fits:
            times = cfg.accumulate * (cfg.batch // fits)
            less = f"{fits} do: try batch={fits} accumulate={times}"
        raise RunError(f"batch: {cfg.batch} {lacks} ({seen}), {less}, or precision=bf16{more}") from error


def find_batch_size(
    cfg: Config, hardware: Hardware, state: TrainState, objective: Objective, size: tuple[int, int]
) -> int:
    """Return the first of batch / 2, / 4, … whose step fits into the device's memory, 0 if none."""
    count = cfg.batch // distributed.world_size() // 2
    while count > 1:
        state.optimizer.zero_grad(set_to_none=True)
        if hardware.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            try_step(cfg, hardware, state, objective, torch.Size((count, 3, *size)))
            return count * distributed.world_size()
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)
            count //= 2
    return 0


def try_step(cfg: Config, hardware: Hardware, state: TrainState, objective: Objective, shape: torch.Size) -> None:
    """Take a step on grey photos."""
    images = torch.zeros(shape, device=hardware.device)
    targets = torch.full((shape[0], len(CLASSES)), 1 / len(CLASSES), device=hardware.device)
    with autocast(hardware.device, cfg.precision):
        logits = state.model(images)
    objective(logits, targets).backward()
    state.optimizer.step()  # which takes memory of its own at its first time; this state is not gone on with
