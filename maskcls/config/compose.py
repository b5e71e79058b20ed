"""Composition of conf/, experiments/ and overrides by Hydra; errors become messages without stack traces."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskcls.config import overrides
from maskcls.config.config_folders import resource_dir
from maskcls.config.override_grammar import typed_form
from maskcls.config.overrides import UnknownOptionError
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, explain_unresolved


class Experiments(SearchPathPlugin):
    """Search path plugin for ladders as config groups (`hydra.searchpath` in a YAML file breaks glob sweeps)."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append experiments/ to the search path, and let the launchers of conf/ replace those of their plugins."""
        search_path.append("maskcls", f"file://{resource_dir('experiments')}")
        stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
        for file in (resource_dir("conf") / "hydra" / "launcher").glob("*.yaml"):
            stored.pop(file.name, None)  # else Hydra warns that two configs have one name


@contextlib.contextmanager
def wrap_hydra_errors(line: Sequence[str] = (), typed: Sequence[str] = ()) -> Iterator[None]:
    """Context manager that turns errors of Hydra into a ConfigError about the overrides as typed."""
    try:
        yield
    except Exception as error:
        file = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        is_from_hydra = Path(hydra.__file__).parent in file.parents and not isinstance(error, OSError)
        if not is_from_hydra and not isinstance(error, HydraException):  # a bug, or an error of the system
            raise
        message = "" if isinstance(error, AssertionError) else typed_form(str(error), line, typed)
        raise ConfigError(message or "cannot parse an override, expected key=value") from error


def compose(*overrides: str, config: str = "config") -> DictConfig:
    """Return the config composed from overrides as on the command line."""
    Plugins.instance().register(Experiments)
    line = parse_overrides(list(overrides), config)
    with (
        wrap_hydra_errors(line, overrides),
        hydra.initialize_config_dir(str(resource_dir("conf")), version_base="1.3"),
    ):
        cfg = hydra.compose(config, line, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # the run's name contains Hydra's choices
    try:
        return strip_hydra(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_unresolved(error)) from error


def strip_hydra(cfg: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's section, with resolved interpolations."""
    content = {key: OmegaConf.to_container(cfg[key], resolve=True) if OmegaConf.is_config(cfg[key]) else cfg[key]
             for key in cfg if key != "hydra" and not OmegaConf.is_missing(cfg, key)}  # fmt: skip
    return OmegaConf.create(content)


def parse_overrides(arguments: list[str], config: str = "config") -> list[str]:
    """Return the overrides in Hydra's form; an unknown option is reported with all other errors of the config."""
    try:
        return overrides.to_hydra(arguments)
    except UnknownOptionError as error:
        raise ConfigError(*error.messages, *remaining_errors(error.valid, config)) from error


def remaining_errors(valid: list[str], config: str) -> tuple[str, ...]:
    """Return the errors of the config that the valid overrides compose."""
    if config != "config" or not valid:
        return ()
    from maskcls.config.validation import check_config

    try:
        check_config(compose(*valid), Config)
    except ConfigError as error:
        return error.messages
    return ()
