"""Words and what they mean: a builder's signature is the schema of its part of the config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maskcls.core.errors import ConfigError, suggestion, unknown_message
from maskcls.core.schema import build_schema, option_fields, validate_params

Builder = Callable[..., Any]
Elsewhere = Callable[[str], str | None]


@dataclass(frozen=True)
class Component:
    """A checked word of a conf group: call it with what the run hands over and it builds its part."""

    group: str
    name: str
    params: Mapping[str, Any]
    builder: Callable[..., Any]

    def build(self, *handed: Any) -> Any:
        """Build the part from what the run hands over (the parameters before the star)."""
        return self.builder(*handed, **self.params)


class Registry:
    """The words of one conf group; used as a decorator, it registers a builder under its own name."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.builders: dict[str, Builder] = {}

    def register(self, build: Builder) -> Builder:
        if not inspect.isfunction(build):
            raise ConfigError(f"a {self.group} is registered by a function with a name, got {build!r}")
        name = build.__name__.rstrip("_")
        if name in self.builders and not is_newer(build, self.builders[name]):
            place = f"{self.builders[name].__module__}.{self.builders[name].__name__}"
            raise ConfigError(
                f"{build.__module__}.{build.__name__}: {self.group}={name} is {place} already. Rename one"
            )
        self.builders[name] = build
        return build

    def check(self, raw: Any, faults: list[str], elsewhere: Elsewhere = lambda path: None) -> Component | None:
        """Return the word that a config section asks for, adding a sentence to `faults` for each fault.

        `elsewhere` returns where else an unknown parameter (`group.name`) is known.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            faults.append(f"{self.group}: {raw!r} names no word{suggestion('', self.builders)}")
            return None
        params = {str(key): value for key, value in raw.items() if key != "name"}
        name = raw["name"]
        if name not in self.builders:
            faults.append(unknown_message(self.group, name, self.builders))
            return None
        build = self.builders[name]
        own = option_fields(build)
        for key in [key for key in params if key not in own]:
            if place := elsewhere(f"{self.group}.{key}"):
                faults.append(f"unknown parameter '{self.group}.{key}' of {self.group}={name}, did you mean {place}?")
                del params[key]
        values = validate_params(build_schema(name, own), params, faults, self.group, name)
        return None if values is None else Component(self.group, name, values, build)


def is_newer(build: Builder, other: Builder) -> bool:
    """Return True if a builder is another one anew, of a module that was imported again."""
    same = (build.__module__, build.__qualname__) == (other.__module__, other.__qualname__)
    return same and (
        build.__globals__ is not other.__globals__ or build.__code__.co_firstlineno == other.__code__.co_firstlineno
    )
