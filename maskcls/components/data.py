"""Data sources: each reads one layout and returns the image table, one row per image.

Columns: id (path relative to the root, the image's name everywhere) · path · person · mask (0–2) · gender (0–1) · age
(years) · label (0–17) · part (train | eval | extra). Unknown values are −1; an unknown age is NaN.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.core.csv_cells import parse_label, parse_person
from maskcls.core.csv_reader import (
    Row,
    find_duplicates,
    is_below_root,
    missing_path_message,
    note_blanks,
    note_unused_files,
    raise_errors,
    read_rows,
    spell_as_on_disk,
    spellings_in,
)
from maskcls.core.errors import DataError, and_others
from maskcls.core.image_rows import parse_row, to_table
from maskcls.core.missing_files import report_missing
from maskcls.core.registry import Component, Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.table import Note
from maskcls.core.task import bin_age, encode
from maskcls.imaging.image_decoding import image_endings
from maskcls.synthetic.dataset import write
from maskcls.system import console
from maskcls.system.files import file_lock

registry = Registry("data")
OPTIONAL = ("label", "mask", "gender", "age", "person", "part")
MASK_BY_STEM = {f"mask{i}": 0 for i in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}
MAX_PEOPLE = 100_000
PeopleCount = Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
DrawnSide = Annotated[int, Field(ge=8, le=2048)]  # pixels


def check_data_dir(value: str | None) -> str:
    """Return an existing data root, by default the environment variable MASKCLS_DATA."""
    value = value or os.environ.get("MASKCLS_DATA")
    if not value:
        raise ValueError("not set. Set data.root=<folder> or the environment variable MASKCLS_DATA")
    return check_dir(value)


def check_dir(value: str) -> str:
    """Return the path of an existing folder."""
    if not os.path.isdir(value):
        raise ValueError(f"{value!r} is not an existing folder")
    return value


def check_file(value: str) -> str:
    """Return the path of an existing file."""
    if not os.path.isfile(value):
        raise ValueError(f"{value!r} is not an existing file")
    return value


@registry.register
def competition(
    note: Note, *, root: Annotated[str | None, AfterValidator(check_data_dir)] = None, links: bool = False
) -> pd.DataFrame:
    """Read the AI Stages layout: train/train.csv with seven images per person, eval/info.csv without labels.

    A person is a folder (`path`), never an `id`. If eval/labels.csv exists (ImageID,ans,gender,age,path), the
    evaluation set is scored. A note counts missing images and unused files and rows (but not the `._` files of macOS,
    which are not images). A missing folder or a bad row raises DataError. `links` allows images that are symbolic links
    to outside the root.
    """
    base = Path(str(root))
    people = read_rows(base / "train" / "train.csv", ("gender", "age", "path"), ignored=("id", "race"), note=note)
    rows = read_train(people, base / "train" / "images", note) + read_evaluation(base, note)
    present = [row for row in rows if row["path"]]
    if missing := [row["person"] for row in rows if not row["path"]]:
        names = and_others(list(dict.fromkeys(missing)))
        note(f"{len(missing)} images are missing from train/images and were left out, of people {names}")
    for folder in (base / "train" / "images", base / "eval" / "images"):
        note_unused_files(folder, [row["path"] for row in present], note)
    return to_table(present, base, links)


def read_train(people: list[Row], base: Path, note: Note) -> list[dict[str, Any]]:
    """Return the seven image rows of each person of train.csv; `path` is None where the image is missing."""
    errors, rows = find_duplicates(people, "path"), []
    for location, cells in people:
        person = str(PurePosixPath(cells["path"]))
        folder = base / spell_as_on_disk(base, person)
        labels = parse_person(cells, location, errors)
        if not is_below_root(cells["path"]):
            errors.append(f"{location}: {missing_path_message('folder', base, cells['path'])}")
        elif not os.path.isdir(folder):
            report_missing(f"{location}: {missing_path_message('folder', base, cells['path'])}", errors, note)
        elif labels:
            rows += person_images(folder, {"person": person, "part": "train", **labels})
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
        person, label = parse_person(cells, location, errors), parse_label(cells["ans"], location, errors)
        if person and label and label["label"] != encode(label["mask"], person["gender"], bin_age(person["age"])):
            errors.append(f"{location}: ans {cells['ans']} is not the class of {cells['gender']}, {cells['age']}")
        labels[cells["ImageID"]] = {"person": cells["path"], "mask": label.get("mask"), **person}
    raise_errors(errors)
    return labels


@registry.register
def synthetic(
    note: Note, *, root: str = "data", people: PeopleCount = 120,
    eval_people: Annotated[int, Field(ge=0, le=MAX_PEOPLE)] = 40, height: DrawnSide = 256, width: DrawnSide = 192,
    seed: NonNegativeInt = 0,
) -> pd.DataFrame:  # fmt: skip
    """Draw the synthetic people once into `root`, in the competition's layout, and read them."""
    if os.environ.get("MASKCLS_DATA"):
        note("data=synthetic does not read MASKCLS_DATA, which is set. data=competition does")
    folder = synthetic_dir(root, people, eval_people, height, width, seed)
    draw_once(folder, people=people, eval_people=eval_people, height=height, width=width, seed=seed)
    return competition(note, root=str(folder))


def synthetic_dir(root: str, people: int, eval_people: int, height: int, width: int, seed: int) -> Path:
    """Return the folder of a synthetic data set."""
    return Path(root) / f"people-{people}+{eval_people}-{height}x{width}-seed{seed}"


def without_drawing(source: Component) -> Component:
    """Return a data source that reads synthetic people where they are and draws nothing."""
    if source.builder is not synthetic:
        return source
    return Component("data", "competition", {"root": str(synthetic_dir(**source.params))}, competition)


def draw_once(folder: Path, **options: int) -> None:
    """Draw the synthetic set unless it exists; a lock keeps two processes from drawing it twice."""
    with file_lock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            console.info(f"drawing {options['people']} + {options['eval_people']} people into {folder}")
            write(folder, **options, track=console.track)


@registry.register
def table(
    note: Note, *, file: Annotated[str, AfterValidator(check_file)], root: str | None = None, links: bool = False
) -> pd.DataFrame:
    """Read any CSV with path, mask, gender, age (or label), and optionally person and part (train | eval).

    Paths are relative to `root`, by default the CSV's folder. Without a person column each image is its own person.
    A note lists columns with other names; a misspelled column raises DataError. `links` allows images that are symbolic
    links to outside the root.
    """
    source = Path(file)
    base = Path(check_data_dir(root)) if root else source.parent
    rows = read_rows(source, ("path",), OPTIONAL, note=note)
    if not rows:
        raise DataError(f"{source} has a header but no rows")
    columns = set(rows[0].cells)
    if "label" not in columns and (missing := {"mask", "gender", "age"} - columns):
        raise DataError(f"{source} needs a column label, or mask, gender and age: missing {', '.join(sorted(missing))}")
    errors = find_duplicates(rows, "path")
    parsed = [parse_row(cells, base, location, errors, note) for location, cells in rows]
    raise_errors(errors)
    note_blanks(source, rows, note)
    return to_table([row for row in parsed if row["path"]], base, links)
