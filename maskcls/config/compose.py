"""The command line: Hydra composes conf/, experiments/ and overrides; wrong words are sentences, not stack traces."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskcls.config import overrides
from maskcls.config.override_grammar import typed_form
from maskcls.config.overrides import UnknownOptionError, resource_dir
from maskcls.core.errors import ConfigError, explain_unresolved


class Experiments(SearchPathPlugin):
    """Lets Hydra find the ladders as groups (`hydra.searchpath` in a YAML would break glob sweeps)."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append experiments/ to the places where configs are looked for."""
        search_path.append("maskcls", f"file://{resource_dir('experiments')}")


@contextlib.contextmanager
def wrap_hydra_errors(line: Sequence[str] = (), typed: Sequence[str] = ()) -> Iterator[None]:
    """Make a sentence of what Hydra raises, about what was typed: for some overrides that is a bare assertion."""
    try:
        yield
    except Exception as error:
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if isinstance(error, OSError):  # of the machine: standard output, or the current folder
            raise
        if not isinstance(error, HydraException) and Path(hydra.__file__).parent not in place.parents:
            raise
        said = "" if isinstance(error, AssertionError) else typed_form(str(error), line, typed)
        raise ConfigError(said or "an override cannot be read: it is key=value") from error


def compose(*overrides: str, config: str = "config") -> DictConfig:
    """Return the config that a command line with these overrides would compose, from Python."""
    Plugins.instance().register(Experiments)
    words = parse_overrides(list(overrides), config)
    with (
        wrap_hydra_errors(words, overrides),
        hydra.initialize_config_dir(str(resource_dir("conf")), version_base="1.3"),
    ):
        whole = hydra.compose(config, words, return_hydra_config=True)
    HydraConfig.instance().set_config(whole)  # the run's name is made of Hydra's choices
    try:
        return strip_hydra(whole)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_unresolved(error)) from error


def strip_hydra(whole: DictConfig) -> DictConfig:
    """Return a composed config without Hydra's own part, its interpolations resolved."""
    content = {key: OmegaConf.to_container(whole[key], resolve=True) if OmegaConf.is_config(whole[key]) else whole[key]
             for key in whole if key != "hydra" and not OmegaConf.is_missing(whole, key)}  # fmt: skip
    return OmegaConf.create(content)


def parse_overrides(arguments: list[str], config: str = "config") -> list[str]:
    """Return Hydra's form of a command line; where an option is unknown, the config's other errors are reported too."""
    try:
        return overrides.to_hydra(arguments)
    except UnknownOptionError as error:
        raise ConfigError(*error.messages, *remaining_errors(error.valid, config)) from error


def remaining_errors(right: list[str], config: str) -> tuple[str, ...]:
    """Return the faults of an experiment's config besides those of its overrides; none where nothing composes."""
    if config != "config" or not right:
        return ()
    from maskcls.config.validation import validate

    try:
        validate(compose(*right))
    except ConfigError as error:
        return error.messages
    return ()
