"""Dry run: build everything once on blank images before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from maskcls.components.augmentation import Augment, check_augmented
from maskcls.components.hardware import Hardware
from maskcls.components.model import set_train_mode
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, RunError
from maskcls.engine.train_state import build_train_state
from maskcls.storage.run import Run
from maskcls.system import distributed


def dry_run(cfg: Config, hardware: Hardware, size: tuple[int, int] | None = None) -> None:
    """Build what the words mean once, before any work: what a builder refuses is known now, and not after decoding.

    `size` is the photos' height and width where the crop does not say it.
    """
    head, (high, wide) = cfg.head.build(), size or cropped_size(cfg)
    cfg.crop.build(), cfg.scheduler.build(1, 1), cfg.mixing.build()
    head.build_criterion(cfg.loss.build, torch.ones(18))
    model = build_train_state(cfg, head, hardware, (high, wide), 0).model.eval()
    if not high * wide:
        return  # crop=none: the rest is told with the photos
    with as_config_error(f"augmentation {cfg.augmentation.name} refuses photos of {high} × {wide}"):
        check_augmentation(cfg.augmentation.build(), high, wide)
    with torch.inference_mode():
        with as_config_error(f"tta {cfg.tta.name} refuses photos of {high} × {wide}"):
            views = cfg.tta.build()(torch.zeros(1, 3, high, wide, device=hardware.device))
        with as_config_error(f"model {cfg.model.name} refuses photos of {high} × {wide}"):
            model(views[0])
        if cfg.batch == distributed.world_size():
            with as_config_error(f"batch: model {cfg.model.name} cannot be trained on one photo of {high} × {wide}"):
                set_train_mode(model)(views[0])


@contextmanager
def as_config_error(what: str) -> Iterator[None]:
    """Make a ConfigError of what a library says against the words."""
    try:
        yield
    except Exception as error:  # each library has kinds of its own
        raise ConfigError(f"{what}: {' '.join(str(error).split())[:200]}") from error


def check_augmentation(augment: Augment | None, height: int, width: int, draws: int = 16) -> None:
    """Augment a blank photo a few times; a ValueError where what comes out is no photo of the same size."""
    blank = np.zeros((height, width, 3), np.uint8)
    for seed in range(draws if augment else 0):
        check_augmented(blank, augment(blank, seed))  # type: ignore[misc]


def cropped_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the photos that the model gets; 0 × 0 for crop=none, which leaves them as they are."""
    crop = cfg.crop.params
    height, width = crop.get("out") or (crop.get("height", 0), crop.get("width", 0))
    return height, width


def check_init_folds(cfg: Config, table: pd.DataFrame, note: Callable[[str], None] = lambda text: None) -> None:
    """Refuse to begin from a run with other folds: its weights or its guesses come from those who are scored here."""
    for key, source in (("model.init", cfg.model.params.get("init")), ("pseudo.run", cfg.pseudo.params.get("run"))):
        if source is not None:
            check_folds(key, Path(source), table, note)


def check_folds(key: str, source: Path, table: pd.DataFrame, note: Callable[[str], None]) -> None:
    """Raise a RunError if a run was trained on other folds than this table's, by the names and contents of photos."""
    theirs = Run(source).table
    older = not theirs["content"].any()
    columns = ["id", "fold", *([] if older else ["content"])]
    if older:
        note(f"{key}: {source.name} is of an older version, which knew its photos by their names alone")
    mine, theirs = (t[t["part"] == "train"][columns].reset_index(drop=True) for t in (table, theirs))
    if not mine.equals(theirs):
        what = f"{key}: {source} has other folds than this run: it has seen what is scored here"
        raise RunError(f"{what}. Set the same data, people, split, folds and seed as in its config.yaml")
