"""Descriptions of keys, options and parameters: from the comments of conf/*.yaml and the builders' docstrings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

import yaml

from maskcls.config.config_folders import resource_dir
from maskcls.config.groups import GROUPS
from maskcls.config.key_lines import read_keys
from maskcls.core.registry import Builder, Component
from maskcls.core.schema import describe_type, option_descriptions, option_fields
from maskcls.core.task_options import DEFAULT_TASK

EACH = "weights"  # in docstrings, the parameter for each attribute


@dataclass(frozen=True)
class Key:
    """A key of a config: its default (`...` if it is required), type and description."""

    name: str
    default: Any
    type: str
    description: str


@dataclass(frozen=True)
class Option:
    """An option of a config group with its parameters."""

    group: str
    name: str
    description: str
    params: tuple[Key, ...]


def list_keys(kind: type[Any], config: str) -> list[Key]:
    """Return the plain keys of a config dataclass, as conf/<config>.yaml sets and describes them."""
    hints = get_type_hints(kind, include_extras=True)
    plain = {key: hint for key, hint in hints.items() if hint is not Component}
    lines = read_keys(config)
    return [Key(key, lines[key][0], describe_type(hint), lines[key][1]) for key, hint in plain.items()]


def list_group(group: str) -> Iterator[Option]:
    """Yield the options of a config group: one for each YAML file, then the options of plugins."""
    builders, files = GROUPS[group].builders, sorted((resource_dir("conf") / group).glob("*.yaml"))
    for file in files:
        text = file.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
        params = list_params(builders[values.pop("name")], values)
        yield Option(group, file.stem, text.splitlines()[0].lstrip("# "), params)
    for name in sorted(builders.keys() - {file.stem for file in files}):
        line = (builders[name].__doc__ or "").strip().partition("\n")[0]
        yield Option(group, name, line.rstrip("."), list_params(builders[name], {}))


def list_params(build: Builder, values: Mapping[str, Any]) -> tuple[Key, ...]:
    """Return the parameters of a builder, with the values of an option's YAML file as their defaults.

    A parameter for each attribute is listed for the default task.
    """
    lines = option_descriptions(build)
    fields = option_fields(build, DEFAULT_TASK.names).items()
    defaults = {name: values.get(name, default) for name, (_, default) in fields}
    return tuple(Key(name, ... if defaults[name] == "???" else defaults[name], describe_type(hint),
                     lines.get(name, lines.get(EACH, ""))) for name, (hint, _) in fields)  # fmt: skip
