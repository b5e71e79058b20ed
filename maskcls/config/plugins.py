"""Plugins: import of the user's modules, and checks of their builders' signatures."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.errors import PydanticUserError

from maskcls.core.errors import ConfigError, MaskclsError
from maskcls.core.registry import Builder, Registry
from maskcls.core.schema import build_schema, option_fields


def import_plugins(names: Any, groups: Mapping[str, Registry]) -> None:
    """Import modules, whose builders register themselves; raise ConfigError with plugin, function and error."""
    for name in map(str, names if isinstance(names, list) else []):
        before = {group: dict(registry.builders) for group, registry in groups.items()}
        errors = [error for error in (import_module(name),) if error]
        for group, registry in groups.items():
            new = [build for option, build in registry.builders.items() if option not in before[group]]
            errors += [f"plugins: {name}: {error}" for build in new if (error := builder_error(build, registry))]
        if errors:
            for group, registry in groups.items():
                registry.builders = before[group]
            sys.modules.pop(name, None)  # so that the next import raises the same error
            raise ConfigError(*errors)


def import_module(name: str) -> str | None:
    """Import a module; return the error message with the line of the user's file, or None."""
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        ours = (Path(__file__).parent.parent, Path(importlib.__file__).parent)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
        own = [frame for frame in frames if not {*ours} & {*Path(frame.filename).parents}]
        location = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        kind = "" if isinstance(error, ImportError | SyntaxError | MaskclsError) else f"{type(error).__name__}: "
        return f"plugins: cannot import {name!r}: {kind}{' '.join(str(error).split())}{location}"
    return None


def builder_error(build: Builder, registry: Registry) -> str | None:
    """Return the message for a signature that its group does not accept, or None."""
    parameters = inspect.signature(build).parameters.values()
    first = next(iter(registry.builders.values()))
    inputs = positional_names(first)
    expected = f"expected def {build.__name__}({', '.join([*inputs, '*', 'option: type = default'])})"
    reason = ""
    if len(positional_names(build)) != len(inputs) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        reason = f"{registry.group} builders take ({', '.join(inputs)}) and keyword-only options"
    elif bare := [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.annotation is p.empty]:
        reason = f"the option '{bare[0]}' has no type"
    elif any(p.kind is p.VAR_KEYWORD for p in parameters):
        reason = "** is not allowed: each option needs a name and a type"
    else:
        reason = type_error(build)
    return f"{build.__name__}: {reason}; {expected}, got {build.__name__}{inspect.signature(build)}" if reason else None


def type_error(build: Builder) -> str:
    """Return the message for an option type that a config does not support, an empty text without errors."""
    try:
        build_schema(build.__name__, option_fields(build))
    except PydanticUserError as error:
        return f"a type is not supported in a config ({str(error).splitlines()[0]})"
    except Exception as error:  # evaluating an annotation can raise anything
        return f"cannot evaluate a type ({type(error).__name__}: {error})"
    return ""


def positional_names(build: Builder) -> list[str]:
    """Return the names of a builder's positional parameters."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(build).parameters.values() if p.kind in kinds]
