"""Value types, the pydantic model of a signature, and validation messages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from maskcls.core.errors import unknown_message

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**32)]  # scikit-learn's range of seeds
ImageSide = Annotated[int, Field(ge=1, le=4096)]  # pixels
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
Proportion = Annotated[float, Field(ge=0, lt=1)]
TYPE_NAMES = {
    "float_type": "float", "int_type": "int", "int_from_float": "int", "bool_type": "bool (true or false)",
    "string_type": "str", "list_type": "list", "dict_type": "mapping", "none_required": "null",
}  # fmt: skip
ATTRIBUTE_DEFAULT = 1.0  # of a parameter for each attribute
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
BOUNDS = (("greater than or equal to", "at least"), ("less than or equal to", "at most"), ("a finite number", "finite"))


def option_fields(build: Callable[..., Any], attributes: Sequence[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Return {parameter: (type, default)} of a builder's keyword-only parameters.

    A builder with `**weights` has a parameter for each of a task's attributes, whose default is ATTRIBUTE_DEFAULT.
    """
    hints = inspect.get_annotations(build, eval_str=True)
    options = list(inspect.signature(build).parameters.values())
    each = [p for p in options if p.kind is p.VAR_KEYWORD]
    fields = {name: (hints[p.name], ATTRIBUTE_DEFAULT) for p in each for name in attributes}
    named = [p for p in options if p.kind is p.KEYWORD_ONLY]
    return fields | {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in named}


def option_descriptions(build: Callable[..., Any]) -> dict[str, str]:
    """Return {parameter: description} of the section `Args:` of a builder's docstring."""
    section = re.search(r"(?m)^Args:\n((?: +.*\n?|\n)+)", inspect.getdoc(build) or "")
    entries = re.findall(r"(?m)^ {4}(\w+): (.+(?:\n {5,}.+)*)", section[1]) if section else []
    return {name: " ".join(text.split()) for name, text in entries}


def describe_type(hint: Any) -> str:
    """Return a parameter's type in words, such as `int ≥ 1 or null`, `a | b` for choices, or `list`."""
    kind = get_origin(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(describe_type, get_args(hint)))
    if kind is Annotated:
        limits = [item for field in hint.__metadata__ for item in getattr(field, "metadata", ())]
        bounds = [f"{sign} {getattr(item, name):g}" for item in limits for name, sign in SIGNS.items()
                  if abs(getattr(item, name, 1e9)) < 1e6]  # fmt: skip
        return " ".join([describe_type(hint.__origin__), ", ".join(bounds)]).strip()
    if kind is Literal:
        return " | ".join(map(str, get_args(hint)))
    return {NoneType: "null", dict: "mapping"}.get(kind or hint, getattr(kind or hint, "__name__", str(hint)))


def build_schema(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    """Return the pydantic model of {parameter: (type, default)}; it forbids other keys and converts no type."""
    config = ConfigDict(
        extra="forbid", strict=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )
    return create_model(name, __config__=config, **fields)  # type: ignore[call-overload]


def validate_params(
    model: type[BaseModel], values: Mapping[str, Any], errors: list[str], group: str = "", option: str = ""
) -> dict[str, Any] | None:
    """Return `values` with the defaults filled in; on errors add a message per key to `errors` and return None."""
    try:
        return dict(model.model_validate({key: value for key, value in values.items() if value != "???"}))
    except ValidationError as error:
        by_key: dict[str, list[Any]] = {}
        for item in error.errors():
            by_key.setdefault(str(item["loc"][0]), []).append(item)
        errors.extend(format_error(items, key, model.model_fields, group, option) for key, items in by_key.items())
        return None


def format_error(items: list[Any], key: str, names: Iterable[str], group: str, option: str) -> str:
    """Return one message for pydantic's errors about one key (a union gives an error for each branch)."""
    depth = max(len(item["loc"]) for item in items)
    if items[0]["type"] == "literal_error" and len(items[0]["loc"]) < depth:  # a word or a list: the list is wrong
        items = [item for item in items if len(item["loc"]) == depth]
    first = items[0]
    path, where = (f"{group}.{key}", f"{group}.{key} ({option})") if group else (key, key)
    if first["type"] == "extra_forbidden":
        return unknown_message("parameter" if group else "key", key, names, f"{group}={option}" if group else "")
    if first["type"] == "missing":
        return f"{where} has no default. Set {path}=…"
    types = list(dict.fromkeys(TYPE_NAMES[item["type"]] for item in items if item["type"] in TYPE_NAMES))
    others = [item for item in items if item["type"] not in TYPE_NAMES]
    if others:
        return format_reason(where, others[0])
    return f"{where}: expected {' or '.join(types)}, got {first['input']!r}"


def format_reason(where: str, item: Any) -> str:
    """Return the message for a value of the right type that is not allowed."""
    kind, value = item["type"], item["input"]
    if kind == "literal_error":
        choices = [part.strip(" '") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{where}: {unknown_message('value', value, choices)}"
    if kind == "value_error":
        return f"{where}: {item['ctx']['error']}"
    reason = item["msg"]
    for phrase, short in (("Input should be", "must be"), *BOUNDS):
        reason = reason.replace(phrase, short)
    return f"{where} {reason}, got {value!r}" if reason.startswith("must") else f"{where}: {reason}, got {value!r}"
