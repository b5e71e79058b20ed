"""The command line before Hydra reads it: flags anywhere, letters of any script, and the line to type for a value."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from maskcls.errors import ConfigError, unknown

KEYED = re.compile(r"(\+{0,2}[A-Za-z_][\w./@-]*=)(.*)", re.DOTALL | re.ASCII)  # key= with its prefix, and a value
SYNTAX = set(",[](){}=\"'\\")  # what means something in a value of Hydra
RUNS = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\$\{[^}]*\}|[\s,\[\](){}:=]+)""")


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags and the overrides of a command line, whichever order they were typed in."""
    parser = get_args_parser()
    parser.error = lambda message: refuse_flag(message)  # type: ignore[method-assign]
    (info,) = [action for action in parser._actions if action.dest == "info"]
    following = [*arguments[1:], ""]
    given = ["--info=all" if argument in info.option_strings and after not in (info.choices or ()) else argument
             for argument, after in zip(arguments, following, strict=False)]  # fmt: skip
    found = parser.parse_intermixed_args(given)
    return list_flags(parser, found), list(found.overrides or ())


def list_flags(parser: ArgumentParser, found: Any) -> list[str]:
    """Return the flags that a parsed command line has, in their long form."""
    flags = []
    for action in parser._actions:
        value = getattr(found, action.dest, action.default)
        if action.option_strings and value != action.default:
            flags.append(action.option_strings[0] + ("" if value is True else f"={value}"))
    return flags


def refuse_flag(message: str) -> NoReturn:
    """Raise a ConfigError for a flag that there is not; many programs have `--epochs 3` for what is epochs=3 here."""
    unknown = re.match(r"unrecognized arguments: -+(\w[\w-]*)", message)
    if unknown:
        key = unknown[1].replace("-", "_")
        raise ConfigError(f"unknown flag --{unknown[1]}: options are written key=value, such as {key}=…")
    raise ConfigError(f"command line: {message}")


def parse(argument: str) -> Override | None:
    """Return an override as Hydra reads it, None where it cannot."""
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, AssertionError):
        return None


def accept_text(argument: str) -> str:
    """Return an override with quotes around text that Hydra's grammar has no signs for; ConfigError if it is unclear.

    So letters of any script, `~`, `#` or `&` in a value need no quotes of the user's.
    """
    match = KEYED.fullmatch(argument)
    if not match:
        return argument
    if any("\ud800" <= letter <= "\udfff" for letter in argument):
        raise ConfigError(f"{argument!r} is not text in this locale. Set PYTHONUTF8=1, or LC_ALL=C.UTF-8")
    key, value = match.groups()
    override = parse(argument)
    if override and not is_changed(override, value):
        return argument
    if not SYNTAX & set(re.sub(r"\$\{[^}]*\}", "", value)):
        return key + quote(value)
    parts = RUNS.split(value)
    parts[::2] = [quote(part) if part and not parse(f"{key}{part}") else part for part in parts[::2]]
    if parse(key + "".join(parts)):
        return key + "".join(parts)
    raise ConfigError(f"cannot read {argument!r}: Hydra gives signs in its value a meaning. {exact_line(argument)}")


def is_changed(override: Override, value: str) -> bool:
    """Return True if Hydra would drop blanks at the ends of a text that has no quotes or escapes."""
    read = None if override.is_sweep_override() else override.value()
    return type(read) is str and "\\" not in value and read != value


def quote(text: str) -> str:
    """Return a text as a quoted value of Hydra."""
    return QuotedString(text=text, quote=Quote.double).with_quotes()


def exact_line(argument: str) -> str:
    """Return what to type so that a value arrives letter for letter."""
    key, _, value = argument.partition("=")
    escaped = value.replace("${", "\\${")
    return f"For exactly this value type {shlex.quote(f'{key}={quote(escaped)}')}"


def typed_form(message: str, spelled: Iterable[str], typed: Iterable[str]) -> str:
    """Return a message of Hydra about what was typed: without the signs put before a key, and the advice on them."""
    for ours, theirs in zip(spelled, typed, strict=True):
        message = message.replace(ours, theirs)
    signs = any(argument.startswith("+") for argument in typed)
    return " ".join(" ".join(line for line in message.splitlines() if signs or not re.search(r"\+\w", line)).split())


def read_override(argument: str, options: Mapping[str, set[str]], sweeps: bool) -> str:
    """Return an override with its value as Hydra reads it; ConfigError where that is not possible or not known."""
    key, sign, value = argument.partition("=")
    if not sign and not argument.startswith("~"):
        raise ConfigError(f"expected key=value, got {argument!r}")
    if not key.isascii():
        raise ConfigError(f"cannot read {argument!r}: a key consists of the letters a to z, digits, '_' and '.'")
    try:
        readable = accept_text(argument)
    except ConfigError:
        if key in options:
            raise ConfigError(unknown_option(key, value, options)) from None
        raise
    override = parse(readable)
    if override is None or key.lstrip("+").split(".")[0] == "hydra":
        return readable
    if override.is_sweep_override() and not sweeps:
        remedy = "" if key in options else f" {exact_line(argument)}"
        raise ConfigError(f"{argument}: several values are a sweep, which needs -m.{remedy}")
    if key in options and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        chosen: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        wrong = [unknown_option(key, str(option), options) for option in chosen if str(option) not in options[key]]
        if wrong:
            raise ConfigError(*wrong)
    return readable


def unknown_option(group: str, name: str, options: Mapping[str, set[str]]) -> str:
    """Return the error for an option that a group lacks, with the nearest one, or the group that has it."""
    others = [other for other in options if name in options[other]]
    message = unknown(group, name, options[group])
    if "did you mean" in message or not others:
        return message
    return f"no {group} '{name}': did you mean {others[0]}={name}?"
