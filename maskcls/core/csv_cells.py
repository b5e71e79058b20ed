"""Cells of a CSV that say mask, gender, age or class: their words, and a sentence for each that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskcls.core.csv_reader import MAX_AGE, parse_age, parse_category
from maskcls.core.errors import unknown_message
from maskcls.core.task import CLASSES, GENDERS, bin_age, decode

MASK_WORDS = {"worn": 0, "wear": 0, "incorrect": 1, "none": 2, "normal": 2, "0": 0, "1": 1, "2": 2}
GENDER_WORDS = {"male": 0, "female": 1, "0": 0, "1": 1}


def parse_person(cells: Mapping[str, str], where: str, faults: list[str]) -> dict[str, Any]:
    """Return gender and age of a row of a CSV, adding what is wrong with them to `faults`."""
    gender, age = parse_category(cells["gender"], GENDER_WORDS), parse_age(cells["age"])
    if gender is None:
        faults.append(f"{where}: {unknown_message('gender', cells['gender'], GENDERS)}")
    if age is None:
        faults.append(f"{where}: age {cells['age']!r} is no age in years from 0 to {MAX_AGE}")
    return {} if gender is None or age is None else {"gender": gender, "age": age}


def classified(cells: Mapping[str, str], where: str, faults: list[str]) -> dict[str, Any]:
    """Return label, mask, gender and age of a row that names its class; what else it says must agree with that."""
    age, known = parse_age(cells.get("age", "")), parse_label(cells["label"], where, faults)
    if known and age is not None and bin_age(age) != decode(known["label"])[2]:
        faults.append(f"{where}: label {cells['label']} is not the class of age {cells['age']}")
    if cells.get("age") and age is None:
        faults.append(f"{where}: age {cells['age']!r} is no age in years from 0 to {MAX_AGE}")
    for column, words in (("mask", MASK_WORDS), ("gender", GENDER_WORDS)):
        if known and cells.get(column) and parse_category(cells[column], words) != known[column]:
            faults.append(f"{where}: label {cells['label']} is not the class of {column} {cells[column]!r}")
    return known | {"age": float("nan") if age is None else age}


def parse_label(value: str, where: str, faults: list[str]) -> dict[str, Any]:
    """Return mask, gender and label of a row that names its class."""
    label = int(value) if value.isdecimal() and len(value) <= 2 else -1
    if not 0 <= label < len(CLASSES):
        faults.append(f"{where}: label {value!r} is no class from 0 to 17")
        return {}
    mask, gender, _ = decode(label)
    return {"mask": int(mask), "gender": int(gender), "label": label}
