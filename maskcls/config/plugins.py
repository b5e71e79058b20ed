"""Plugins: import of the user's modules, and checks of their builders' signatures."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from maskcls.config.config_folders import list_options, resource_dir
from maskcls.core.errors import ConfigError, MaskclsError
from maskcls.core.registry import Builder, Registry, positional_names
from maskcls.core.schema import ATTRIBUTE_DEFAULT, build_schema, option_fields


def import_plugins(names: Any, groups: Mapping[str, Registry]) -> None:
    """Import modules, whose builders register themselves; raise ConfigError with plugin, function and error."""
    files = list_options(resource_dir("conf"))
    for name in map(str, names if isinstance(names, list) else []):
        before = {group: dict(registry.builders) for group, registry in groups.items()}
        errors = [error for error in (import_module(name),) if error]
        for group, registry in groups.items():
            new = [option for option in registry.builders if option not in before[group]]
            found = [option_error(option, registry, files.get(group, ())) for option in new]
            errors += [f"plugins: {name}: {error}" for error in found if error]
        if errors:
            for group, registry in groups.items():
                registry.builders = before[group]
            sys.modules.pop(name, None)  # so that the next import raises the same error
            raise ConfigError(*errors)


def import_module(name: str) -> str | None:
    """Import a module; return the error message with the line of the user's file, or None."""
    if os.getcwd() not in sys.path:  # python -m searches the working directory, a console script does not
        sys.path.append(os.getcwd())
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


def option_error(option: str, registry: Registry, files: Collection[str]) -> str | None:
    """Return the message for a new option that a YAML file hides or whose signature is wrong, or None."""
    build = registry.builders[option]
    if option in files:
        return f"{build.__name__}: {registry.group}={option} is an option of maskcls. Rename it"
    return builder_error(build, registry)


def builder_error(build: Builder, registry: Registry) -> str | None:
    """Return the message for a signature that its group does not accept, or None."""
    parameters = inspect.signature(build).parameters.values()
    first = next(iter(registry.builders.values()))
    inputs, optional = positional_names(first), registry.optional
    expected = f"expected def {build.__name__}({', '.join([*inputs, '*', 'option: type = default'])})"
    reason = ""
    names = positional_names(build)
    further, takes_any = list(names[len(inputs) :]), any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not takes_any and (len(names) < len(inputs) or further != list(optional)[: len(further)]):
        also = f", optionally {', '.join(optional)}," if optional else ""
        reason = f"{registry.group} builders take ({', '.join(inputs)}){also} and keyword-only options"
    elif bare := [p for p in parameters if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) and p.annotation is p.empty]:
        reason = f"the option '{str(bare[0]).partition('=')[0]}' has no type"
    else:
        reason = type_error(build)
    return f"{build.__name__}: {reason}; {expected}, got {build.__name__}{inspect.signature(build)}" if reason else None


def type_error(build: Builder) -> str:
    """Return the message for an option type that a config does not support, an empty text without errors."""
    try:
        fields = option_fields(build, ("<attribute>",))
        build_schema(build.__name__, fields)
        if weight := fields.get("<attribute>"):
            build_schema(build.__name__, {"weight": weight})()
    except ValidationError:
        return f"the type of ** must allow {ATTRIBUTE_DEFAULT}, the default of each attribute of the task"
    except PydanticUserError as error:
        return f"a type is not supported in a config ({str(error).splitlines()[0]})"
    except Exception as error:  # evaluating an annotation can raise anything
        return f"cannot evaluate a type ({type(error).__name__}: {error})"
    return ""
