"""Rows of the image table: parsed from the cells of a CSV, and joined into the table."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_cells import parse_attribute_cells, parse_class
from maskcls.core.csv_reader import find_outside_links, is_utf8, raise_errors
from maskcls.core.csv_values import unknown_value
from maskcls.core.errors import DataError
from maskcls.core.image_paths import locate, missing_file_message
from maskcls.core.missing_files import report_missing
from maskcls.core.person_ids import unify_ids
from maskcls.core.table import Note, column_indices, group_columns, table_columns
from maskcls.core.task import Task


def parse_row(
    cells: Mapping[str, str], bases: Sequence[Path], group: str, location: str, errors: list[str], note: Note,
    task: Task,
) -> dict[str, Any]:  # fmt: skip
    """Return the cells of a row of a CSV that `group` reads as a row of the table, adding its errors to `errors`.

    Its path is None if the file is missing and on_error=skip. A row of part train needs the label of one attribute.
    """
    name, part = cells["path"], (cells.get("part", "").lower() if group else "") or "train"  # photos= has no parts
    path: Path | None = locate(name, bases).file
    if not os.path.isfile(str(path)):
        report_missing(f"{location}: {missing_file_message(name, bases)}", errors, note)
        path = None
    if part not in ("train", "eval"):
        errors.append(f"{location}: {unknown_value('part', cells['part'], group)}")
    row = {"path": path, "person": cells.get("person", ""), "part": part}
    columns = [name for name in ("label", *(attribute.source for attribute in task)) if name in cells]
    if part == "train" and not any(cells[name] for name in columns):
        errors.append(f"{location}: no label: {' and '.join(columns)} {'are' if len(columns) > 1 else 'is'} empty")
    if "label" in cells:
        return row | parse_class(cells, task, location, errors)
    return row | parse_attribute_cells(cells, task, location, errors, group)


def to_table(rows: list[dict[str, Any]], base: Path, task: Task, links: bool = False) -> pd.DataFrame:
    """Return rows of images below a folder as the table: ids relative to the folder in Unicode NFC."""
    if not rows:
        raise DataError(f"{base} contains no images")
    top = "" if base == Path() else os.path.join(base, "")
    names = [str(row["path"]).removeprefix(top).replace(os.sep, "/") for row in rows]
    return build_table([row | {"id": name} for row, name in zip(rows, names, strict=True)], [base], task, links)


def build_table(rows: list[dict[str, Any]], bases: Sequence[Path], task: Task, links: bool) -> pd.DataFrame:
    """Return rows with an id as the table: ids in Unicode NFC, labels from the attributes, −1 where one is missing.

    Images below one of the folders `bases` must not be links to outside, unless `links` allows it.
    Spellings of one person's id are unified (person_ids.unify_ids); an image without a person is its own person.
    """
    if not rows:
        raise DataError(f"{bases[0]} contains no images")
    paths = [str(row["path"]) for row in rows]
    raise_errors([f"{path!r}: the file name is not valid UTF-8. Rename it" for path in paths if not is_utf8(path)])
    raise_errors([] if links else list(find_leaving_links(paths, bases)))
    table = pd.DataFrame(rows).assign(path=paths)
    table["id"] = table["id"].map(lambda name: unicodedata.normalize("NFC", name))
    duplicates = table.loc[table["id"].duplicated(), "id"]
    raise_errors([f"{bases[0]}: several files are named {name!r}, in different Unicode forms. Rename them"
                  for name in duplicates])  # fmt: skip
    has_person = table["person"] != ""
    table["person"] = unify_ids(table["person"]).where(has_person, table["id"])
    indices = column_indices(table, task)
    labels = np.where((indices >= 0).all(1), task.encode(*indices.clip(0).T), -1)
    table["label"] = np.where(table["label"] >= 0, table["label"], labels) if "label" in table else labels
    groups = group_columns(table)
    table[groups] = table[groups].fillna("")
    others = [column for column in table if column not in (*table_columns(task), *groups)]
    return table[[*table_columns(task), *others, *groups]].reset_index(drop=True)


def find_leaving_links(paths: Sequence[str], bases: Sequence[Path]) -> Iterator[str]:
    """Yield a message for each path below a folder that leads outside of it by a link; paths outside are as written."""
    for base in bases:
        top = "" if base == Path() else os.path.join(base, "")
        for path in find_outside_links([path for path in paths if is_below(path, top)], base):
            yield f"{path} links to outside {base}. Set links=true beside root or file to allow it"


def is_below(path: str, top: str) -> bool:
    """Return True if a path begins with a folder; with an empty one, if it is relative."""
    return path.startswith(top) if top else not os.path.isabs(path)
