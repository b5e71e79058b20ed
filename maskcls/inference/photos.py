"""The images of `photos=`: files, folders and patterns, or CSV files of paths with or without labels."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from maskcls.core.csv_reader import raise_errors, read_rows
from maskcls.core.csv_table import TableSource, read_table
from maskcls.core.errors import DataError
from maskcls.core.image_paths import locate, missing_file_message
from maskcls.core.task import Task
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.system import console

TABLE_SUFFIXES = (".csv", ".tsv")
COLUMNS = ["id", "path", "person", "label"]


def list_photos(sources: Sequence[str], task: Task) -> pd.DataFrame:
    """Return id, path, person and label (−1: unknown) of the images of some sources, each image once, with its label.

    The id of an image is its path, or as a CSV spells it. DataError for a source without images.
    """
    table = pd.concat([list_source(source, task) for source in sources], ignore_index=True)
    labelled_first = table.sort_values("label", key=lambda label: label < 0, kind="stable")
    is_first = ~labelled_first["path"].map(os.path.abspath).duplicated()
    table = labelled_first[is_first].sort_index().reset_index(drop=True)
    if table["id"].duplicated().any():
        persons = table["person"].where(table["person"] != table["id"], table["path"])
        table = table.assign(id=table["path"], person=persons)
    return table


def list_source(source: str, task: Task) -> pd.DataFrame:
    """Return the images of one source."""
    path = Path(source).expanduser()
    if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        return list_table(path, task)
    images, left_out = find_images(source)
    ignored = describe_left_out(left_out)
    if not images:
        raise DataError(f"photos: no images found at {source!r}{': ' * bool(ignored)}{ignored}")
    if ignored:
        console.info(f"photos: {source}: {ignored}", "yellow")
    return unlabelled([str(image) for image in images], [str(image) for image in images])


def list_table(source: Path, task: Task) -> pd.DataFrame:
    """Return the images of a CSV with a column path; with labels, it is read like data=table."""
    table = TableSource(source, (source.parent,), {}, {}, "", task)
    rows = read_rows(source, ("path",), table.optional)
    if not rows:
        raise DataError(f"{source} has a header but no rows")
    columns = rows[0].cells.keys()
    if "label" in columns or {attribute.source for attribute in task} <= columns:
        return read_table(table, console.info, links=True)[COLUMNS]
    names, bases = [row.cells["path"] for row in rows], [source.parent]
    paths = [locate(name, bases).file for name in names]
    raise_errors([f"{row.location}: {missing_file_message(name, bases)}"
                  for row, name, path in zip(rows, names, paths, strict=True) if not path.is_file()])  # fmt: skip
    return unlabelled(names, list(map(str, paths)))


def unlabelled(ids: Sequence[str], paths: Sequence[str]) -> pd.DataFrame:
    """Return the table of images without labels."""
    return pd.DataFrame({"id": ids, "path": paths, "person": ids, "label": -1})


def name_output(sources: Sequence[str]) -> Path:
    """Return the name of the output file: that of the first source without patterns, and the number of the others."""
    parts = [part for part in Path(sources[0]).expanduser().absolute().parts if not re.search(r"[*?\[]", part)]
    name = re.sub(r"[^\w.-]+", "-", Path(parts[-1]).stem).strip("-.") or "photos"
    more = f"-and-{len(sources) - 1}-more" if len(sources) > 1 else ""
    return Path(f"predictions-{name}{more}.csv")
