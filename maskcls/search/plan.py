"""Planned search: its base config, its space and its identity, checked before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from maskcls.components.loggers.base import flatten
from maskcls.config.compose import compose
from maskcls.config.override_grammar import accept_text, parse
from maskcls.config.validation import fill_defaults, to_container
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, RunError, nearest, unknown_message
from maskcls.search.params import parse_sweep
from maskcls.search.space import Space
from maskcls.storage.run import run_content
from maskcls.system.files import content_hash
from maskcls.system.safe_reading import read_json

Method = Literal["tpe", "random", "grid"]


@dataclass(frozen=True)
class TuneConfig:
    """Options of a search."""

    search: str | None
    n_trials: int
    method: Method
    search_seed: int
    prune: bool
    storage: str | None
    retry: bool
    overrides: tuple[str, ...]  # of every trial; those with several values belong to the space


@dataclass(frozen=True)
class Search:
    """A checked search: the overrides of all trials, the space, and the folder that its processes share."""

    options: TuneConfig
    base: tuple[str, ...]
    space: Space
    example: Config  # the config with the first value of each parameter
    content: Mapping[str, Any]  # what identifies the search

    @property
    def id(self) -> str:
        """The name of the folder and of the Optuna study."""
        return f"{self.example.name}-{content_hash(self.content)}"

    @property
    def folder(self) -> Path:
        """The folder of the search, runs_dir/studies/<name>-<hash>."""
        return self.studies_dir / self.id

    @property
    def studies_dir(self) -> Path:
        """The folder of all searches."""
        return Path(self.example.runs_dir) / "studies"

    @property
    def n_trials(self) -> int:
        """Number of trials; a grid has at most one for each combination."""
        grid = len(self.space.grid()) if self.options.method == "grid" else self.options.n_trials
        return min(self.options.n_trials, grid)


def plan_search(options: TuneConfig) -> Search:
    """Return the checked search of a command line; raise one ConfigError with all errors."""
    check_options(options)
    swept = [word for word in options.overrides if is_sweep(word)]
    words = tuple(word for word in options.overrides if word not in swept)
    base = ((f"search={options.search}",) if options.search else ()) + words
    raw = compose(*base)
    extra = {param.key: param for param in map(parse_sweep, swept)}
    entries = {key: value for key, value in read_entries(raw).items() if key not in typed_keys(words)}
    space = Space.of(entries, extra, fixed_values(raw))
    if options.method == "grid":
        space.grid()
    example = space.compose_with(base, {})
    searched = {param.key for param in space.params}
    settings = {key: value for key, value in flatten(run_content(example)) if key not in searched}
    how = {"method": options.method, "search_seed": options.search_seed, "prune": options.prune}
    content = {"space": space.to_dict(), "settings": settings, **how}
    search = Search(options, base, space, example, content)
    if not (search.folder / "search.json").exists():  # else it was checked before
        space.check(base)
    return search


def check_options(options: TuneConfig) -> None:
    """Raise ConfigError for a missing package, a torchrun process, and an option that a trial cannot have."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ConfigError("maskcls tune needs optuna. pip install 'maskcls[sweep]'") from error
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError("a search cannot run under torchrun. Start maskcls tune in several terminals to share it")
    keys = {word.partition("=")[0].lstrip("+~") for word in options.overrides}
    known = Config.__dataclass_fields__
    errors = [unknown_message("key", key, known) for key in sorted(keys)
              if key.split(".")[0] not in known and nearest(key, known) and "." not in key]  # fmt: skip
    errors += ["fold: a trial trains all folds. Remove fold"] if "fold" in keys else []
    if options.storage and not re.match(r"[\w+]+://", options.storage):
        errors.append(f"storage: expected a URL such as postgresql://host/name, or null, got {options.storage!r}")
    if errors:
        raise ConfigError(*errors)


def is_sweep(word: str) -> bool:
    """Return True for an override with several values."""
    override = parse(accept_text(word))
    return override is not None and override.is_sweep_override()


def typed_keys(words: Sequence[str]) -> set[str]:
    """Return the keys that the command line fixes: they replace a parameter of the search file."""
    return {word.partition("=")[0].lstrip("+") for word in words}


def read_entries(raw: DictConfig) -> dict[str, Any]:
    """Return the entries of the space of a composed config: its section space, else the grid of Hydra's sweeper."""
    space: Any = OmegaConf.to_container(raw.space, resolve=True) if "space" in raw.keys() else None  # noqa: SIM118
    grid = HydraConfig.get().sweeper.get("params") or {}
    if space is not None and not isinstance(space, Mapping):
        raise ConfigError(f"space: expected a mapping of keys to values, got {space!r}")
    return dict(space) if space is not None else {str(key).lstrip("+"): str(value) for key, value in grid.items()}


def fixed_values(raw: DictConfig) -> dict[str, Any]:
    """Return the chosen options of a composed config by group, and its other values by dotted key."""
    choices = HydraConfig.get().runtime.choices
    values = dict(flatten(fill_defaults(to_container(raw))))
    return values | {str(group): str(option) for group, option in choices.items() if option and "/" not in str(group)}


def describe_changes(search: Search) -> str | None:
    """Return what differs from the latest search of the same name, None if this one is known or the first."""
    found = sorted(search.studies_dir.glob("*/search.json"), key=lambda path: path.stat().st_mtime)
    others = [path for path in found if path.parent.name.rpartition("-")[0] == search.example.name]
    if not others or (search.folder / "search.json").exists():
        return None
    try:
        before = dict(flatten(read_json(others[-1])))
    except RunError:
        return None
    now = dict(flatten(search.content))
    changes = [f"{key} {before.get(key, '–')} → {now.get(key, '–')}" for key in {**before, **now}
               if before.get(key) != now.get(key)]  # fmt: skip
    return f"differs from {others[-1].parent.name}: {'; '.join(changes)}. It is a new search; equal runs are reused"

