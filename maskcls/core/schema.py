"""Value types, the pydantic model of a signature, and validation messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from maskcls.core.errors import unknown_message

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes as a seed
ImageSide = Annotated[int, Field(ge=1, le=4096)]  # pixels of a photo's side
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
Proportion = Annotated[float, Field(ge=0, lt=1)]
TYPE_NAMES = {
    "float_type": "float", "int_type": "int", "int_from_float": "int", "bool_type": "bool (true or false)",
    "string_type": "str", "list_type": "list", "dict_type": "mapping", "none_required": "null",
}  # fmt: skip


def option_fields(build: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return {parameter: (type, default)} of what stands after a builder's star."""
    hints = inspect.get_annotations(build, eval_str=True)  # typing's get_type_hints adds Optional[] on Python 3.10
    after = [p for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in after}


def build_schema(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    """Return the pydantic model of {parameter: (type, default)}; it forbids extras and coerces nothing."""
    config = ConfigDict(
        extra="forbid", strict=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )
    return create_model(name, __config__=config, **fields)  # type: ignore[call-overload]


def validate_params(
    model: type[BaseModel], values: Mapping[str, Any], faults: list[str], group: str = "", word: str = ""
) -> dict[str, Any] | None:
    """Return `values` with the defaults filled in, or None after adding a sentence a fault to `faults`."""
    given = {key: value for key, value in values.items() if value != "???"}
    try:
        return dict(model.model_validate(given))
    except ValidationError as error:
        by_key: dict[str, list[Any]] = {}
        for item in error.errors():
            by_key.setdefault(str(item["loc"][0]), []).append(item)
        faults.extend(format_error(items, key, model.model_fields, group, word) for key, items in by_key.items())
        return None


def format_error(items: list[Any], key: str, known: Iterable[str], group: str, word: str) -> str:
    """Return one sentence for pydantic's errors about one key (a union gives an error for each branch)."""
    first = items[0]
    where = f"{group}.{key} of {word}" if group else key
    if first["type"] == "extra_forbidden":
        return unknown_message(f"parameter of {group} {word}" if group else "key", key, known)
    if first["type"] == "missing":
        return f"{where} is missing: it has no default"
    kinds = list(dict.fromkeys(TYPE_NAMES[item["type"]] for item in items if item["type"] in TYPE_NAMES))
    others = [item for item in items if item["type"] not in TYPE_NAMES]
    if not others:
        return f"{where}: {first['input']!r} is no {' or '.join(kinds)}"
    return f"{where}: {format_reason(others[0])}"


def format_reason(item: Any) -> str:
    """Return what is wrong with one value, in words."""
    if item["type"] == "literal_error":
        choices = [part.strip(" '") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return unknown_message("choice", item["input"], choices)
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    return f"{item['input']!r} {item['msg'].replace('Input should', 'should')}"
