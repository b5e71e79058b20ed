"""Data sources: each reads one layout and returns the image table, one row per image.

Columns: id (path relative to the root, the image's name everywhere) · path · person · mask (0–2) · gender (0–1) · age
(years) · label (0–17) · part (train | eval | extra). Unknown values are −1; an unknown age is NaN.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from maskcls.core.columns import Columns
from maskcls.core.competition import MASK18
from maskcls.core.csv_cells import parse_label, parse_person
from maskcls.core.csv_reader import (
    Row,
    find_duplicates,
    is_below_root,
    missing_path_message,
    note_unused_files,
    raise_errors,
    read_rows,
    spell_as_on_disk,
    spellings_in,
)
from maskcls.core.csv_table import (
    TableSource,
    check_columns,
    parse_mapping,
    read_table,
    table_rows_digest,
    with_text_keys,
)
from maskcls.core.csv_values import Values, check_values
from maskcls.core.errors import and_others
from maskcls.core.group_values import find_groups, group_cells
from maskcls.core.image_rows import to_table
from maskcls.core.missing_files import report_missing
from maskcls.core.registry import Component, Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.table import Note
from maskcls.core.task import ATTRIBUTES, bin_age, encode
from maskcls.evaluation.planted_errors import count_errors, plant_errors
from maskcls.imaging.image_decoding import image_endings
from maskcls.synthetic.dataset import DRAWING_VERSION, write
from maskcls.system import console
from maskcls.system.files import content_hash, file_lock

registry = Registry("data")
CSV_FILES = ("train/train.csv", "eval/info.csv", "eval/labels.csv")
PERSON_COLUMNS = ("gender", "age", "path")  # of train.csv
MASK_BY_STEM = {f"mask{i}": 0 for i in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}
MAX_PEOPLE = 100_000
PeopleCount = Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
TableColumns = Annotated[dict[str, str | None], BeforeValidator(with_text_keys), AfterValidator(check_columns)]
TableValues = Annotated[
    dict[str, dict[str, str]], BeforeValidator(with_text_keys), BeforeValidator(parse_mapping),
    AfterValidator(check_values),
]  # fmt: skip
DrawnSide = Annotated[int, Field(ge=8, le=2048)]  # pixels


def check_data_dir(value: str | None) -> str:
    """Return an existing data root, by default the environment variable MASKCLS_DATA."""
    value = value or os.environ.get("MASKCLS_DATA")
    if not value:
        raise ValueError("expected a folder, got none. Set data.root=<folder> or the environment variable MASKCLS_DATA")
    return check_dir(value)


def check_dir(value: str) -> str:
    """Return the path of an existing folder."""
    if not os.path.isdir(value):
        raise ValueError(f"expected an existing folder, got {value!r}")
    return value


def check_file(value: str) -> str:
    """Return the path of an existing file."""
    if not os.path.isfile(value):
        raise ValueError(f"expected an existing file, got {value!r}")
    return value


@registry.register
def competition(
    note: Note, *, root: Annotated[str | None, AfterValidator(check_data_dir)] = None, links: bool = False
) -> pd.DataFrame:
    """Read the AI Stages layout: train/train.csv with seven images per person, eval/info.csv without labels.

    A person is a folder (`path`), never an `id`. If eval/labels.csv exists (ImageID,ans,gender,age,path), the
    evaluation set is scored. A note counts missing images and unused files and rows (but not the `._` files of macOS,
    which are not images). A missing folder or a bad row raises DataError.

    Args:
        root: folder with train/ and eval/; by default the environment variable MASKCLS_DATA
        links: allow images that are symbolic links to outside the folder
    """
    base = Path(str(root))
    source = base / "train" / "train.csv"
    people = read_rows(source, PERSON_COLUMNS, ignored=("id", "race"), note=note, with_groups=True)
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
        person, label = parse_person(cells, location, errors), parse_label(cells["ans"], location, errors)
        if person and label and label["label"] != encode(label["mask"], person["gender"], bin_age(person["age"])):
            errors.append(f"{location}: ans {cells['ans']} is not the class of {cells['gender']}, {cells['age']}")
        labels[cells["ImageID"]] = {"person": cells["path"], "mask": label.get("mask"), **person}
    raise_errors(errors)
    return labels


@registry.register
def synthetic(
    note: Note, *, root: str = "data", people: PeopleCount = 160,
    eval_people: Annotated[int, Field(ge=0, le=MAX_PEOPLE)] = 40, height: DrawnSide = 256, width: DrawnSide = 192,
    seed: NonNegativeInt = 0, errors: Annotated[float, Field(ge=0, le=0.5)] = 0.0,
) -> pd.DataFrame:  # fmt: skip
    """Draw the synthetic people once into `root`, in the competition's layout, and read them.

    Planted label errors are those of the returned table alone: with errors=0 the same rows have the true labels.

    Args:
        root: folder to draw the images into
        people: number of people in the training set
        eval_people: number of people in the evaluation set
        height: height of the drawn images, in pixels
        width: width of the drawn images, in pixels
        seed: seed of the drawing and of the planted errors
        errors: share of the training people with a planted label error of each kind: gender, age, two masks swapped
    """
    if os.environ.get("MASKCLS_DATA"):
        note("data=synthetic does not read MASKCLS_DATA, which is set. data=competition does")
    folder = synthetic_dir(root, people, eval_people, height, width, seed)
    draw_once(folder, people=people, eval_people=eval_people, height=height, width=width, seed=seed)
    table = competition(note, root=str(folder))
    return with_errors(table, errors, seed, note) if errors else table


def with_errors(table: pd.DataFrame, share: float, seed: int, note: Note) -> pd.DataFrame:
    """Return the table with planted label errors of training people, and note their number."""
    train = table[table["part"] == "train"]
    counts, rng = count_errors(train, share, MASK18), np.random.default_rng([seed, 1])
    wrong, planted = plant_errors(train, counts, rng, ("gender", "age"), MASK18)
    people = planted.groupby("kind")["person"].nunique()
    note("data.errors: planted " + ", ".join(f"{people.get(kind, 0)} errors of {kind}" for kind in ATTRIBUTES))
    return pd.concat([wrong, table[table["part"] != "train"]]).loc[table.index]


def synthetic_dir(root: str, people: int, eval_people: int, height: int, width: int, seed: int, **_: float) -> Path:
    """Return the folder of a synthetic data set; another way of drawing has another folder, planted errors have not."""
    return Path(root) / f"people-{people}+{eval_people}-{height}x{width}-seed{seed}-v{DRAWING_VERSION}"


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
    note: Note, *, file: Annotated[str, AfterValidator(check_file)], root: str | None = None, links: bool = False,
    columns: TableColumns = {}, values: TableValues = {},
) -> pd.DataFrame:  # fmt: skip
    """Read any CSV with path, mask, gender, age (or label), and optionally person and part (train | eval).

    Paths are absolute, or relative to `root` or the CSV's folder. Usual names of columns and values are understood, and
    a note names them. Without a person column each image is its own person.

    Args:
        file: CSV file with a row per image
        root: folder that paths are relative to, beside the folder of the CSV
        links: allow images that are symbolic links to outside the folder
        columns: column of the CSV for each of ours whose name is not understood, as {gender: sex}
        values: value of ours for each word of a column that is not understood, as {gender: {M: male}}
    """
    return read_table(table_source("data", file, root, columns, values), note, links)


def table_source(
    group: str, file: str, root: str | None, columns: Columns, values: Values, **_: object
) -> TableSource:  # fmt: skip
    """Return a CSV of images with the folders of its paths: `root`, if given, then its own."""
    folders = [Path(check_data_dir(root))] if root else []
    return TableSource(Path(file), (*folders, Path(file).parent), columns, values, group)


@registry.identity(table)
def table_content(**params: Any) -> dict[str, Any]:
    """Return the content of a CSV that determines results, wherever it and its images lie."""
    return {"rows": table_rows_digest(table_source("data", **params))}


@registry.identity(competition)
def competition_content(*, root: str | None, links: bool) -> dict[str, Any]:
    """Return the content of the CSV files of the competition's layout: their rows, in any order."""
    files = [Path(str(root), *name.split("/")) for name in CSV_FILES]
    texts = [file.read_text("utf-8", "replace") if file.is_file() else "" for file in files]
    return {"rows": content_hash([sorted(text.splitlines()) for text in texts])}
