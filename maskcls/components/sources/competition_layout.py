"""The competition's layout: people of train/train.csv with seven images each, the evaluation set of eval/info.csv."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from maskcls.core.competition import GENDERS, MASK18, MAX_AGE
from maskcls.core.csv_cells import parse_label, parse_number
from maskcls.core.csv_reader import (
    Row,
    find_duplicates,
    is_below_root,
    missing_path_message,
    raise_errors,
    read_rows,
    spell_as_on_disk,
    spellings_in,
)
from maskcls.core.csv_values import find_index, unknown_value
from maskcls.core.errors import and_others
from maskcls.core.group_values import find_groups, group_cells
from maskcls.core.missing_files import report_missing
from maskcls.core.table import Note
from maskcls.imaging.image_decoding import image_endings

CSV_FILES = ("train/train.csv", "eval/info.csv", "eval/labels.csv")
PERSON_COLUMNS = ("gender", "age", "path")  # of train.csv
MASK_BY_STEM = {f"mask{i}": 0 for i in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}


def read_train(people: list[Row], base: Path, note: Note) -> list[dict[str, Any]]:
    """Return the seven image rows of each person of train.csv; `path` is None where the image is missing."""
    errors, rows = find_duplicates(people, "path"), []
    groups = find_groups([row.cells for row in people], PERSON_COLUMNS)
    for location, cells in people:
        person = str(PurePosixPath(cells["path"]))
        folder = base / spell_as_on_disk(base, person)
        labels = parse_person(cells, location, errors)
        if not is_below_root(cells["path"]):
            errors.append(f"{location}: {missing_path_message('folder', base, cells['path'])}")
        elif not os.path.isdir(folder):
            report_missing(f"{location}: {missing_path_message('folder', base, cells['path'])}", errors, note)
        elif labels:
            known = {"person": person, "part": "train", **labels, **group_cells(cells, groups)}
            rows += person_images(folder, known)
    raise_errors(errors)
    return rows


def person_images(folder: Path, person: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the seven rows of a person; hidden files are not images."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.is_symlink() or os.path.exists(entry.path)]
    parts = [(*os.path.splitext(name), name) for name in sorted(names, reverse=True) if name[0] != "."]
    paths = {stem: os.path.join(folder, name) for stem, suffix, name in parts if suffix.lower() in image_endings()}
    return [{"path": paths.get(stem), "mask": mask, **person} for stem, mask in MASK_BY_STEM.items()]


def read_evaluation(base: Path, note: Note) -> list[dict[str, Any]]:
    """Return the rows of eval/info.csv in file order, with the labels of eval/labels.csv."""
    if not (base / "eval" / "info.csv").exists():
        if (base / "eval").exists():
            note(f"{base / 'eval'} is not used: it has no info.csv")
        return []
    info = read_rows(base / "eval" / "info.csv", ("ImageID",), ignored=("ans",), note=note)
    images, labels = base / "eval" / "images", read_eval_labels(base / "eval" / "labels.csv", note)
    names_on_disk = spellings_in(str(images))
    errors = find_duplicates(info, "ImageID")
    for location, cells in info:
        if cells["ImageID"] not in names_on_disk:
            report_missing(f"{location}: {missing_path_message('file', images, cells['ImageID'])}", errors, note)
    raise_errors(errors)
    if unused := sorted(set(labels) - {cells["ImageID"] for _, cells in info}):
        note(f"{len(unused)} rows of eval/labels.csv are not used: {and_others(unused)} are not in info.csv")
    names = [cells["ImageID"] for _, cells in info if cells["ImageID"] in names_on_disk]
    unlabelled = {"person": "", "mask": -1, "gender": -1, "age": float("nan")}
    return [{"path": images / names_on_disk[name], "part": "eval", **labels.get(name, unlabelled)} for name in names]


def read_eval_labels(source: Path, note: Note) -> dict[str, dict[str, Any]]:
    """Return {ImageID: labels} of the evaluation set, empty without a file of labels."""
    if not source.exists():
        return {}
    rows = read_rows(source, ("ImageID", "ans", "gender", "age", "path"), note=note)
    errors, labels = find_duplicates(rows, "ImageID"), {}
    for location, cells in rows:
        person, label = parse_person(cells, location, errors), parse_answer(cells["ans"], location, errors)
        if person and label and label["label"] != class_of(label["mask"], person):
            errors.append(f"{location}: ans {cells['ans']} is not the class of {cells['gender']}, {cells['age']}")
        labels[cells["ImageID"]] = {"person": cells["path"], "mask": label.get("mask"), **person}
    raise_errors(errors)
    return labels


def class_of(mask: int, person: Mapping[str, Any]) -> int:
    """Return the competition's class of a photo of a person."""
    return int(MASK18.encode(mask, person["gender"], MASK18["age"].bin(person["age"])))


def parse_person(cells: Mapping[str, str], where: str, errors: list[str]) -> dict[str, Any]:
    """Return gender and age of a row of the competition's CSV files; add messages for invalid cells to `errors`."""
    value = cells["gender"]
    gender = int(value) if value in ("0", "1") else find_index(value, MASK18["gender"])
    age = parse_number(cells["age"], MASK18["age"])
    if gender is None:
        errors.append(f"{where}: {unknown_value('gender', value, '', GENDERS)}")
    if age is None:
        errors.append(f"{where}: age must be a number of years from 0 to {MAX_AGE}, got {cells['age']!r}")
    return {} if gender is None or age is None else {"gender": gender, "age": age}


def parse_answer(value: str, where: str, errors: list[str]) -> dict[str, Any]:
    """Return mask and label of one of the 18 classes; add a message for an invalid one to `errors`."""
    label = parse_label(value or "none", MASK18, where, errors)
    return {"mask": int(MASK18.decode(label)[0]), "label": label} if label >= 0 else {}
