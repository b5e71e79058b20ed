"""Registry of a config group's components; a builder's signature is the schema of its config section."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from maskcls.core.errors import ConfigError, suggestion_message, unknown_message
from maskcls.core.schema import build_schema, option_fields, validate_params
from maskcls.core.task import Task

Builder = Callable[..., Any]
BuilderT = TypeVar("BuilderT", bound=Callable[..., Any])
Identity = Callable[..., dict[str, Any]]  # the parameters → what identifies its results, such as a file's content
TaskCheck = Callable[..., None]  # the task and the parameters → ConfigError if they do not fit
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
    task: Task | None = field(default=None, compare=False)  # for a builder, an identity and a task check with a `task`
    task_check: TaskCheck | None = field(default=None, compare=False)

    @functools.cached_property
    def content(self) -> dict[str, Any] | None:
        """Name and what identifies the results, read once; None if the parameters do."""
        return None if self.identity is None else {"name": self.name, **self.call(self.identity)}

    def build(self, *inputs: Any, **changed: Any) -> Any:
        """Call the builder with the run's inputs (the parameters before the star) and the options, some `changed`.

        A builder with an input `task` gets the task, unless the inputs have it.
        """
        return self.call(self.builder, *inputs, **changed)

    def call(self, function: Callable[..., Any], *inputs: Any, **changed: Any) -> Any:
        """Call a function with inputs and the options, and with the task if it has a parameter `task`."""
        params: dict[str, Any] = {**self.params, **changed}
        names = input_names(function)
        if "task" in names[len(inputs) :]:
            if self.task is None:
                raise ConfigError(f"{self.group}={self.name} needs a task, got none")
            params["task"] = self.task
        return function(*inputs, **params)

    def check_task(self) -> None:
        """Raise ConfigError if the option or its parameters do not fit the task."""
        if self.task_check is not None:
            self.call(self.task_check)


class Registry:
    """The builders of one config group by name; `register` is a decorator.

    `optional` names the inputs that a builder may take after those of the group's first builder.
    """

    def __init__(self, group: str, optional: tuple[str, ...] = ()) -> None:
        self.group, self.optional = group, optional
        self.builders: dict[str, Builder] = {}
        self.identities: dict[str, Identity] = {}
        self.task_checks: dict[str, TaskCheck] = {}

    def register(self, build: BuilderT) -> BuilderT:
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

    def task_check(self, *builds: Builder) -> Callable[[TaskCheck], TaskCheck]:
        """Return a decorator: called with `task` and the parameters, a function refuses what does not fit the task."""

        def decorate(check: TaskCheck) -> TaskCheck:
            self.task_checks |= dict.fromkeys((build.__name__.rstrip("_") for build in builds), check)
            return check

        return decorate

    def check(
        self, raw: Any, errors: list[str], find_key: FindKey = lambda path: None, task: Task | None = None
    ) -> Component | None:
        """Return the checked component of a config section; on errors add messages to `errors` and return None.

        `find_key` returns the key that an unknown parameter (`group.name`) means in another place. The names of the
        attributes of `task` are parameters of a builder with `**`.
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
        allowed = option_fields(build, task.names if task else ())
        if taken := [key for key in option_fields(build) if takes_any(build) and task and key in task.names]:
            what = f"{self.group}={name} has an option {taken[0]} of its own"
            errors.append(f"task.attributes: {what}. Choose another name for attribute '{taken[0]}'")
            return None
        if task is None and takes_any(build):  # the task has errors, so its attributes are not known
            params = {key: value for key, value in params.items() if key in allowed}
        for key in [key for key in params if key not in allowed]:
            if other := find_key(f"{self.group}.{key}"):
                errors.append(suggestion_message("parameter", key, other, f"{self.group}={name}"))
                del params[key]
        values = validate_params(build_schema(name, allowed), params, errors, self.group, name)
        if values is None:
            return None
        return Component(
            self.group, name, values, build, self.identities.get(name), "", task, self.task_checks.get(name)
        )


def is_newer(build: Builder, other: Builder) -> bool:
    """Return True if a builder replaces the other: the same function of a module that was imported again."""
    same = (build.__module__, build.__qualname__) == (other.__module__, other.__qualname__)
    return same and (
        build.__globals__ is not other.__globals__ or build.__code__.co_firstlineno == other.__code__.co_firstlineno
    )


def input_names(build: Builder) -> list[str]:
    """Return the names of a function's positional parameters."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(build).parameters.values() if p.kind in kinds]


def takes_any(build: Builder) -> bool:
    """Return True if a builder has a parameter for each attribute of the task, `**weights`."""
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(build).parameters.values())


def positional_names(build: Builder) -> list[str]:
    """Return the names of a builder's inputs that the run gives, all but the task."""
    return [name for name in input_names(build) if name != "task"]
