"""Values of CSV columns: usual words are understood; numbers that could mean several things are errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from maskcls.core.csv_reader import Row, Sheet, raise_errors
from maskcls.core.errors import nearest, unknown_message
from maskcls.core.synonyms import squeeze, value_words
from maskcls.core.task import Attribute, Task

Values = Mapping[str, Mapping[str, str]]  # {column: {value: what it means}}, as the user sets it
PARTS = ("train", "eval")
NUMBER = re.compile(r"[0-9]+(?:\.0*)?")


def meanings(task: Task) -> dict[str, tuple[str, ...]]:
    """Return what the values of each column of words can mean."""
    return {attribute.name: attribute.values for attribute in task if not attribute.is_number} | {"part": PARTS}


def check_values(given: Values, task: Task) -> None:
    """Raise ValueError for an unknown column or meaning in what the user sets."""
    known = meanings(task)
    for column, values in given.items():
        if column not in known:
            raise ValueError(unknown_message("column", column, known))
        for value, meaning in values.items():
            if meaning not in known[column]:
                raise ValueError(f"{value}: {unknown_message(column, meaning, known[column])}")


def translate_values(
    source: Path, sheet: Sheet, given: Values, group: str, task: Task
) -> tuple[list[Row], dict[str, dict[str, str]]]:  # fmt: skip
    """Return rows with the task's values, and {column: {value: meaning}} of other values.

    Unknown values stay, for an error that names their row. Raise DataError for values that could mean several things.
    `group` is the config group of the table: data or extra, empty for a table without options.
    """
    rows, read = sheet.rows, dict[str, dict[str, str]]()
    errors = [*find_codes(source, sheet, given, group, task), *find_doubtful_label(source, sheet, group, task)]
    found = {column: {value: meaning for value in distinct(sheet, column)
                      if (meaning := find_meaning(column, value, given, task)) and value != meaning}
             for column in meanings(task)}  # fmt: skip
    if changing := [column for column, values in found.items() if values]:
        rows = [Row(where, cells | {column: found[column].get(cells[column], cells[column]) for column in changing})
                for where, cells in rows]  # fmt: skip
    for column in changing:
        read[column] = {value: name for value, name in found[column].items() if squeeze(value) != squeeze(name)}
    raise_errors(errors)
    return rows, read


def find_meaning(column: str, value: str, given: Values, task: Task) -> str | None:
    """Return what a value means by the user's setting, as a value of the task or as a usual word; None if unknown."""
    own, attribute = given.get(column, {}), task[column] if column in task.names else None
    if value in own:
        return own[value]
    if attribute and (index := find_index(value, attribute)) is not None:
        return attribute.values[index]
    if not is_word(value):
        return None
    spellings = {squeeze(key): meaning for key, meaning in own.items() if is_word(key)}
    words = value_words(attribute) if attribute else {}
    return spellings.get(squeeze(value), words.get(squeeze(value)))


def find_index(value: str, attribute: Attribute) -> int | None:
    """Return the index of a value in any case, None if it is unknown."""
    spellings = {name.casefold(): i for i, name in enumerate(attribute.values)}
    return spellings.get(value.casefold())


def is_word(value: str) -> bool:
    """Return True if other spellings mean the same: not of numbers or signs (-1 is not 1), nor of negations (!mask)."""
    return any(char.isalpha() for char in value) and not set(value) & set("!?~≠¬")


def find_codes(source: Path, sheet: Sheet, given: Values, group: str, task: Task) -> list[str]:
    """Return an error for each column of numbers without a meaning; beside a label, they are checked against it."""
    cells = sheet.rows[0].cells if sheet.rows else {}
    if "label" in cells:
        return []
    errors = []
    for attribute in task:
        values = distinct(sheet, attribute.source)
        if attribute.is_number and are_codes(values, attribute):
            unit, last = attribute.unit or "numbers", len(attribute.values) - 1
            what = f"{column_name(source, sheet, attribute.source)}: expected {unit}, got only numbers up to {last}"
            errors.append(f"{what}. Classes of {attribute.name} can be read from a column label, the class from 0 to "
                          f"{task.num_classes - 1}")  # fmt: skip
        numbers = [value for value in values if NUMBER.fullmatch(value)] if not attribute.is_number else []
        if unknown := [value for value in numbers if find_meaning(attribute.name, value, given, task) is None]:
            example = ", ".join(f"{value}: …" for value in sorted(unknown)[:3])
            words = f"{', '.join(attribute.values[:-1])} or {attribute.values[-1]}"
            remedy = (f"Say which is {words}: {group}.values={{{attribute.name}: {{{example}}}}}" if group
                      else f"Write {words}")  # fmt: skip
            where = column_name(source, sheet, attribute.name)
            errors.append(f"{where} holds numbers that could mean anything. {remedy}")
    return errors


def find_doubtful_label(source: Path, sheet: Sheet, group: str, task: Task) -> list[str]:
    """Return an error for a column that is read as the class by a synonym but could be one attribute."""
    values, column = distinct(sheet, "label"), sheet.renamed.get("label", "label")
    where = column_name(source, sheet, "label")
    for attribute in task if values else ():
        if not attribute.is_number and all(find_meaning(attribute.name, value, {}, task) for value in values):
            remedy = column_remedy(group, attribute.name, column)
            return [f"{where}: expected classes, got words for {attribute.name}. {remedy}"]
    if "label" in sheet.renamed and "label" not in sheet.given and are_codes(values, task.attributes[0]):
        remedy = column_remedy(group, "label", column)
        return [f"{where} holds only numbers up to {max(map(int, values))}: classes from 0 to {task.num_classes - 1}, "
                f"or one attribute? {remedy} if they are classes"]  # fmt: skip
    return []


def column_remedy(group: str, name: str, column: str) -> str:
    """Return the remedy that lets a column be read as `name`."""
    return f"Set {group}.columns={{{name}: {column}}}" if group else f"Rename it to {name}"


def unknown_value(column: str, value: str, group: str, known: Sequence[str] = PARTS) -> str:
    """Return the message for a value without a meaning among the `known` ones, with the option that gives it one."""
    message, close = unknown_message(column, value, known), nearest(value, known)
    if not value or not group:
        return message
    remedy = "set " + values_override(group, f"{{{column}: {{{value}: {close or '…'}}}}}")
    return f"{message} Correct it, or {remedy}" if close else f"{message}. If it means one of them, {remedy}"


def values_override(group: str, mapping: str) -> str:
    """Return the override that sets values; Hydra reads keys of other scripts than ASCII only within quotes."""
    return f"{group}.values={mapping}" if mapping.replace("…", "").isascii() else f"'{group}.values=\"{mapping}\"'"


def describe_low_numbers(source: Path, sheet: Sheet, task: Task) -> Iterator[str]:
    """Yield a line for classes of one value of the first attribute, and for low numbers: they may mean other things."""
    first, labels = task.attributes[0], distinct(sheet, "label")
    words = {attribute.name for attribute in task if not attribute.is_number} & set(sheet.rows[0].cells)
    same = task.num_classes // len(first.values)
    if len(labels) > 1 and same > 1 and not words and all(is_below(value, same) for value in labels):
        yield (f"{column_name(source, sheet, 'label')} holds only classes up to {max(map(int, labels))}, so all images "
               f"have {first.name} {first.values[0]}. Numbers of one attribute alone are not classes")  # fmt: skip
    for attribute in task:
        values = distinct(sheet, attribute.source) if attribute.is_number else []
        if values and not labels and attribute.borders[0] > 10 and all(is_below(value, 10) for value in values):
            yield (f"{column_name(source, sheet, attribute.source)} holds only numbers up to {max(map(int, values))}, "
                   f"read as {attribute.unit or 'numbers'}, not as classes of {attribute.name}")  # fmt: skip


def are_codes(values: Sequence[str], attribute: Attribute) -> bool:
    """Return True if all values are numbers that number the values of one attribute, and not numbers of their own."""
    count = len(attribute.values)
    is_possible = not attribute.is_number or attribute.borders[0] > count
    return bool(values) and is_possible and all(is_below(value, count) for value in values)


def is_below(value: str, limit: int) -> bool:
    """Return True for a whole number below a limit."""
    return value.isdecimal() and len(value) <= 2 and int(value) < limit


def distinct(sheet: Sheet, column: str) -> list[str]:
    """Return the different values of a column in their order, empty without the column."""
    return list(dict.fromkeys(value for row in sheet.rows if (value := row.cells.get(column))))


def column_name(source: Path, sheet: Sheet, name: str) -> str:
    """Return a column as messages name it: with the file, under the name that it has there."""
    return f"{source}: column '{sheet.renamed.get(name, name)}'"


def describe_reading(source: Path, sheet: Sheet, read: Values) -> str | None:
    """Return one line with the columns and values that were read under other names, None if there are none."""
    parts = []
    for name in dict.fromkeys([*sheet.renamed, *(column for column, values in read.items() if values)]):
        values = ", ".join(f"'{value}' as {meaning}" for value, meaning in read.get(name, {}).items())
        if name not in sheet.renamed:
            parts.append(f"'{name}' with {values}")
        else:
            parts.append(f"'{sheet.renamed[name]}' as {name}" + (f" ({values})" if values else ""))
    return f"{source}: read column {', '.join(parts)}" if parts else None
