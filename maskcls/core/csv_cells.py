"""Parsing of attributes and classes from CSV cells, with an error message for each invalid cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maskcls.core.csv_values import find_index, unknown_value
from maskcls.core.task import Attribute, Task


def parse_attribute_cells(
    cells: Mapping[str, str], task: Task, where: str, errors: list[str], group: str = ""
) -> dict[str, Any]:  # fmt: skip
    """Return the columns of a row's attributes, which a config group reads; add messages for bad cells to `errors`.

    An empty cell, or a column that is missing, is an attribute without a label: −1, or NaN for a number.
    """
    return {attribute.source: parse_cell(cells.get(attribute.source, ""), attribute, where, errors, group)
            for attribute in task}  # fmt: skip


def parse_cell(value: str, attribute: Attribute, where: str, errors: list[str], group: str = "") -> float | int:
    """Return the number, or the index of the value, of a cell; without a label −1, or NaN for a number."""
    if attribute.is_number:
        number = parse_number(value, attribute)
        if number is None and value:
            errors.append(f"{where}: {attribute.source} {describe_numbers(attribute)}, got {value!r}")
        return math.nan if number is None else number
    index = find_index(value, attribute)
    if index is None and value:
        errors.append(f"{where}: {unknown_value(attribute.name, value, group, attribute.values)}")
    return -1 if index is None else index


def parse_number(value: str, attribute: Attribute) -> float | None:
    """Return a number within the attribute's limits, None if the value is not one."""
    try:
        number = float(value.replace("_", "x"))  # float reads 2_5 as 25
    except ValueError:
        return None
    low, high = attribute.limits
    return number if math.isfinite(number) and low <= number <= high else None


def parse_class(cells: Mapping[str, str], task: Task, where: str, errors: list[str]) -> dict[str, Any]:
    """Return label and attributes of a row with a label; its other cells must agree with the label."""
    if not cells["label"]:
        return {"label": -1, **parse_attribute_cells(cells, task, where, errors)}
    label = parse_label(cells["label"], task, where, errors)
    columns: dict[str, Any] = {"label": label}
    for attribute, decoded in zip(task, task.decode(max(label, 0)), strict=True):
        value, found = cells.get(attribute.source, ""), int(decoded)
        conflict = f"{where}: label {cells['label']} conflicts with {attribute.source} {value!r}"
        if attribute.is_number:
            number = parse_cell(value, attribute, where, errors)
            if label >= 0 and not math.isnan(number) and attribute.bin(number) != found:
                errors.append(conflict.replace(repr(value), value))
            columns[attribute.source] = number
        else:
            index = find_index(value, attribute)
            if index is None and value.isdecimal():
                index = int(value)
            if label >= 0 and value and index != found:
                errors.append(conflict)
            columns[attribute.source] = found if label >= 0 else -1
    return columns


def describe_numbers(attribute: Attribute) -> str:
    """Return what the numbers of an attribute must be."""
    low, high = attribute.limits
    span = f" from {low:g} to {high:g}" if math.isfinite(high - low) else ""
    return f"must be a number{f' of {attribute.unit}' if attribute.unit else ''}{span}"


def parse_label(value: str, task: Task, where: str, errors: list[str]) -> int:
    """Return a class number; −1 for an empty cell, and for an invalid one, with a message in `errors`."""
    label = int(value) if value.isdecimal() and len(value) <= 5 else -1
    if value and not 0 <= label < task.num_classes:
        errors.append(f"{where}: label must be a class from 0 to {task.num_classes - 1}, got {value!r}")
        return -1
    return label
