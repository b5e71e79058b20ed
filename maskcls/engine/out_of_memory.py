"""Out-of-memory errors that report a batch size that fits, found by trying."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from maskcls.components.hardware import Hardware
from maskcls.components.loss import Loss
from maskcls.components.sampler import group_size
from maskcls.core.config import Config
from maskcls.core.errors import RunError
from maskcls.engine.train_state import TrainState
from maskcls.inference.forward import autocast
from maskcls.system import distributed


@contextmanager
def explain_out_of_memory(
    cfg: Config,
    hardware: Hardware,
    state: TrainState,
    criterion: Loss | None = None,
    image_size: tuple[int, int] = (0, 0),
) -> Iterator[None]:
    """Context manager that turns an out-of-memory error into a RunError with batch sizes to try.

    With a criterion it wraps training on images of `image_size` (height, width), else evaluation.
    """
    first_step = state.step
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they keep the batch that was too large
        more = " or hardware.resident=false" if hardware.resident else ""
        if criterion is None:
            fewer = max(min(cfg.batch_size, hardware.eval_batch // 2), 1)
            raise RunError(
                f"out of memory at hardware.eval_batch={hardware.eval_batch} (evaluation). "
                f"Try hardware.eval_batch={fewer}{more}"
            ) from error
        when = f"after {state.step - first_step} steps" if state.step > first_step else "first step"
        fits = find_batch_size(cfg, hardware, state, criterion, image_size)
        advice = "batch_size=2 does not fit either: use a smaller crop or model"
        if fits:
            steps = cfg.grad_accum_steps * (cfg.batch_size // fits)
            advice = f"batch_size={fits} fits: use batch_size={fits} grad_accum_steps={steps}"
        size = f"batch_size={cfg.batch_size}"
        raise RunError(f"out of memory at {size} ({when}). {advice}, or precision=bf16{more}") from error


def find_batch_size(
    cfg: Config, hardware: Hardware, state: TrainState, criterion: Loss, image_size: tuple[int, int]
) -> int:
    """Return the first of batch / 2, / 4, … whose step fits in device memory, or 0."""
    count, unit = cfg.batch_size // distributed.world_size() // 2, group_size(cfg.sampler)
    while (count := count // unit * unit) > 1:
        state.optimizer.zero_grad(set_to_none=True)
        if hardware.device.type == "cuda":
            torch.cuda.empty_cache()
        try:
            try_step(cfg, hardware, state, criterion, torch.Size((count, 3, *image_size)))
            return count * distributed.world_size()
        except torch.OutOfMemoryError as error:
            traceback.clear_frames(error.__traceback__)
            count //= 2
    return 0


def try_step(cfg: Config, hardware: Hardware, state: TrainState, criterion: Loss, shape: torch.Size) -> None:
    """Take a step on blank images."""
    images = torch.zeros(shape, device=hardware.device)
    size = cfg.head.build().target_size
    targets = torch.full((shape[0], size), 1 / size, device=hardware.device)
    with autocast(hardware.device, cfg.precision):
        logits = state.model(images)
    criterion(logits, targets).backward()
    state.optimizer.step()  # its first step allocates memory, too; the state is not used again
