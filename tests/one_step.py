"""One training step of a config, for the tests that try many configs."""

from __future__ import annotations

from dataclasses import replace

import torch

from maskcls.core.config import Config
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import build_train_state
from maskcls.engine.training_loop import fit


def one_step(cfg: Config, table, photos) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Train on one batch of fold 0 (or as many as make a step) and score a few photos."""
    hardware = cfg.hardware.build()
    fold = Fold.of(table, photos, 0, hardware, cfg.head.build())
    small = replace(
        fold,
        train_indices=fold.train_indices[: cfg.batch_size * cfg.grad_accum_steps],
        val_indices=fold.val_indices[:6],
    )
    head = cfg.head.build()
    state = build_train_state(cfg, head, hardware, small.image_size, 0)
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    numbers = next(fit(cfg, state, small, head, hardware, lambda batches: batches))
    assert any(not torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True)), (
        "nothing was learned"
    )
    return numbers
