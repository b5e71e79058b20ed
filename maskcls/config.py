"""The checked config: every word and value of an experiment, all faults reported at once."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field

from maskcls.errors import ConfigError, unknown
from maskcls.parts import (
    augmentation,
    crop,
    data,
    hardware,
    head,
    logger,
    loss,
    model,
    optimizer,
    sampler,
    scheduler,
    split,
)
from maskcls.registry import Count, Positive, Whole, Word, schema, validated

MODULES = (data, split, crop, augmentation, sampler, model, head, loss, optimizer, scheduler, logger, hardware)
GROUPS = {module.word.group: module.word for module in MODULES}
OUTSIDE = ("name", "fold", "hardware", "logger", "runs_dir", "cache_dir")  # not in a run's hash
PLACES = ("root", "file")  # parameters of data that say where files lie: not in a run's hash either


def plain_name(name: str) -> str:
    """Return a name that can be part of a folder's name."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"{name!r} cannot name a folder: letters, digits, '.', '_' and '-' can")
    return name


@dataclass(frozen=True)
class Config:
    """An experiment: plain values, and a checked word of each conf group."""

    name: Annotated[str, AfterValidator(plain_name)]
    seed: Whole
    epochs: Count
    batch: Count  # photos in a step, over all ranks
    folds: Annotated[int, Field(ge=2)]
    fold: Whole | None  # one fold of the run; null: all of them
    select: Literal["best", "last"]  # the epoch whose weights predict
    precision: Literal["fp32", "bf16", "fp16"]
    clip: Positive | None  # largest norm of the gradient
    patience: Count | None  # epochs without a better F1 before a fold stops
    runs_dir: str
    cache_dir: str
    plugins: list[str]
    data: Word
    split: Word
    crop: Word
    augmentation: Word
    sampler: Word
    model: Word
    head: Word
    loss: Word
    optimizer: Word
    scheduler: Word
    logger: Word
    hardware: Word

    def filled(self) -> dict[str, Any]:
        """Return the config with every default filled in, as plain containers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: {"name": v.name, **v.params} if isinstance(v, Word) else v for key, v in values.items()}

    def science(self) -> dict[str, Any]:
        """Return what changes results: the content that names a run."""
        content = {key: value for key, value in self.filled().items() if key not in OUTSIDE}
        content["data"] = {key: value for key, value in content["data"].items() if key not in PLACES}
        return content


def checked(raw: DictConfig | Mapping[str, Any]) -> Config:
    """Return the checked config; a ConfigError holds a sentence for each of its faults."""
    values = resolved(raw)
    plug(values.get("plugins"))
    faults: list[str] = []
    hints = get_type_hints(Config, include_extras=True)
    plain = {key: (hint, ...) for key, hint in hints.items() if key not in GROUPS}
    given = {key: value for key, value in values.items() if key not in GROUPS}
    known = validated(schema("config", plain), {k: v for k, v in given.items() if k in plain}, faults)
    faults += [unknown("key", key, hints) for key in given if key not in plain]
    words = {group: registry.check(values.get(group), faults) for group, registry in GROUPS.items()}
    if known and known["fold"] is not None and known["fold"] >= known["folds"]:
        faults.append(f"fold: {known['fold']} is none of the {known['folds']} folds (they count from 0)")
    if faults:
        raise ConfigError(*faults)
    return Config(**(known or {}), **words)


def resolved(raw: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain containers, with its interpolations resolved."""
    try:
        container: Any = OmegaConf.to_container(raw, resolve=True) if isinstance(raw, DictConfig) else raw
    except OmegaConfBaseException as error:
        raise ConfigError(f"config: {str(error).splitlines()[0]}") from error
    return {str(key): value for key, value in container.items()}


def plug(names: Any) -> None:
    """Import the user's own modules, whose builders register themselves."""
    for name in names if isinstance(names, list) else []:
        try:
            importlib.import_module(str(name))
        except ImportError as error:
            raise ConfigError(f"plugins: {name!r} cannot be imported: {error}") from error
