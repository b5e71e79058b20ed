"""Parsing of mask, gender, age and class from CSV cells, with an error message for each invalid cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskcls.core.csv_reader import MAX_AGE, parse_age, parse_category
from maskcls.core.csv_values import unknown_value
from maskcls.core.task import CLASSES, bin_age, decode

MASK_CODES = {"worn": 0, "wear": 0, "incorrect": 1, "none": 2, "normal": 2, "0": 0, "1": 1, "2": 2}
GENDER_CODES = {"male": 0, "female": 1, "0": 0, "1": 1}


def parse_person(cells: Mapping[str, str], where: str, errors: list[str], group: str = "") -> dict[str, Any]:
    """Return gender and age of a row, which a config group reads; add messages for invalid cells to `errors`."""
    gender, age = parse_category(cells["gender"], GENDER_CODES), parse_age(cells["age"])
    if gender is None:
        errors.append(f"{where}: {unknown_value('gender', cells['gender'], group)}")
    if age is None:
        errors.append(invalid_age_message(cells["age"], where))
    return {} if gender is None or age is None else {"gender": gender, "age": age}


def parse_class(cells: Mapping[str, str], where: str, errors: list[str]) -> dict[str, Any]:
    """Return label, mask, gender and age of a row with a label; its other cells must agree with the label."""
    age, attributes = parse_age(cells.get("age", "")), parse_label(cells["label"], where, errors)
    if attributes and age is not None and bin_age(age) != decode(attributes["label"])[2]:
        errors.append(f"{where}: label {cells['label']} conflicts with age {cells['age']}")
    if cells.get("age") and age is None:
        errors.append(invalid_age_message(cells["age"], where))
    for column, codes in (("mask", MASK_CODES), ("gender", GENDER_CODES)):
        if attributes and cells.get(column) and parse_category(cells[column], codes) != attributes[column]:
            errors.append(f"{where}: label {cells['label']} conflicts with {column} {cells[column]!r}")
    return attributes | {"age": float("nan") if age is None else age}


def invalid_age_message(value: str, where: str) -> str:
    """Return the message for a cell that is not an age."""
    return f"{where}: age must be a number of years from 0 to {MAX_AGE}, got {value!r}"


def parse_label(value: str, where: str, errors: list[str]) -> dict[str, Any]:
    """Return mask, gender and label of a class number; add a message for an invalid one to `errors`."""
    label = int(value) if value.isdecimal() and len(value) <= 2 else -1
    if not 0 <= label < len(CLASSES):
        errors.append(f"{where}: label must be a class from 0 to {len(CLASSES) - 1}, got {value!r}")
        return {}
    mask, gender, _ = decode(label)
    return {"mask": int(mask), "gender": int(gender), "label": label}
