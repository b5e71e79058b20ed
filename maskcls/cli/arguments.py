"""Command-line arguments of the small commands: key=value, checked against a frozen dataclass."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints

from maskcls.cli.exit_codes import run_command
from maskcls.config.override_grammar import accept_text, parse
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, nearest, suggestion_message
from maskcls.core.schema import build_schema, validate_params

RENAMED = {"photos": "images", "people": "num_people", "dir": "cache_dir", "json": "out"}  # flags of earlier versions
MOVED = {"runs": "Use maskcls compare runs=…"}


def options_command(
    kind: type[Any], overrides: bool = False, positional: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[[], Any]]:
    """Return a decorator: a command is called with its options and, if `overrides`, with the overrides of runs.

    Arguments without `=` are the values of the options `positional`, in order.
    """

    def decorate(command: Callable[..., Any]) -> Callable[[], Any]:
        @run_command
        @functools.wraps(command)
        def main() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print_help(kind, command.__module__.rpartition(".")[2], sys.modules[command.__module__].__doc__ or "")
                return
            options, others = parse_arguments(kind, name_arguments(sys.argv[1:], positional), overrides)
            command(*([options, others] if overrides else [options]))

        return main

    return decorate


def parse_arguments(kind: type[Any], arguments: Sequence[str], overrides: bool = False) -> tuple[Any, list[str]]:
    """Return the options of a command, and the other arguments if it passes overrides on to runs."""
    names = [field.name for field in fields(kind)]
    errors = find_flags(arguments, names, overrides)
    hints, values, others = get_type_hints(kind, include_extras=True), {}, []
    for key, sign, text in (argument.partition("=") for argument in arguments if not errors):
        if overrides and key not in names:
            others.append(key + sign + text)
            is_parameter = key.partition(".")[0] in names  # crop.margin beside crop
            close = None if is_parameter else nearest(key, names, cutoff=0.75)
            if close and key not in Config.__dataclass_fields__:
                errors.append(suggestion_message("key", key, f"'{close}'"))
        else:
            values[key] = parse_value(key, text, hints.get(key, str))
    params = None if errors else validate_params(build_schema(kind.__name__, option_schema(kind)), values, errors)
    if params is None:
        raise ConfigError(*errors)
    return kind(**params), others


def name_arguments(arguments: Sequence[str], positional: Sequence[str]) -> list[str]:
    """Return the arguments with those by position as key=value: the first of `positional` that are not set by key."""
    keys = {argument.partition("=")[0] for argument in arguments if "=" in argument}
    free = iter([name for name in positional if name not in keys])
    is_bare = [not argument.startswith(("-", "~")) and "=" not in argument for argument in arguments]
    names = [next(free, None) if bare else None for bare in is_bare]
    return [f"{name}={argument}" if name else argument for name, argument in zip(names, arguments, strict=True)]


def find_flags(arguments: Sequence[str], names: Sequence[str], overrides: bool) -> list[str]:
    """Return a message for each flag, or else for each argument without `=`, with its spelling as key=value."""
    flags = [i for i, argument in enumerate(arguments) if argument.startswith("-")]
    if flags:
        return [flag_message(arguments[i], arguments[i + 1 :], names) for i in flags]
    bare = [argument for argument in arguments if "=" not in argument and not (overrides and argument.startswith("~"))]
    hint = f", did you mean '{names[0]}={','.join(bare)}'?" if names else ""
    return [f"expected key=value, got {', '.join(map(repr, bare))}{hint}"] if bare else []


def flag_message(argument: str, following: Sequence[str], names: Sequence[str]) -> str:
    """Return the message for a flag, with the option that replaced it."""
    flag, _, text = argument.partition("=")
    key = flag.lstrip("-").replace("-", "_")
    if key not in names:
        key = RENAMED.get(key, key)
    values = itertools.takewhile(lambda value: "=" not in value and not value.startswith("-"), following)
    spelling = f"{key}={text or ','.join(values) or 'true'}"
    remedy = MOVED.get(key, "Run the command with --help for its options")
    remedy = f"Write {spelling}" if key in names else remedy
    return f"unknown flag {flag}: options are written key=value. {remedy}"


def parse_value(key: str, text: str, hint: Any) -> Any:
    """Return a value by its type: text unchanged, a tuple from `a,b` or `[a,b]`, else as Hydra reads it."""
    kinds = {get_origin(kind) or kind: kind for kind in (hint, *get_args(hint))}
    if text == "null" and type(None) in kinds:
        return None
    if str in kinds and tuple not in kinds:
        return text
    override = parse(accept_text(f"{key}={text}"))
    if override is None or (override.is_sweep_override() and tuple not in kinds):
        return text
    value = list(override.sweep_iterator()) if override.is_sweep_override() else override.value()
    if tuple not in kinds:
        return value
    items = value if isinstance(value, list) else [] if value == "" else [value]
    return tuple(str(item) if str in get_args(kinds[tuple]) else item for item in items)


def option_schema(kind: type[Any]) -> dict[str, tuple[Any, Any]]:
    """Return {field: (type, default)} of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: (hints[field.name], ... if field.default is MISSING else field.default)
            for field in fields(kind)}  # fmt: skip


def print_help(kind: type[Any], command: str, doc: str) -> None:
    """Print a command's docstring and its options; the comment on a field's line is its help."""
    print(doc.strip())
    comments = dict(re.findall(r"(?m)^    (\w+):.*?  # (.+)$", inspect.getsource(kind)))
    if schema := option_schema(kind):
        print(f"\nOptions of maskcls {command}:")
    for name, (_, default) in schema.items():
        print(f"  {f'{name}={format_default(default)}':<30} {comments[name]}")


def format_default(value: Any) -> str:
    """Return a default value as the command line writes it."""
    if value is ... or value is None:
        return "(required)" if value is ... else "null"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
