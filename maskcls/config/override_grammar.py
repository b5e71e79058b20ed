"""Grammar of the command line: flags in any position, Unicode values without quotes, and quoting hints."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from maskcls.core.errors import ConfigError

KEYED = re.compile(r"(\+{0,2}[A-Za-z_][\w./@-]*=)(.*)", re.DOTALL | re.ASCII)  # key= with its prefix, and the value
SYNTAX = set(",[](){}=\"'\\")  # characters with a meaning in Hydra's values
TOKENS = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\$\{[^}]*\}|[\s,\[\](){}:=]+)""")


def split_flags(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags and the overrides of a command line, in any order."""
    parser = get_args_parser()
    parser.error = lambda message: refuse_flag(message)  # type: ignore[method-assign]
    (info,) = [action for action in parser._actions if action.dest == "info"]
    following = [*arguments[1:], ""]
    full = ["--info=all" if argument in info.option_strings and after not in (info.choices or ()) else argument
            for argument, after in zip(arguments, following, strict=False)]  # fmt: skip
    args = parser.parse_intermixed_args(full)
    return list_flags(parser, args), list(args.overrides or ())


def list_flags(parser: ArgumentParser, args: Namespace) -> list[str]:
    """Return the flags of a parsed command line in their long form."""
    flags = []
    for action in parser._actions:
        value = getattr(args, action.dest, action.default)
        if action.option_strings and value != action.default:
            flags.append(action.option_strings[0] + ("" if value is True else f"={value}"))
    return flags


def refuse_flag(message: str) -> NoReturn:
    """Raise ConfigError for an unknown flag, such as `--epochs 3` in place of epochs=3."""
    unknown = re.match(r"unrecognized arguments: -+(\w[\w-]*)", message)
    if unknown:
        key = unknown[1].replace("-", "_")
        raise ConfigError(f"unknown flag --{unknown[1]}. Use key=value, for example {key}=…")
    raise ConfigError(f"command line: {message}")


def parse(argument: str) -> Override | None:
    """Return an override as parsed by Hydra, None if it cannot be parsed."""
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, AssertionError):
        return None


def accept_text(argument: str) -> str:
    """Return an override with quotes where Hydra's grammar needs them; raise ConfigError for an ambiguous value.

    Values may contain letters of any script, `~`, `#` or `&` without quotes.
    """
    match = KEYED.fullmatch(argument)
    if not match:
        return argument
    if any("\ud800" <= char <= "\udfff" for char in argument):
        raise ConfigError(f"{argument!r} is not text in this locale. Set PYTHONUTF8=1, or LC_ALL=C.UTF-8")
    key, value = match.groups()
    override = parse(argument)
    if override and not is_changed(override, value):
        return argument
    if not SYNTAX & set(re.sub(r"\$\{[^}]*\}", "", value)):
        return key + quote(value)
    parts = TOKENS.split(value)
    parts[::2] = [quote(part) if part and not parse(f"{key}{part}") else part for part in parts[::2]]
    if parse(key + "".join(parts)):
        return key + "".join(parts)
    raise ConfigError(f"cannot parse {argument!r}: Hydra interprets characters in its value. {exact_line(argument)}")


def is_changed(override: Override, value: str) -> bool:
    """Return True if Hydra would strip blanks from a value without quotes or escapes."""
    parsed = None if override.is_sweep_override() else override.value()
    return type(parsed) is str and "\\" not in value and parsed != value


def quote(text: str) -> str:
    """Return a text as a quoted Hydra value."""
    return QuotedString(text=text, quote=Quote.double).with_quotes()


def exact_line(argument: str) -> str:
    """Return the hint how to type a value literally."""
    key, _, value = argument.partition("=")
    escaped = value.replace("${", "\\${")
    return f"To pass the value literally, type {shlex.quote(f'{key}={quote(escaped)}')}"


def typed_form(message: str, line: Iterable[str], typed: Iterable[str]) -> str:
    """Return a message of Hydra about the overrides as typed, without hints on prefixes that were not typed."""
    for override, argument in zip(line, typed, strict=True):
        message = message.replace(override, argument)
    has_prefix = any(argument.startswith("+") for argument in typed)
    lines = [text for text in message.splitlines() if has_prefix or not re.search(r"\+\w", text)]
    return " ".join(" ".join(lines).split())
