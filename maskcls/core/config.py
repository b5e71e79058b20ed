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
PATH_PARAMS = (
    "root",
    "file",
    "links",
)  # parameters of data and extra that say where files lie: not in a run's hash either


def check_name(name: str) -> str:
    """Return a name that can be part of a folder's name."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"{name!r} cannot name a folder: letters, digits, '.', '_' and '-' can")
    if len(name) > 200:
        raise ValueError(f"a name of {len(name)} letters is too long for a folder: 200 at most")
    return name


def check_folder(value: str) -> str:
    """Return a path at which a folder can stand."""
    standing = next((p for p in (Path(value), *Path(value).parents) if os.path.exists(p)), None)
    if standing is not None and not os.path.isdir(standing):
        raise ValueError(f"{value!r} cannot be a folder: {str(standing)!r} is a file")
    return value


@dataclass(frozen=True)
class Config:
    """An experiment: plain values, and a checked word of each conf group."""

    name: Annotated[str, AfterValidator(check_name)]
    seed: NonNegativeInt
    epochs: PositiveInt
    batch: PositiveInt  # photos in a step, over all ranks
    people: PositiveInt | None  # of the data's people this many, in its shares of gender × age; null: all
    exam: (
        Proportion | None
    )  # share of the people that no fold sees, scored as evaluation photos in place of the data's own
    folds: Annotated[int, Field(ge=2)]
    fold: NonNegativeInt | None  # one fold of the run; null: all of them
    select: Literal["best", "last"]  # the epoch whose weights predict
    precision: Literal["fp32", "bf16", "fp16"]
    average: PositiveInt  # epochs whose weights are averaged: the best ones, or the last ones
    clip: PositiveFloat | None  # largest norm of the gradient
    accumulate: PositiveInt  # batches whose gradients make one step
    ema: Proportion | None  # decay of a moving average of the weights, which then predicts
    layer_decay: UnitInterval | None  # factor of the learning rate from each layer to the one below it
    patience: PositiveInt | None  # epochs without a better F1 before a fold stops
    runs_dir: Annotated[str, AfterValidator(check_folder)]
    cache_dir: Annotated[str, AfterValidator(check_folder)]
    on_error: Literal["stop", "skip"]  # what happens to a photo that cannot be used
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
        """Return the config with every default filled in, as plain containers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: {"name": v.name, **v.params} if isinstance(v, Component) else v for key, v in values.items()}

    def hashed_items(self) -> dict[str, Any]:
        """Return what changes results: the content that names a run, but for other runs' data."""
        content = {key: value for key, value in self.to_dict().items() if key not in NOT_HASHED}
        for group in ("data", "extra"):
            content[group] = {key: value for key, value in content[group].items() if key not in PATH_PARAMS}
        return content
