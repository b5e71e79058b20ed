"""Values of CSV columns: usual words are understood; numbers that could mean several things are errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from maskcls.core.columns import squeeze
from maskcls.core.csv_reader import Row, Sheet, raise_errors
from maskcls.core.errors import nearest, unknown_message
from maskcls.core.task import AGES, CLASSES, GENDERS, MASKS

Values = Mapping[str, Mapping[str, str]]  # {column: {value: what it means}}, as the user sets it
MEANINGS = {"mask": MASKS, "gender": GENDERS, "part": ("train", "eval")}  # what the values of a column can mean
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "mask": {
        "worn": (
            "wear", "wearing", "mask", "masked", "with mask", "wear mask", "mask on", "correct", "correct mask", "yes",
            "true", "mask1", "mask2", "mask3", "mask4", "mask5", "착용", "마스크", "마스크 착용", "정상 착용",
        ),
        "incorrect": (
            "incorrect mask", "incorrectly", "incorrectly worn", "worn incorrectly", "mask weared incorrect",
            "wear incorrect", "mask worn incorrectly", "mask incorrect", "improper", "wrong", "오착용", "잘못 착용",
            "잘못된 착용", "턱스크",
        ),
        "none": (
            "no mask", "no", "not wear", "not wearing", "not worn", "without mask", "without", "unmasked", "mask off",
            "normal", "false", "미착용", "마스크 미착용", "마스크 없음", "없음",
        ),
    },
    "gender": {
        "male": ("m", "man", "men", "boy", "남", "남자", "남성"),
        "female": ("f", "woman", "women", "girl", "여", "여자", "여성"),
    },
}  # fmt: skip
WORDS = {
    column: {squeeze(word): meaning for meaning, words in meanings.items() for word in (meaning, *words)}
    for column, meanings in SYNONYMS.items()
}
NUM_WORN = len(CLASSES) // len(MASKS)  # classes with a worn mask, the first ones
NUMBER = re.compile(r"[0-9]+(?:\.0*)?")


def check_values(given: Values) -> Values:
    """Return what values mean, as the user sets it; ValueError for an unknown column or meaning."""
    for column, values in given.items():
        if column not in MEANINGS:
            raise ValueError(unknown_message("column", column, MEANINGS))
        for value, meaning in values.items():
            if meaning not in MEANINGS[column]:
                raise ValueError(f"{value}: {unknown_message(column, meaning, MEANINGS[column])}")
    return given


def translate_values(
    source: Path, sheet: Sheet, given: Values, group: str
) -> tuple[list[Row], dict[str, dict[str, str]]]:  # fmt: skip
    """Return rows with the task's values of mask, gender and part, and {column: {value: meaning}} of other values.

    Unknown values stay, for an error that names their row. Raise DataError for values that could mean several things.
    `group` is the config group of the table: data or extra, empty for a table without options.
    """
    rows, read = sheet.rows, dict[str, dict[str, str]]()
    errors = [*find_codes(source, sheet, given, group), *find_doubtful_label(source, sheet, group)]
    meanings = {column: {value: meaning for value in distinct(sheet, column)
                         if (meaning := find_meaning(column, value, given)) and value != meaning}
                for column in MEANINGS}  # fmt: skip
    if changing := [column for column in MEANINGS if meanings[column]]:
        rows = [Row(where, cells | {column: meanings[column].get(cells[column], cells[column]) for column in changing})
                for where, cells in rows]  # fmt: skip
    for column in changing:
        read[column] = {value: name for value, name in meanings[column].items() if squeeze(value) != squeeze(name)}
    raise_errors(errors)
    return rows, read


def find_meaning(column: str, value: str, given: Values) -> str | None:
    """Return what a value means by the user's setting or as a usual word, None if it is unknown."""
    own = given.get(column, {})
    if value in own or not is_word(value):
        return own.get(value)
    spellings = {squeeze(key): meaning for key, meaning in own.items() if is_word(key)}
    return spellings.get(squeeze(value), WORDS.get(column, {}).get(squeeze(value)))


def is_word(value: str) -> bool:
    """Return True if other spellings mean the same: not of numbers or signs (-1 is not 1), nor of negations (!mask)."""
    return any(char.isalpha() for char in value) and not set(value) & set("!?~≠¬")


def find_codes(source: Path, sheet: Sheet, given: Values, group: str) -> list[str]:
    """Return an error for each column of numbers without a meaning; beside a label, they are checked against it."""
    cells = sheet.rows[0].cells if sheet.rows else {}
    if "label" in cells:
        return []
    errors = []
    for column in ("mask", "gender"):
        numbers = [value for value in distinct(sheet, column) if NUMBER.fullmatch(value)]
        if unknown := [value for value in numbers if find_meaning(column, value, given) is None]:
            example = ", ".join(f"{value}: …" for value in sorted(unknown)[:3])
            *names, last = MEANINGS[column]
            remedy = (f"Say which is {', '.join(names)} or {last}: {group}.values={{{column}: {{{example}}}}}" if group
                      else f"Write {', '.join(names)} or {last}")  # fmt: skip
            errors.append(f"{column_name(source, sheet, column)} holds numbers that could mean anything. {remedy}")
    if are_codes(distinct(sheet, "age")):
        errors.append(f"{column_name(source, sheet, 'age')}: expected years, got only numbers up to {len(AGES) - 1}. "
                      "Age classes can be read from a column label, the class from 0 to 17")  # fmt: skip
    return errors


def find_doubtful_label(source: Path, sheet: Sheet, group: str) -> list[str]:
    """Return an error for a column that is read as the class by a synonym but could be one attribute."""
    values, column = distinct(sheet, "label"), sheet.renamed.get("label", "label")
    where = column_name(source, sheet, "label")
    if values and all(find_meaning("mask", value, {}) for value in values):
        return [f"{where}: expected classes, got words for mask. {column_remedy(group, 'mask', column)}"]
    if "label" in sheet.renamed and "label" not in sheet.given and are_codes(values):
        return [f"{where} holds only numbers up to {max(map(int, values))}: classes from 0 to {len(CLASSES) - 1}, or "
                f"one attribute? {column_remedy(group, 'label', column)} if they are classes"]  # fmt: skip
    return []


def column_remedy(group: str, name: str, column: str) -> str:
    """Return the remedy that lets a column be read as `name`."""
    return f"Set {group}.columns={{{name}: {column}}}" if group else f"Rename it to {name}"


def unknown_value(column: str, value: str, group: str) -> str:
    """Return the message for a value without a meaning, with the option that gives it one."""
    message, close = unknown_message(column, value, MEANINGS[column]), nearest(value, MEANINGS[column])
    if not value or not group:
        return message
    remedy = "set " + values_override(group, f"{{{column}: {{{value}: {close or '…'}}}}}")
    return f"{message} Correct it, or {remedy}" if close else f"{message}. If it means one of them, {remedy}"


def values_override(group: str, mapping: str) -> str:
    """Return the override that sets values; Hydra reads keys of other scripts than ASCII only within quotes."""
    return f"{group}.values={mapping}" if mapping.replace("…", "").isascii() else f"'{group}.values=\"{mapping}\"'"


def describe_low_numbers(source: Path, sheet: Sheet) -> Iterator[str]:
    """Yield a line for classes that all mean a worn mask, and for ages of children: both may number something else."""
    labels, ages = distinct(sheet, "label"), distinct(sheet, "age")
    attributes = {"mask", "gender"} & set(sheet.rows[0].cells)
    if len(labels) > 1 and not attributes and all(is_below(value, NUM_WORN) for value in labels):
        yield (f"{column_name(source, sheet, 'label')} holds only classes up to {max(map(int, labels))}, so all people "
               "wear a mask. Numbers of mask, gender or age alone are not classes")  # fmt: skip
    if ages and not labels and all(is_below(value, 10) for value in ages):
        yield (f"{column_name(source, sheet, 'age')} holds only numbers up to {max(map(int, ages))}, read as years, "
               "not as age classes")  # fmt: skip


def are_codes(values: Sequence[str]) -> bool:
    """Return True if all values are numbers that number the values of one attribute."""
    return bool(values) and all(is_below(value, len(MASKS)) for value in values)


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
