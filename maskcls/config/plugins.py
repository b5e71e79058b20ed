"""The user's own modules: imported, and their builders checked before anything is built with them."""

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
    """Import modules, whose builders register themselves; ConfigError names plugin, function and fault."""
    for name in map(str, names if isinstance(names, list) else []):
        before = {group: dict(registry.builders) for group, registry in groups.items()}
        errors = [error for error in (import_module(name),) if error]
        for group, registry in groups.items():
            new = [build for option, build in registry.builders.items() if option not in before[group]]
            errors += [f"plugins: {name}: {error}" for build in new if (error := builder_error(build, registry))]
        if errors:
            for group, registry in groups.items():
                registry.builders = before[group]
            sys.modules.pop(name, None)  # so that the next config that names it is told the same
            raise ConfigError(*errors)


def import_module(name: str) -> str | None:
    """Import a module and return what went wrong, if anything did, with the line of the user's file."""
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        ours = (Path(__file__).parent.parent, Path(importlib.__file__).parent)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_file()]
        own = [frame for frame in frames if not {*ours} & {*Path(frame.filename).parents}]
        place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
        kind = "" if isinstance(error, ImportError | SyntaxError | MaskclsError) else f"{type(error).__name__}: "
        return f"plugins: {name!r} cannot be imported: {kind}{' '.join(str(error).split())}{place}"
    return None


def builder_error(build: Builder, registry: Registry) -> str | None:
    """Return what is wrong with a builder's signature, with the one that its group expects, or None."""
    parameters = inspect.signature(build).parameters.values()
    first = next(iter(registry.builders.values()))
    handed = positional(first)
    expected = f"expected def {build.__name__}({', '.join([*handed, '*', 'option: type = default'])})"
    reason = ""
    if len(positional(build)) != len(handed) and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        reason = f"a {registry.group} is called with ({', '.join(handed)}), options follow a star"
    elif bare := [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.annotation is p.empty]:
        reason = f"the option '{bare[0]}' has no type"
    elif any(p.kind is p.VAR_KEYWORD for p in parameters):
        reason = "an option that is caught by ** has no name and no type"
    else:
        reason = type_error(build)
    return f"{build.__name__}: {reason}; {expected}, got {build.__name__}{inspect.signature(build)}" if reason else None


def type_error(build: Builder) -> str:
    """Return which type of an option no value of a config can be checked by, nothing where all can."""
    try:
        build_schema(build.__name__, option_fields(build))
    except PydanticUserError as error:
        return f"a type is not one of a config's values ({str(error).splitlines()[0]})"
    except Exception as error:  # an annotation is evaluated: it can raise anything
        return f"a type cannot be read ({type(error).__name__}: {error})"
    return ""


def positional(build: Builder) -> list[str]:
    """Return the names of what a builder is called with: what stands before its star."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in inspect.signature(build).parameters.values() if p.kind in kinds]
