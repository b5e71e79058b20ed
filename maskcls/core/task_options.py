"""A task as plain data: the attributes of a config, checked, and of a stored run."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from maskcls.core.competition import MASK18 as DEFAULT_TASK
from maskcls.core.errors import unknown_message
from maskcls.core.task import Attribute, Task

MAX_CLASSES = 10_000
MAX_LETTERS = 100_000  # of all values, in bytes, so that the config of a run can be read
MAX_NUMBER = 1e15  # of borders and limits
KEYS = ("name", "values", "column", "borders", "train_borders", "unit", "limits", "per", "short", "colour")
PER = ("group", "photo")
RESERVED = (
    "id", "path", "person", "group", "label", "class", "part", "fold", "scored", "trained", "partial", "content",
    "guess", "plain", "crops", "f1", "accuracy", "photos", "people", "name", "none", "task", "probability", "ans",
    "imageid", "train", "soft", "pseudo", "p", "fold_label",
)  # fmt: skip
TABLE_COLUMNS = ("id", "path", "person", "label", "part", "fold", "scored", "trained", "partial", "content")
NUMBERED = re.compile(r"(?:soft|pseudo|p)\d+(?:_\d+)?")  # names of columns that tables have anyway


def parse_attributes(raw: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the attributes in the form of `describe_attribute`; ValueError for an invalid one."""
    if len(raw) >= MAX_CLASSES.bit_length():
        raise ValueError(f"{len(raw)} attributes have more than {MAX_CLASSES:,} combinations. Set fewer")
    attributes = [parse_attribute(entry, i) for i, entry in enumerate(raw)]
    if not attributes:
        raise ValueError("expected at least one attribute, got none. Set task.attributes='[{name: …, values: […, …]}]'")
    columns: list[str] = []
    for attribute in attributes:
        made = [attribute.class_column, *attribute.soft_columns] if attribute.is_number else []
        for column in dict.fromkeys([attribute.name, attribute.source, *made]):
            if column in columns:
                raise ValueError(f"'{column}' is used twice, by attribute '{attribute.name}' and an earlier one")
            columns.append(column)
    if (num_classes := math.prod(len(attribute.values) for attribute in attributes)) > MAX_CLASSES:
        raise ValueError(f"the attributes have {num_classes:,} combinations, expected at most {MAX_CLASSES:,} classes")
    names = Counter(" ".join(values) for values in itertools.product(*(attribute.values for attribute in attributes)))
    if (most := max(names.values())) > 1:
        raise ValueError(f"{most} classes have the name {max(names, key=names.__getitem__)!r}. Choose other values")
    if (letters := sum(len(value.encode()) for attribute in attributes for value in attribute.values)) > MAX_LETTERS:
        raise ValueError(f"the values have {letters:,} letters (bytes), expected at most {MAX_LETTERS:,}")
    return [describe_attribute(attribute) for attribute in attributes]


def parse_attribute(raw: Mapping[Any, Any], index: int) -> Attribute:
    """Return an attribute as a config writes it; ValueError for an invalid key or value."""
    name = raw.get("name")
    where = f"attribute {name!r}" if isinstance(name, str) else f"attribute {index + 1}"
    for key in raw:
        if key not in KEYS:
            raise ValueError(f"{where}: {unknown_message('key', str(key), KEYS)}")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w{0,39}", name, re.ASCII):
        raise ValueError(f"attribute {index + 1}: expected a name of letters, digits and '_', got {name!r}")
    if name.lower() in RESERVED or NUMBERED.fullmatch(name):
        raise ValueError(f"{where}: the name is used for something else. Choose another name")
    borders = numbers(raw, "borders", where)
    if borders or raw.get("column"):
        return number_attribute(raw, name, borders, where)
    for key in ("train_borders", "unit", "limits"):
        if raw.get(key):
            raise ValueError(f"{where}: {key} needs borders, the first number of each value but the first")
    return Attribute(name, texts(raw.get("values"), where), **looks(raw, where))


def number_attribute(raw: Mapping[Any, Any], name: str, borders: tuple[float, ...], where: str) -> Attribute:
    """Return an attribute whose values are ranges of a number."""
    if not borders:
        raise ValueError(f"{where}: column needs borders, the first number of each value but the first")
    values = texts(raw["values"] if raw.get("values") else list(range_names(borders)), where)
    if len(values) != len(borders) + 1:
        raise ValueError(f"{where}: {len(borders)} borders make {len(borders) + 1} values, got {len(values)}")
    train = numbers(raw, "train_borders", where) or borders
    if len(train) != len(borders):
        raise ValueError(f"{where}: expected {len(borders)} train_borders as borders, got {len(train)}")
    limits = numbers(raw, "limits", where) or (-math.inf, math.inf)
    if len(limits) != 2 or not limits[0] < min(borders) or not max(borders) <= limits[1]:
        raise ValueError(f"{where}: expected limits [lowest, highest] around the borders, got {list(limits)}")
    column, unit = (text_of(raw.get(key) or "", where) for key in ("column", "unit"))
    if column.lower() in TABLE_COLUMNS or NUMBERED.fullmatch(column):
        raise ValueError(f"{where}: column {column!r} is used for something else. Rename it in the table")
    return Attribute(name, values, column or name, borders, train, unit, (limits[0], limits[1]), **looks(raw, where))


def looks(raw: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return what an attribute belongs to, its short name and its colour."""
    per = raw.get("per") or ""
    if per not in ("", *PER):
        raise ValueError(f"{where}: {unknown_message('value of per', str(per), PER)}")
    short, colour = text_of(raw.get("short") or "", where), text_of(raw.get("colour") or "", where)
    if colour and not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
        raise ValueError(f"{where}: expected a colour as #1f77b4, got {colour!r}")
    return {"per": per, "short": short, "colour": colour}


def texts(raw: Any, where: str) -> tuple[str, ...]:
    """Return the values of an attribute as a table spells them; yes and no may be read as booleans from YAML."""
    if not isinstance(raw, list):
        raise ValueError(f"{where}: expected a list of values, got {raw!r}")
    values = tuple(text_of(value, where) for value in raw)
    if len(values) < 2:
        raise ValueError(f"{where}: expected at least two values, got {len(values)}")
    spellings = Counter(value.casefold() for value in values)
    for value in values:
        if not value or value != value.strip() or not value.isprintable():
            raise ValueError(f"{where}: expected values of printable characters, got {value!r}")
        if spellings[value.casefold()] > 1:
            raise ValueError(f"{where}: value {value!r} is given twice")
    return values


def text_of(value: Any, where: str) -> str:
    """Return a value as a CSV would spell it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{where}: expected a word, got {value!r}")
    return "none" if value is None else str(value)


def numbers(raw: Mapping[Any, Any], key: str, where: str) -> tuple[float, ...]:
    """Return a list of increasing numbers, empty without the key."""
    value = raw.get(key) or []
    is_list = isinstance(value, list) and all(type(item) in (int, float) and abs(item) <= MAX_NUMBER for item in value)
    if not is_list or any(low >= high for low, high in itertools.pairwise(value)):
        raise ValueError(f"{where}: expected {key} as a list of increasing numbers, got {value!r}")
    return tuple(int(item) if float(item).is_integer() else item for item in value)


def name_range(low: float, high: float, whole: bool) -> str:
    """Return the name of the numbers from `low` to below `high`."""
    if not whole:
        return f"{low:.15g} to <{high:.15g}"
    if high - low == 1:
        return f"{low:.15g}"
    return f"{low:.15g}-{high - 1:.15g}" if low >= 0 else f"{low:.15g} to {high - 1:.15g}"


def range_names(borders: Sequence[float]) -> tuple[str, ...]:
    """Return the names of ranges, such as <30, 30-59 and >=60; of borders that are not whole, 0.5 to <1.5."""
    whole = all(float(border).is_integer() for border in borders)
    between = [name_range(low, high, whole) for low, high in itertools.pairwise(borders)]
    return (f"<{borders[0]:.15g}", *between, f">={borders[-1]:.15g}")


def describe_attribute(attribute: Attribute) -> dict[str, Any]:
    """Return an attribute as plain data, without what is empty."""
    limits = list(attribute.limits) if math.isfinite(attribute.limits[1] - attribute.limits[0]) else []
    entries = {
        "name": attribute.name, "values": list(attribute.values), "column": attribute.column,
        "borders": list(attribute.borders), "train_borders": list(attribute.train_borders), "unit": attribute.unit,
        "limits": limits, "per": attribute.per, "short": attribute.short, "colour": attribute.colour,
    }  # fmt: skip
    return {key: value for key, value in entries.items() if value}


def describe_task(task: Task) -> dict[str, Any]:
    """Return a task as the section of a config."""
    attributes = [describe_attribute(attribute) for attribute in task]
    return {"name": "attributes", "attributes": attributes, "group": task.group}


def read_task(section: Any) -> Task:
    """Return the task of a section of a stored config, which older versions lack; ValueError for an invalid one."""
    if section is None:
        return DEFAULT_TASK
    group, raw = (section.get(key) for key in ("group", "attributes")) if isinstance(section, Mapping) else (None, None)
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise ValueError(f"task: expected a list of attributes, got {str(raw)[:40]!r}")
    if group is not None and not isinstance(group, str):
        raise ValueError(f"task.group: expected a name, got {str(group)[:40]!r}")
    parsed = [parse_attribute(entry, i) for i, entry in enumerate(parse_attributes(raw))]
    return Task(tuple(parsed), group)
