"""Config: one checked experiment, as plain data."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from maskcls.core.registry import Word
from maskcls.core.schema import Count, Fraction, Positive, Share, Whole

OUTSIDE = ("name", "fold", "hardware", "logger", "runs_dir", "cache_dir", "on_error")  # not in a run's hash
PLACES = ("root", "file", "links")  # parameters of data and extra that say where files lie: not in a run's hash either


def plain_name(name: str) -> str:
    """Return a name that can be part of a folder's name."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"{name!r} cannot name a folder: letters, digits, '.', '_' and '-' can")
    if len(name) > 200:
        raise ValueError(f"a name of {len(name)} letters is too long for a folder: 200 at most")
    return name


def place(value: str) -> str:
    """Return a path at which a folder can stand."""
    standing = next((p for p in (Path(value), *Path(value).parents) if os.path.exists(p)), None)
    if standing is not None and not os.path.isdir(standing):
        raise ValueError(f"{value!r} cannot be a folder: {str(standing)!r} is a file")
    return value


@dataclass(frozen=True)
class Config:
    """An experiment: plain values, and a checked word of each conf group."""

    name: Annotated[str, AfterValidator(plain_name)]
    seed: Whole
    epochs: Count
    batch: Count  # photos in a step, over all ranks
    people: Count | None  # of the data's people this many, in its shares of gender × age; null: all
    exam: Share | None  # share of the people that no fold sees, scored as evaluation photos in place of the data's own
    folds: Annotated[int, Field(ge=2)]
    fold: Whole | None  # one fold of the run; null: all of them
    select: Literal["best", "last"]  # the epoch whose weights predict
    precision: Literal["fp32", "bf16", "fp16"]
    average: Count  # epochs whose weights are averaged: the best ones, or the last ones
    clip: Positive | None  # largest norm of the gradient
    accumulate: Count  # batches whose gradients make one step
    ema: Share | None  # decay of a moving average of the weights, which then predicts
    layer_decay: Fraction | None  # factor of the learning rate from each layer to the one below it
    patience: Count | None  # epochs without a better F1 before a fold stops
    runs_dir: Annotated[str, AfterValidator(place)]
    cache_dir: Annotated[str, AfterValidator(place)]
    on_error: Literal["stop", "skip"]  # what happens to a photo that cannot be used
    plugins: list[str]
    data: Word
    extra: Word
    pseudo: Word
    labels: Word
    split: Word
    overlay: Word
    crop: Word
    augmentation: Word
    mixing: Word
    sampler: Word
    model: Word
    head: Word
    loss: Word
    optimizer: Word
    scheduler: Word
    tta: Word
    logger: Word
    hardware: Word

    def filled(self) -> dict[str, Any]:
        """Return the config with every default filled in, as plain containers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: {"name": v.name, **v.params} if isinstance(v, Word) else v for key, v in values.items()}

    def science(self) -> dict[str, Any]:
        """Return what changes results: the content that names a run, but for other runs' data."""
        content = {key: value for key, value in self.filled().items() if key not in OUTSIDE}
        for group in ("data", "extra"):
            content[group] = {key: value for key, value in content[group].items() if key not in PLACES}
        return content
