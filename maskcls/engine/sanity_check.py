"""Dry run: build everything once on blank images before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from maskcls.components.augmentation import Augment, check_augmented
from maskcls.components.crop import output_size
from maskcls.components.hardware import Hardware
from maskcls.components.model import set_train_mode
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, RunError
from maskcls.engine.size_schedule import scaled_size
from maskcls.engine.train_state import build_train_state
from maskcls.storage.origins import pseudo_sources
from maskcls.storage.run import Run
from maskcls.system import distributed


def dry_run(cfg: Config, hardware: Hardware, image_size: tuple[int, int] | None = None) -> None:
    """Build every component once, so that libraries report errors before images are decoded.

    `image_size` is (height, width), needed for crop=none only.
    """
    head, (height, width) = cfg.head.build(), image_size or cropped_size(cfg)
    cfg.crop.build(), cfg.scheduler.build(1, 1), cfg.mixing.build()
    head.build_criterion(cfg.loss.build, torch.ones(head.target_size), cfg.loss.params)
    model = build_train_state(cfg, head, hardware, (height, width), 0).model.eval()
    if not height * width:
        return  # crop=none: the image size is not known yet
    size = f"{height} × {width}"
    with as_config_error(f"augmentation={cfg.augmentation.name} failed on {size} images"):
        check_augmentation(cfg.augmentation.build(), height, width)
    with torch.inference_mode():
        with as_config_error(f"tta={cfg.tta.name} failed on {size} images"):
            views = cfg.tta.build()(torch.zeros(1, 3, height, width, device=hardware.device))
        check_model(cfg, model, views[0])
        for scale in sorted({*(cfg.size_schedule or ())} - {1.0}):
            smaller = views[0].new_zeros(1, 3, *scaled_size((height, width), scale))
            check_model(cfg, model, smaller, f"size_schedule={scale:g}: ")


def check_model(cfg: Config, model: nn.Module, image: Tensor, where: str = "") -> None:
    """Raise ConfigError, which begins with `where`, if a model cannot predict or be trained on a (1, 3, H, W) image."""
    size = f"{image.shape[2]} × {image.shape[3]}"
    with as_config_error(f"{where}model={cfg.model.name} failed on {size} images"):
        model.eval()(image)
    if cfg.batch_size == distributed.world_size():
        with as_config_error(
            f"{where}batch_size={cfg.batch_size}: model={cfg.model.name} cannot be trained on one {size} image"
        ):
            set_train_mode(model)(image)


@contextmanager
def as_config_error(where: str) -> Iterator[None]:
    """Context manager that turns the errors of a library into ConfigErrors."""
    try:
        yield
    except Exception as error:  # each library has its own exception types
        raise ConfigError(f"{where}: {' '.join(str(error).split())[:200]}") from error


def check_augmentation(augment: Augment | None, height: int, width: int, num_tries: int = 16) -> None:
    """Augment a blank image several times; raise ValueError if a result is not an image of the same size."""
    blank = np.zeros((height, width, 3), np.uint8)
    for seed in range(num_tries if augment else 0):
        check_augmented(blank, augment(blank, seed))  # type: ignore[misc]


def cropped_size(cfg: Config) -> tuple[int, int]:
    """Return the (height, width) of the model's input; (0, 0) for crop=none, which keeps the size of the images."""
    return output_size(cfg.crop)


def check_init_folds(cfg: Config, table: pd.DataFrame, note: Callable[[str], None] = lambda text: None) -> None:
    """Raise RunError if model.init or pseudo.run has other folds: it was trained on this run's validation rows."""
    init = {"model.init": Path(source)} if (source := cfg.model.params.get("init")) else {}
    for key, path in (init | pseudo_sources(cfg)).items():
        check_folds(key, path, table, note)


def check_folds(key: str, source: Path, table: pd.DataFrame, note: Callable[[str], None]) -> None:
    """Raise RunError if a run's folds differ from the table's, compared by names and contents of the images."""
    source_table = Run(source).table
    has_content = source_table["content"].any()
    columns = ["id", "fold", *(["content"] if has_content else [])]
    if not has_content:
        note(f"{key}: {source.name} was written by an older version, which identified images by name only")
    own, other = (t[t["part"] == "train"][columns].reset_index(drop=True) for t in (table, source_table))
    if not own.equals(other):
        where = f"{key}: {source} has other folds than this run and was trained on its validation rows"
        raise RunError(f"{where}. Set the same data, people, split, folds and seed as in its config.yaml")
