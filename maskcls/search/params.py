"""Parameters of a search space: choices and ranges, and their conditions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep

from maskcls.config.override_grammar import accept_text, parse
from maskcls.core.errors import ConfigError, unknown_message

ENTRY_KEYS = ("choices", "low", "high", "step", "log", "when")
DIGITS = 4  # significant digits of a value from a continuous range, so that commands stay readable
GRAMMAR = "Use choices, {low: …, high: …}, or Hydra's 1,2,5, interval(a,b), tag(log,interval(a,b)), range(a,b)"


@dataclass(frozen=True)
class Param:
    """A parameter of a search: choices, or a range of integers or floats; it is set only under its conditions."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    when: tuple[tuple[str, str], ...] = ()  # (key, value) pairs that must all hold

    @property
    def label(self) -> str:
        """The name in tables: the key, with its conditions if it has any."""
        return self.key + (f" ({', '.join(f'{key}={value}' for key, value in self.when)})" if self.when else "")

    @property
    def first(self) -> Any:
        """The first choice, or the lowest value."""
        return self.choices[0] if self.choices else self.low

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check: all choices, or both ends of the range."""
        return self.choices or (self.low, self.high)

    @property
    def is_integer(self) -> bool:
        """True for a range of integers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    def suggest(self, trial: Any) -> Any:
        """Return the value that an Optuna trial has or gets."""
        if self.choices:
            return trial.suggest_categorical(self.label, self.choices)
        if self.is_integer:
            return trial.suggest_int(self.label, self.low, self.high, step=self.step or 1, log=self.log)
        value = trial.suggest_float(self.label, self.low, self.high, step=self.step, log=self.log)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def grid(self) -> list[Any]:
        """Return all values; raise ConfigError for a continuous range."""
        if self.choices:
            return list(self.choices)
        if self.log or (self.step is None and not self.is_integer):
            raise ConfigError(f"{self.label}: a grid needs choices, or a range with a step. Use method=tpe or random")
        step = self.step or 1
        count = int((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + i * step for i in range(count)]
        return values if self.is_integer else [float(f"{value:.{DIGITS}g}") for value in values]

    def to_dict(self) -> dict[str, Any]:
        """Return the parameter as plain data."""
        bounds: dict[str, Any] = {"low": self.low, "high": self.high, "step": self.step, "log": self.log}
        when = {"when": [f"{key}={value}" for key, value in self.when]} if self.when else {}
        return ({"choices": list(self.choices)} if self.choices else bounds) | when


def override_text(value: Any) -> str:
    """Return a value as the command line writes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def read_params(key: str, entry: Any) -> list[Param]:
    """Return the parameters of an entry of a space: one, or several with a condition each; ConfigError for others."""
    if isinstance(entry, str):
        return [parse_sweep(f"{key}={entry}")]
    if isinstance(entry, list) and entry and all(isinstance(item, Mapping) for item in entry):
        return [read_mapping(key, item) for item in entry]
    if isinstance(entry, list):
        return [check(Param(key, read_choices(key, entry)))]
    if isinstance(entry, Mapping):
        return [read_mapping(key, entry)]
    raise ConfigError(f"space.{key}: expected several values, got {entry!r}. {GRAMMAR}")


def read_mapping(key: str, entry: Mapping[str, Any]) -> Param:
    """Return the parameter of a mapping with choices, or low and high (step, log), and conditions (when)."""
    if unknown := [name for name in entry if name not in ENTRY_KEYS]:
        raise ConfigError(f"space.{key}: {unknown_message('key', str(unknown[0]), ENTRY_KEYS)}")
    when = read_conditions(key, entry.get("when", []))
    if ("choices" in entry) == ("low" in entry or "high" in entry):
        raise ConfigError(f"space.{key}: expected either choices, or low and high, got {', '.join(entry) or 'nothing'}")
    if "choices" in entry:
        return check(Param(key, read_choices(key, entry["choices"]), when=when))
    numbers = {name: entry.get(name) for name in ("low", "high", "step")}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float | (type(None) if name == "step" else int)):
            raise ConfigError(f"space.{key}.{name}: expected a number, got {value!r}")
    if not isinstance(log := entry.get("log", False), bool):
        raise ConfigError(f"space.{key}.log: expected true or false, got {log!r}")
    return check(Param(key, log=log, when=when, **numbers))  # type: ignore[arg-type]


def read_choices(key: str, values: Any) -> tuple[Any, ...]:
    """Return the choices of a list; lists among them become the text of an override."""
    if not isinstance(values, list) or not values or any(isinstance(value, Mapping) for value in values):
        raise ConfigError(f"space.{key}: expected a list of choices, got {values!r}")
    return tuple(json.dumps(value) if isinstance(value, list) else value for value in values)


def read_conditions(key: str, when: Any) -> tuple[tuple[str, str], ...]:
    """Return the conditions `key=value` of one text or of a list as pairs."""
    pairs = [str(text).partition("=") for text in (when if isinstance(when, list) else [when])]
    if bad := [first for first, sign, value in pairs if not sign or not value]:
        raise ConfigError(f"space.{key}.when: expected key=value, such as loss=focal, got {bad[0]!r}")
    return tuple((first, value) for first, _, value in pairs)


def parse_sweep(word: str) -> Param:
    """Return the parameter of an override in Hydra's grammar of sweeps, such as lr=tag(log,interval(1e-4,1e-2))."""
    key, _, text = word.partition("=")
    override = parse(accept_text(word))
    sweep = override._value if override and override.is_sweep_override() else None
    if isinstance(sweep, ChoiceSweep):
        return check(Param(key, read_choices(key, list(override.sweep_iterator()))))  # type: ignore[union-attr]
    log = "log" in getattr(sweep, "tags", ())
    if isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None:
        return check(Param(key, low=sweep.start, high=sweep.end, log=log))
    if isinstance(sweep, RangeSweep) and sweep.start is not None and sweep.stop is not None:
        last = sweep.stop - sweep.step if isinstance(sweep.step, int) else sweep.stop  # the end is not included
        return check(Param(key, low=sweep.start, high=last, step=None if sweep.step == 1 else sweep.step, log=log))
    raise ConfigError(f"space.{key}: expected several values, got {text!r}. {GRAMMAR}")


def check(param: Param) -> Param:
    """Return the parameter; raise ConfigError for an empty or impossible range."""
    if not param.choices:
        if not param.low < param.high or not math.isfinite(param.high - param.low):
            raise ConfigError(f"space.{param.key}: low must be below high, got {param.low} and {param.high}")
        if param.log and param.low <= 0:
            raise ConfigError(f"space.{param.key}: a log range must be above 0, got low {param.low}")
        if param.step is not None and (param.step <= 0 or param.log):
            what = "has no step" if param.log else f"needs a step above 0, got {param.step}"
            raise ConfigError(f"space.{param.key}: a {'log range' if param.log else 'range'} {what}")
    return param
