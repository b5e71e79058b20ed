"""The space of a search: its parameters in the order in which they are chosen, checked against the config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from maskcls.config.compose import compose
from maskcls.config.config_folders import resource_dir
from maskcls.config.groups import GROUPS
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.core.schema import option_fields
from maskcls.search.params import Param, override_text, read_params

Values = list[tuple[Param, Any]]  # the chosen values of the parameters that are set


@dataclass(frozen=True)
class Space:
    """Parameters of a search, options of config groups first."""

    params: tuple[Param, ...]
    fixed: Mapping[str, Any]  # the base config's option of each group, and its values by dotted key

    @classmethod
    def of(cls, entries: Mapping[str, Any], extra: Mapping[str, Param], fixed: Mapping[str, Any]) -> Space:
        """Return the space of a file's entries and of the command line's parameters, which replace those of their key.

        Raise one ConfigError with all errors.
        """
        errors: list[str] = []
        params: list[Param] = []
        for key, entry in {**entries, **extra}.items():
            try:
                params += [entry] if isinstance(entry, Param) else read_params(str(key), entry)
            except ConfigError as error:
                errors += error.messages
        params.sort(key=lambda param: "." in param.key)
        errors += list(misplaced_conditions(params, fixed))
        if errors or not params:
            raise ConfigError(*(errors or ["the search has no parameters. Set search=<file>, or key=value1,value2"]))
        return cls(tuple(params), fixed)

    def choose(self, pick: Callable[[Param], Any]) -> Values:
        """Return a value for each parameter whose conditions hold, in order."""
        chosen: Values = []
        for param in self.params:
            if self.is_active(param, chosen):
                chosen.append((param, pick(param)))
        return chosen

    def is_active(self, param: Param, chosen: Values) -> bool:
        """Return True if the conditions of a parameter hold, and the chosen option of its group has it."""
        values = {**self.fixed, **{other.key: value for other, value in chosen}}
        group, _, name = param.key.partition(".")
        is_searched = name and any(other.key == group for other in self.params)
        return all(override_text(values.get(key)) == text for key, text in param.when) and not (
            is_searched and name not in option_parameters(group, str(values.get(group)))
        )

    def grid(self) -> list[Values]:
        """Return all combinations; raise ConfigError if a range is continuous."""
        combinations: list[Values] = [[]]
        for param in self.params:
            combinations = [extended for chosen in combinations for extended in self.extend(param, chosen)]
        return combinations

    def extend(self, param: Param, chosen: Values) -> list[Values]:
        """Return a combination with each value of a parameter, or unchanged if its conditions do not hold."""
        return [[*chosen, (param, value)] for value in param.grid()] if self.is_active(param, chosen) else [chosen]

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain data."""
        return {param.label: param.to_dict() for param in self.params}

    def check(self, base: tuple[str, ...]) -> None:
        """Raise one ConfigError with the errors of each choice and of both ends of each range, each tried alone."""
        errors: dict[str, None] = {}
        for param in self.params:
            if (context := self.context(param)) is None:
                errors[self.explain_inactive(param)] = None
                continue
            for value in param.ends:
                try:
                    self.compose_with(base, {**context, param.label: value})
                except ConfigError as error:
                    errors |= dict.fromkeys(error.messages)
        if errors:
            raise ConfigError(*errors)

    def compose_with(self, base: tuple[str, ...], values: Mapping[str, Any]) -> Config:
        """Return the validated config of some values by label; the other parameters have their first value."""
        return validate(compose(*base, *to_words(self.choose(lambda param: values.get(param.label, param.first)))))

    def context(self, param: Param) -> dict[str, Any] | None:
        """Return values of the parameters before one under which that one is set, None if there are none."""
        options: list[Values] = [[]]
        needed = {key for key, _ in param.when} | {param.key.partition(".")[0]}
        for other in self.params[: self.params.index(param)]:
            values = other.ends if other.key in needed else (other.first,)
            options = [[*chosen, (other, value)] if self.is_active(other, chosen) else chosen
                       for chosen in options for value in values]  # fmt: skip
        found = next((chosen for chosen in options if self.is_active(param, chosen)), None)
        return None if found is None else {other.label: value for other, value in found}

    def explain_inactive(self, param: Param) -> str:
        """Return the message for a parameter that is never set."""
        group, _, name = param.key.partition(".")
        options = [str(value) for other in self.params if other.key == group for value in other.choices]
        known = set().union(*(option_parameters(group, option) for option in options))
        if name and options and name not in known:
            return f"space.{param.key}: {unknown_message('parameter', name, known, f'{group}={chr(44).join(options)}')}"
        return f"space.{param.label}: its condition never holds"


def to_words(values: Values) -> list[str]:
    """Return chosen values as overrides."""
    return [f"{param.key}={override_text(value)}" for param, value in values]


def misplaced_conditions(params: list[Param], fixed: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for each condition on an unknown key, or on a parameter that is chosen later."""
    for i, param in enumerate(params):
        for key, _ in param.when:
            later = any(other.key == key for other in params[i:])
            if later and not any(other.key == key for other in params[:i]):
                yield f"space.{param.key}.when: {key} must come before {param.key}"
            elif not later and key not in fixed and not any(other.key == key for other in params):
                yield f"space.{param.key}.when: {unknown_message('key', key, fixed)}"


def option_parameters(group: str, option: str) -> set[str]:
    """Return the parameters of an option of a config group, of which conf/<group>/<option>.yaml names the builder."""
    file = resource_dir("conf") / group / f"{option}.yaml"
    name = yaml.safe_load(file.read_text(encoding="utf-8"))["name"] if file.is_file() else option
    build = GROUPS[group].builders.get(name) if group in GROUPS else None
    return set(option_fields(build)) if build else set()
