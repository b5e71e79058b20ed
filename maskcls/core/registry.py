"""Registry of a config group's components; a builder's signature is the schema of its config section."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from maskcls.core.errors import ConfigError, suggestion_message, unknown_message
from maskcls.core.schema import build_schema, option_fields, validate_params

Builder = Callable[..., Any]
Identity = Callable[..., dict[str, Any]]  # the parameters → what identifies its results, such as a file's content
FindKey = Callable[[str], str | None]


@dataclass(frozen=True)
class Component:
    """A checked option of a config group with its parameters."""

    group: str
    name: str
    params: Mapping[str, Any]
    builder: Builder
    identity: Identity | None = None  # reads what identifies its results in place of its parameters
    note: str = ""  # a remark for the user and the run's report

    @functools.cached_property
    def content(self) -> dict[str, Any] | None:
        """Name and what identifies the results, read once; None if the parameters do."""
        return None if self.identity is None else {"name": self.name, **self.identity(**self.params)}

    def build(self, *inputs: Any, **changed: Any) -> Any:
        """Call the builder with the run's inputs (the parameters before the star) and the options, some `changed`."""
        return self.builder(*inputs, **{**self.params, **changed})


class Registry:
    """The builders of one config group by name; `register` is a decorator.

    `optional` names the inputs that a builder may take after those of the group's first builder.
    """

    def __init__(self, group: str, optional: tuple[str, ...] = ()) -> None:
        self.group, self.optional = group, optional
        self.builders: dict[str, Builder] = {}
        self.identities: dict[str, Identity] = {}

    def register(self, build: Builder) -> Builder:
        """Register a function under its name without a trailing underscore; raise ConfigError for a used name."""
        if not inspect.isfunction(build):
            raise ConfigError(f"{self.group}: expected a function to register, got {build!r}")
        name = build.__name__.rstrip("_")
        if name in self.builders and not is_newer(build, self.builders[name]):
            other = f"{self.builders[name].__module__}.{self.builders[name].__name__}"
            raise ConfigError(
                f"{build.__module__}.{build.__name__}: {self.group}={name} is already registered by {other}. Rename one"
            )
        self.builders[name] = build
        return build

    def identity(self, build: Builder) -> Callable[[Identity], Identity]:
        """Return a decorator: what the function returns, such as a file's content, identifies a builder's runs."""

        def decorate(read: Identity) -> Identity:
            self.identities[build.__name__.rstrip("_")] = read
            return read

        return decorate

    def check(self, raw: Any, errors: list[str], find_key: FindKey = lambda path: None) -> Component | None:
        """Return the checked component of a config section; on errors add messages to `errors` and return None.

        `find_key` returns the key that an unknown parameter (`group.name`) means in another place.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            options = ", ".join(sorted(self.builders))
            errors.append(f"{self.group}: expected a section with a name, got {raw!r}. Choose one of {options}")
            return None
        params = {str(key): value for key, value in raw.items() if key != "name"}
        name = raw["name"]
        if name not in self.builders:
            errors.append(unknown_message(self.group, name, self.builders))
            return None
        build = self.builders[name]
        allowed = option_fields(build)
        for key in [key for key in params if key not in allowed]:
            if other := find_key(f"{self.group}.{key}"):
                errors.append(suggestion_message("parameter", key, other, f"{self.group}={name}"))
                del params[key]
        values = validate_params(build_schema(name, allowed), params, errors, self.group, name)
        return None if values is None else Component(self.group, name, values, build, self.identities.get(name))


def is_newer(build: Builder, other: Builder) -> bool:
    """Return True if a builder replaces the other: the same function of a module that was imported again."""
    same = (build.__module__, build.__qualname__) == (other.__module__, other.__qualname__)
    return same and (
        build.__globals__ is not other.__globals__ or build.__code__.co_firstlineno == other.__code__.co_firstlineno
    )


def positional_names(build: Builder) -> list[str]:
    """Return the names of a builder's positional parameters."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(build).parameters.values() if p.kind in kinds]
