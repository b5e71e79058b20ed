"""Command-line overrides, checked against the config groups."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import ValueType

from maskcls.config.config_folders import config_dirs, list_options, resource_dir
from maskcls.config.override_grammar import accept_text, exact_line, parse
from maskcls.core.errors import ConfigError, nearest, suggestion_message, unknown_message

SWEEPS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
PLACEHOLDER = re.compile("<the run of [^>]*>")  # in the commands of ladders


class UnknownOptionError(ConfigError):
    """Unknown options; `valid` holds the other overrides."""

    def __init__(self, *messages: str, valid: list[str]) -> None:
        super().__init__(*messages)
        self.valid = valid


def to_hydra(arguments: list[str]) -> list[str]:
    """Return the command line in a form in which Hydra accepts any key, since `validate` checks the keys.

    Plugins that it names, or an experiment on it, are imported, since they register options. Raise UnknownOptionError
    for unknown options of config groups.
    """
    options, ladders = list_options(resource_dir("conf")), list_options(resource_dir("experiments"))
    ladders["sweeps"] = set()  # W&B sweeps, which are not options
    for folder in config_dirs(arguments):
        for group, names in list_options(folder).items():
            (options if group in options else ladders).setdefault(group, set()).update(names)
    if plugins := list(dict.fromkeys(named_plugins(arguments))):
        from maskcls.config.plugin_options import register_options  # imports torch

        for group, names in register_options(plugins).items():
            options.setdefault(group, set()).update(names)
    errors: list[str] = []
    result, valid = [], []
    sweeps = bool(SWEEPS & set(arguments))
    for argument in arguments:
        try:
            readable = argument if argument.startswith("-") else parse_override(argument, options | ladders, sweeps)
        except ConfigError as error:
            errors += error.messages
            continue
        key = readable.partition("=")[0]
        bare = re.fullmatch(r"[A-Za-z_][\w.]*", key) and key.split(".")[0] != "hydra"
        result.append(("+" if key in ladders else "++") + readable if bare and key not in options else readable)
        valid += [argument] if bare else []
    if errors:
        raise UnknownOptionError(*errors, valid=[] if sweeps else valid)
    return result


def parse_override(argument: str, options: Mapping[str, set[str]], sweeps: bool) -> str:
    """Return an override with its value in Hydra's grammar; raise ConfigError for bad syntax or unknown options."""
    key, sign, value = argument.partition("=")
    if place := PLACEHOLDER.search(argument):
        raise ConfigError(f"{argument}: put the directory of that rung's run, such as base-1a2b3c4d, for {place[0]}")
    if not sign and not argument.startswith("~"):
        raise ConfigError(f"expected key=value, got {argument!r}")
    if not key.isascii():
        raise ConfigError(f"cannot parse {argument!r}: keys may contain the letters a to z, digits, '_' and '.'")
    try:
        readable = accept_text(argument)
    except ConfigError:
        if key in options:
            raise ConfigError(unknown_option(key, value, options)) from None
        raise
    if re.match(r"[+~]*space\b", key):
        raise ConfigError(f"{argument}: only a search file sets space. Set its keys, such as optimizer.lr=1e-4,1e-3")
    if key == "logger" and value.startswith("["):
        raise ConfigError(f"{argument}: for several loggers, use logger=several logger.names={value}")
    override = parse(readable)
    if override is None or key.lstrip("+").split(".")[0] == "hydra":
        return readable
    if override.is_sweep_override() and not sweeps:
        hint = "" if key in options else f". {exact_line(argument)}"
        raise ConfigError(f"{argument}: several values are a sweep. Add -m to run it{hint}")
    if key in options and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        chosen: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        errors = [unknown_option(key, str(option), options) for option in chosen if str(option) not in options[key]]
        if errors:
            raise ConfigError(*errors)
    return readable


def unknown_option(group: str, name: str, options: Mapping[str, set[str]]) -> str:
    """Return the message for an unknown option, with the nearest option or the group that has it."""
    others = [other for other in options if name in options[other]]
    if others and not nearest(name, options[group]):
        return suggestion_message(group, name, f"{others[0]}={name}")
    return unknown_message(group, name, options[group])


def named_plugins(arguments: list[str]) -> Iterator[str]:
    """Yield the plugins that overrides set, and those that the YAML files of chosen experiments set."""
    folders = [resource_dir("experiments"), *config_dirs(arguments)]
    for argument in arguments:
        with contextlib.suppress(ConfigError):  # reported later
            override = parse(accept_text(argument))
            if override is None or override.is_delete() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
                continue
            values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
            if override.key_or_group == "plugins":
                yield from (str(name) for value in values if isinstance(value, list) for name in value)
            for folder, value in itertools.product(folders, values):
                yield from file_plugins(folder / override.key_or_group / f"{value}.yaml")


def file_plugins(file: Path) -> Iterator[str]:
    """Yield the plugins that a YAML file and its parents in the same folder set, if there is such a file."""
    files, seen = [file], set()
    while files:
        seen.add(file := files.pop())
        with contextlib.suppress(OSError, ValueError, yaml.YAMLError):  # Hydra reports a file that cannot be read
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            defaults, plugins = (content.get(key) for key in ("defaults", "plugins")) if content else ((), ())
            entries = [entry for entry in defaults or () if isinstance(entry, str)]
            parents = [(file.parent.parent if entry[0] == "/" else file.parent) / f"{entry.lstrip('/')}.yaml"
                       for entry in entries if entry]  # fmt: skip
            files += [parent for parent in parents if parent not in seen]
            yield from map(str, plugins or ())
