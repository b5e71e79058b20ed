"""Data sources: each reads one layout and returns the image table, one row per image.

Columns: id (path relative to the root, the image's name everywhere) · path · person · one for each attribute of the
task, the index of its value or its number · label (the class) · part (train | eval | extra). Unknown values are −1; an
unknown number is NaN.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, BeforeValidator, Field

from maskcls.components.sources.competition_layout import CSV_FILES, PERSON_COLUMNS, read_evaluation, read_train
from maskcls.core.columns import Columns
from maskcls.core.competition import MASK18, check_attributes
from maskcls.core.csv_reader import (
    note_unused_files,
    read_rows,
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
from maskcls.core.errors import ConfigError, and_others
from maskcls.core.image_rows import to_table
from maskcls.core.label_patches import relabel
from maskcls.core.registry import Component, Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.table import Note
from maskcls.core.task import Task
from maskcls.evaluation.planted_errors import count_errors, plant_errors
from maskcls.synthetic.dataset import DRAWING_VERSION, write
from maskcls.system import console
from maskcls.system.files import content_hash, file_lock

registry = Registry("data")
MAX_PEOPLE = 100_000
PeopleCount = Annotated[int, Field(ge=1, le=MAX_PEOPLE)]
TableColumns = Annotated[dict[str, str | None], BeforeValidator(with_text_keys)]
TableValues = Annotated[dict[str, dict[str, str]], BeforeValidator(with_text_keys), BeforeValidator(parse_mapping)]
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
    note: Note, task: Task, *, root: Annotated[str | None, AfterValidator(check_data_dir)] = None, links: bool = False
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
    return to_table(present, base, task, links)


@registry.register
def synthetic(
    note: Note, task: Task, *, root: str = "data", people: PeopleCount = 160,
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
    table = competition(note, task, root=str(folder))
    return with_errors(table, errors, seed, note, task) if errors else table


def with_errors(table: pd.DataFrame, share: float, seed: int, note: Note, task: Task) -> pd.DataFrame:
    """Return the table with planted label errors of training people, and note their number."""
    train = table[table["part"] == "train"]
    counts, rng = count_errors(train, share, MASK18), np.random.default_rng([seed, 1])
    wrong, planted = plant_errors(train, counts, rng, ("gender", "age"), MASK18)
    relabel(wrong, task)
    people = planted.groupby("kind")["person"].nunique()
    note("data.errors: planted " + ", ".join(f"{people.get(kind, 0)} errors of {kind}" for kind in MASK18.names))
    return pd.concat([wrong, table[table["part"] != "train"]]).loc[table.index]


def synthetic_dir(root: str, people: int, eval_people: int, height: int, width: int, seed: int, **_: float) -> Path:
    """Return the folder of a synthetic data set; another way of drawing has another folder, planted errors have not."""
    return Path(root) / f"people-{people}+{eval_people}-{height}x{width}-seed{seed}-v{DRAWING_VERSION}"


def without_drawing(source: Component) -> Component:
    """Return a data source that reads synthetic people where they are and draws nothing."""
    if source.builder is not synthetic:
        return source
    return Component(
        "data", "competition", {"root": str(synthetic_dir(**source.params))}, competition, task=source.task
    )


def draw_once(folder: Path, **options: int) -> None:
    """Draw the synthetic set unless it exists; a lock keeps two processes from drawing it twice."""
    with file_lock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            console.info(f"drawing {options['people']} + {options['eval_people']} people into {folder}")
            write(folder, **options, track=console.track)


@registry.register
def table(
    note: Note, task: Task, *, file: Annotated[str, AfterValidator(check_file)], root: str | None = None,
    links: bool = False, columns: TableColumns = {}, values: TableValues = {},
) -> pd.DataFrame:  # fmt: skip
    """Read any CSV with path, a column for each attribute (or label), and optionally person and part (train | eval).

    Paths are absolute, or relative to `root` or the CSV's folder. Usual names of columns and values are understood, and
    a note names them. An empty cell is an attribute without a label, which takes no part in the loss and the scores of
    its image. Without a person column, or the column task.group, each image is its own person.

    Args:
        file: CSV file with a row per image
        root: folder that paths are relative to, beside the folder of the CSV
        links: allow images that are symbolic links to outside the folder
        columns: column of the CSV for each of ours whose name is not understood, as {gender: sex}
        values: value of ours for each word of a column that is not understood, as {gender: {M: male}}
    """
    return read_table(table_source("data", task, file, root, columns, values), note, links)


def table_source(
    group: str, task: Task, file: str, root: str | None, columns: Columns, values: Values, **_: object
) -> TableSource:
    """Return a CSV of images with the folders of its paths: `root`, if given, then its own."""
    folders = [Path(check_data_dir(root))] if root else []
    return TableSource(Path(file), (*folders, Path(file).parent), columns, values, group, task)


@registry.identity(table)
def table_content(task: Task, **params: Any) -> dict[str, Any]:
    """Return the content of a CSV that determines results, wherever it and its images lie."""
    return {"rows": table_rows_digest(table_source("data", task, **params))}


@registry.task_check(table)
def check_table_options(task: Task, *, columns: Columns, values: Values, **_: object) -> None:
    """Raise ConfigError for columns and values that a table of the task does not have."""
    check_options("data", task, columns, values)


def check_options(group: str, task: Task, columns: Columns, values: Values) -> None:
    """Raise ConfigError for columns and values of a config group that a table of the task does not have."""
    key = "columns"
    try:
        check_columns(columns, task)
        key = "values"
        check_values(values, task)
    except ValueError as error:
        raise ConfigError(f"{group}.{key} (table): {error}") from None


@registry.task_check(competition, synthetic)
def check_competition(task: Task, **_: object) -> None:
    """Raise ConfigError for a task with attributes that the competition's data does not have."""
    check_attributes(task, "the competition's data")
    if task.group != "person":
        raise ConfigError(f"task.group={task.group}: the competition's data has people. Leave task.group out")


@registry.identity(competition)
def competition_content(*, root: str | None, links: bool) -> dict[str, Any]:
    """Return the content of the CSV files of the competition's layout: their rows, in any order."""
    files = [Path(str(root), *name.split("/")) for name in CSV_FILES]
    texts = [file.read_text("utf-8", "replace") if file.is_file() else "" for file in files]
    return {"rows": content_hash([sorted(text.splitlines()) for text in texts])}
