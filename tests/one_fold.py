"""The first fold of a tiny config, untrained, and its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import fit


def begin_fold(*words: str) -> tuple[Config, Fold, TrainState]:
    """Return the config of these words, its first fold and the fold's untrained state."""
    cfg = validate(compose(*words))
    table = assemble_table(cfg, lambda note: None)
    fold = Fold.of(table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)), 0, cfg.hardware.build(), cfg.head.build())
    return cfg, fold, build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), fold.image_size, 0)


def trained(cfg: Config, fold: Fold, state: TrainState) -> list[dict[str, Any]]:
    """Return the numbers of each epoch."""
    return list(fit(cfg, state, fold, cfg.head.build(), cfg.hardware.build(), lambda batches: batches))
