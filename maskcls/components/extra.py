"""Extra training data: images that are never scored, without copies of images in the table."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.components import data
from maskcls.core.columns import Columns
from maskcls.core.competition import GENDERS, MASK18, MASKS, MAX_AGE, check_attributes
from maskcls.core.csv_cells import parse_number
from maskcls.core.csv_table import read_table, table_rows_digest
from maskcls.core.csv_values import Values
from maskcls.core.errors import DataError, unknown_message
from maskcls.core.image_rows import to_table
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.table import Note
from maskcls.core.task import Task
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.system import console
from maskcls.system.files import content_hash
from maskcls.system.processes import num_cpus

registry = Registry("extra")
FIELDS = {"age": r"\d+(?:\.\d+)?", "gender": "[^_]+?", "person": ".+?"}


def check_pattern(pattern: str) -> str:
    """Return a file name pattern with the fields {age} and {gender}."""
    fields = re.findall(r"{(.*?)}", pattern)
    for field in fields:
        if field not in FIELDS:
            raise ValueError(unknown_message("field", field, FIELDS))
    if sorted(set(fields)) != sorted(fields) or not {"age", "gender"} <= set(fields):
        raise ValueError(f"expected a pattern with {{age}} and {{gender}} once each, got {pattern!r}")
    return pattern


def check_age_range(value: list[float] | None) -> list[float] | None:
    """Return a [youngest, oldest] pair or None."""
    if value is not None and (len(value) != 2 or value[0] > value[1]):
        raise ValueError(f"expected [youngest, oldest], got [{', '.join(f'{age:g}' for age in value)}]")
    return value


@registry.register
def none(table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def table_(
    table: pd.DataFrame, note: Note, task: Task, *, file: Annotated[str, AfterValidator(data.check_file)],
    root: str | None = None, links: bool = False, columns: data.TableColumns = {}, values: data.TableValues = {},
) -> pd.DataFrame:  # fmt: skip
    """Add the images of a CSV, read as by data=table; all are trained on, also those of part eval.

    Args:
        file: CSV file with a row per image
        root: folder that paths are relative to, beside the folder of the CSV
        links: allow images that are symbolic links to outside the folder
        columns: column of the CSV for each of ours whose name is not understood, as {gender: sex}
        values: value of ours for each word of a column that is not understood, as {gender: {M: male}}
    """
    new = read_table(data.table_source("extra", task, file, root, columns, values), note, links)
    new = new.sort_values("id", ignore_index=True)
    if num_eval := int((new["part"] == "eval").sum()):
        note(f"extra: {num_eval} images of {file} have part eval but are trained on")
    return append_images(table, new, file, note)


@registry.identity(table_)
def table_content(task: Task, **params: Any) -> dict[str, Any]:
    """Return the content of a CSV that determines results, wherever it and its images lie."""
    return {"rows": table_rows_digest(data.table_source("extra", task, **params))}


@registry.task_check(table_)
def check_table_options(task: Task, *, columns: Columns, values: Values, **_: object) -> None:
    """Raise ConfigError for columns and values that a table of the task does not have."""
    data.check_options("extra", task, columns, values)


@registry.register
def folder(
    table: pd.DataFrame, note: Note, task: Task, *, root: Annotated[str, AfterValidator(data.check_dir)],
    pattern: Annotated[str, AfterValidator(check_pattern)] = "{age}_{gender}_*",
    genders: dict[str, Literal["male", "female"]] = {"0": "male", "1": "female"},
    mask: Literal["worn", "incorrect", "none"] = "none",
    ages: Annotated[list[NonNegativeFloat] | None, AfterValidator(check_age_range)] = None, links: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Add the images below a folder whose names, without suffix, contain {age}, {gender} and optionally {person}.

    Without {person} each image is its own person. Images with other names are left out and counted in a note.

    Args:
        root: folder with the images, searched recursively
        pattern: pattern of file names without suffix, with {age}, {gender} and optionally {person}; * matches anything
        genders: gender for each {gender} of a file name
        mask: mask state of all images
        ages: [lowest, highest] age in years of the images to add; null: all
        links: allow images that are symbolic links to outside the folder
    """
    base, regex = Path(root), compile_pattern(pattern)
    paths, left_out = find_images(base)
    rows = [row for path in paths if (row := parse_name(path, base, regex, genders, MASKS.index(mask)))]
    if len(rows) < len(paths):
        note(f"extra: {len(paths) - len(rows)} images below {root} do not match {pattern!r} and were left out")
    if left_out:
        note(f"extra: {root}: {describe_left_out(left_out)}")
    low, high = ages or (0, MAX_AGE)
    selected = [row for row in rows if low <= row["age"] <= high]
    if len(selected) < len(rows):
        note(f"extra.ages: {len(rows) - len(selected)} images with ages outside {low:g} to {high:g} were left out")
    if not selected:
        what = f"extra: none of the {len(paths)} images in {root} matches extra.pattern and extra.ages"
        raise DataError(f"{what}. Change one of them")
    return append_images(table, to_table(selected, base, task, links), root, note)


@registry.task_check(folder)
def check_competition(task: Task, **_: object) -> None:
    """Raise ConfigError for a task with attributes that file names do not hold."""
    check_attributes(task, "extra=folder")


@registry.identity(folder)
def folder_content(*, root: str, links: bool, **params: Any) -> dict[str, Any]:
    """Return the parameters of a folder of images that determine results, and a hash of the names of its images."""
    names = [path.relative_to(root).as_posix() for path in find_images(root)[0]]
    return {**params, "names": content_hash(names)}


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern with fields in braces and `*`."""
    parts = re.split(r"({\w+}|\*)", pattern)
    groups = {f"{{{field}}}": f"(?P<{field}>{text})" for field, text in FIELDS.items()} | {"*": ".*"}
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def parse_name(
    path: Path, base: Path, regex: re.Pattern[str], genders: Mapping[str, str], mask: int
) -> dict[str, Any] | None:  # fmt: skip
    """Return the row of an image from its name, or None if the name does not match."""
    match = regex.fullmatch(path.stem)
    if match is None or match["gender"] not in genders or (
        age := parse_number(match["age"], MASK18["age"])
    ) is None:
        return None
    person = match.groupdict().get("person") or path.relative_to(base).as_posix()
    gender = GENDERS.index(genders[match["gender"]])
    return {"path": path, "person": person, "mask": mask, "gender": gender, "age": age, "part": "extra"}


def append_images(table: pd.DataFrame, new: pd.DataFrame, source: str, note: Note) -> pd.DataFrame:
    """Return the table with new images as part `extra`, without copies of images that it contains."""
    shared = set(new.loc[new["person"] != new["id"], "person"]) & set(table["person"])
    if shared:
        raise DataError(f"extra: {len(shared)} people of {source} are already in the data, such as {min(shared)}")
    new = new.assign(part="extra", id="extra/" + new["id"], person="extra/" + new["person"])
    keep = ~is_duplicate([*table["path"], *new["path"]])[len(table) :].to_numpy()
    note(f"extra: {keep.sum()} images of {source} were added; {(~keep).sum()} copies of other images were left out")
    is_taken = new["id"][keep].isin(table["id"])
    if is_taken.any():
        raise DataError(f"extra: {new['id'][keep][is_taken].iloc[0]!r} is already in the data")
    return pd.concat([table, new[keep]], ignore_index=True)


def is_duplicate(paths: list[str]) -> pd.Series[bool]:
    """Return for each file whether an earlier one has the same content; only files of equal size are read."""
    sizes = pd.Series([os.stat(path).st_size for path in paths], dtype="int64")
    same_size = [int(i) for i in np.flatnonzero(sizes.duplicated(keep=False))]
    fingerprints = [str(size) for size in sizes]
    contents = console.track(file_hashes([paths[i] for i in same_size]), len(same_size), "comparing files")
    for i, content in zip(same_size, contents, strict=True):
        fingerprints[i] = content
    return pd.Series(fingerprints, dtype=str).duplicated()


def file_hashes(paths: list[str]) -> Iterator[str]:
    """Yield the SHA-256 of each file, computed in parallel."""
    with ThreadPoolExecutor(num_cpus()) as pool:
        yield from pool.map(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest(), paths)
