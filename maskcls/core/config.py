"""Config: one checked experiment, as plain data."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from maskcls.core.registry import Component
from maskcls.core.schema import NonNegativeInt, PositiveFloat, PositiveInt, Proportion, UnitInterval

NOT_HASHED = ("name", "fold", "hardware", "logger", "runs_dir", "cache_dir", "on_error")  # not in a run's hash
PATH_PARAMS = ("root", "file", "links")  # location of files in data and extra: not in a run's hash either


def check_name(name: str) -> str:
    """Return the name; raise ValueError if it cannot be part of a folder's name."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got {name!r}")
    if len(name) > 200:
        raise ValueError(f"expected at most 200 characters, got {len(name)}")
    return name


def check_folder(value: str) -> str:
    """Return the path; raise ValueError if a folder cannot be created there."""
    existing = next((p for p in (Path(value), *Path(value).parents) if os.path.exists(p)), None)
    if existing is not None and not os.path.isdir(existing):
        raise ValueError(f"cannot create folder {value!r}: {str(existing)!r} is a file")
    return value


@dataclass(frozen=True)
class Config:
    """A checked experiment: plain values, and one component for each config group."""

    name: Annotated[str, AfterValidator(check_name)]
    seed: NonNegativeInt
    epochs: PositiveInt
    batch: PositiveInt  # images in a batch, over all ranks
    people: PositiveInt | None  # size of a subset of people, stratified by gender × age; null: all
    exam: Proportion | None  # fraction of people set aside as the evaluation set; no fold trains on them
    folds: Annotated[int, Field(ge=2)]
    fold: NonNegativeInt | None  # train only this fold; null: all folds
    select: Literal["best", "last"]  # the epoch whose weights are used for prediction
    precision: Literal["fp32", "bf16", "fp16"]
    average: PositiveInt  # number of best or last epochs whose weights are averaged
    clip: PositiveFloat | None  # maximum norm of the gradient
    accumulate: PositiveInt  # number of batches per optimizer step
    ema: Proportion | None  # EMA decay; evaluation uses the EMA weights
    layer_decay: UnitInterval | None  # learning-rate factor from each layer to the one below it
    patience: PositiveInt | None  # early stopping: epochs without a better F1
    runs_dir: Annotated[str, AfterValidator(check_folder)]
    cache_dir: Annotated[str, AfterValidator(check_folder)]
    on_error: Literal["stop", "skip"]  # handling of unreadable images
    plugins: list[str]
    data: Component
    extra: Component
    pseudo: Component
    labels: Component
    split: Component
    overlay: Component
    crop: Component
    augmentation: Component
    mixing: Component
    sampler: Component
    model: Component
    head: Component
    loss: Component
    optimizer: Component
    scheduler: Component
    tta: Component
    logger: Component
    hardware: Component

    def to_dict(self) -> dict[str, Any]:
        """Return the config with all defaults as plain containers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: {"name": v.name, **v.params} if isinstance(v, Component) else v for key, v in values.items()}

    def hashed_items(self) -> dict[str, Any]:
        """Return the values that change results and so determine a run's id."""
        content = {key: value for key, value in self.to_dict().items() if key not in NOT_HASHED}
        for group in ("data", "extra"):
            content[group] = {key: value for key, value in content[group].items() if key not in PATH_PARAMS}
        return content
