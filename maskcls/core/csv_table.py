"""A CSV of images as the image table, and the digest of its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from maskcls.core.columns import Columns
from maskcls.core.csv_reader import Row, Sheet, find_duplicates, note_blanks, raise_errors, read_header, read_sheet
from maskcls.core.csv_values import Values, describe_low_numbers, describe_reading, translate_values
from maskcls.core.errors import DataError, and_others, join_words, nearest, suggestion_message, unknown_message
from maskcls.core.group_values import find_groups, group_cells
from maskcls.core.image_paths import name_images
from maskcls.core.image_rows import build_table, is_below, parse_row
from maskcls.core.synonyms import squeeze
from maskcls.core.table import Note
from maskcls.core.task import Task

GROUP_CUTOFF = 0.8  # of two names; above it the task's group is taken for a misspelt column


class TableSource(NamedTuple):
    """A CSV of images, the folders that its paths may be relative to, and how the user names columns and values."""

    file: Path
    bases: tuple[Path, ...]
    columns: Columns
    values: Values
    group: str  # the config group that reads it, data or extra; empty: predict's photos=, without options
    task: Task

    @property
    def optional(self) -> tuple[str, ...]:
        """The columns that are read if they are there."""
        return ("label", *(attribute.source for attribute in self.task), "person", "part")

    def given_columns(self, header: Sequence[str]) -> Columns:
        """Return the columns that the user sets: by columns=, and the task's group, if the CSV has it."""
        group = self.task.group
        if "person" in self.columns or group == "person":
            return self.columns
        if group is None or squeeze(group) in map(squeeze, header):
            return {**self.columns, "person": group}
        if close := nearest(group, header, GROUP_CUTOFF):
            raise DataError(f"task.group: {suggestion_message('column', group, repr(close), str(self.file))}")
        return {**self.columns, "person": None}


def with_text_keys(value: Any) -> Any:
    """Return nested mappings with keys and values as text: a command line has `{0: worn}`."""
    if isinstance(value, Mapping):
        return {key_text(key): with_text_keys(item) for key, item in value.items()}
    return value if value is None or isinstance(value, Mapping) else key_text(value)


def parse_mapping(value: Any) -> Any:
    """Return a mapping that is written as text, as a command line must if its keys are of other scripts than ASCII."""
    try:
        return yaml.load(value, Loader=yaml.BaseLoader) if isinstance(value, str) else value  # of texts alone
    except yaml.YAMLError as error:
        raise ValueError(f"expected a mapping as {{column: {{word: value}}}}, got {value!r}") from error


def key_text(value: Any) -> str:
    """Return a key or value as a CSV would spell it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_columns(given: Columns, task: Task) -> None:
    """Raise ValueError for a name that no table of the task has among the columns that the user sets."""
    names = ("path", *TableSource(Path(), (), {}, {}, "", task).optional)
    for name in given:
        if name not in names:
            raise ValueError(unknown_message("column", name, names))


def read_table(source: TableSource, note: Note, links: bool) -> pd.DataFrame:
    """Return the image table of a CSV; a note names what was read under other names and columns that are not read."""
    notes: list[str] = []
    sheet, rows, reading = read_cells(source, notes.append)
    for text in filter(None, (reading, *notes, *describe_low_numbers(source.file, sheet, source.task))):
        note(text)
    names = name_images([cells["path"] for _, cells in rows], source.bases)
    errors = find_duplicates(rows, "path", names)
    groups = find_groups([row.cells for row in rows], ("path", *source.optional)) if source.group == "data" else []
    parsed = [parse_row(cells, source.bases, source.group, location, errors, note, source.task)
              | {"id": name, **group_cells(cells, groups)}
              for (location, cells), name in zip(rows, names, strict=True)]  # fmt: skip
    raise_errors(errors)
    note_blanks(source.file, rows, note)
    rows_found = [row for row in parsed if row["path"]]
    if source.group:
        note_people(source, sheet, note)
        note_outside(source, [str(row["path"]) for row in rows_found], note)
    return build_table(rows_found, source.bases, source.task, links)


def read_cells(source: TableSource, note: Note) -> tuple[Sheet, list[Row], str | None]:
    """Return a CSV as written, its rows with values as the task names them, and one line about the differences."""
    key = f"{source.group}.columns" if source.group else ""
    optional = [name for name in source.optional if source.group or name != "part"]
    given = source.given_columns(read_header(source.file))
    sheet = read_sheet(source.file, ("path",), optional, (), note, given, key, source.group == "data")
    if not sheet.rows:
        raise DataError(f"{source.file} has a header but no rows")
    cells = sheet.rows[0].cells
    columns = [attribute.source for attribute in source.task]
    if "label" not in cells and (missing := sorted(set(columns) - set(cells))):
        raise DataError(f"{source.file} needs a column label, or {join_words(columns)}: missing {', '.join(missing)}. "
                        f"If it has other names for them, set {key}={{{missing[0]}: …}}")  # fmt: skip
    rows, read = translate_values(source.file, sheet, source.values, source.group, source.task)
    own = ("person", source.task.group)  # as the task says: no news
    renamed = {name: column for name, column in sheet.renamed.items() if (name, column) != own}
    return sheet, rows, describe_reading(source.file, sheet._replace(renamed=renamed), read)


def note_outside(source: TableSource, paths: Sequence[str], note: Note) -> None:
    """Report images that lie outside the folders of a table, which an absolute path or `..` can name."""
    tops = [os.path.join(base, "") if base != Path() else "" for base in source.bases]
    if outside := [path for path in paths if not any(is_below(path, top) for top in tops)]:
        places = " and ".join(str(base) for base in dict.fromkeys(source.bases))
        note(f"{source.file}: {len(outside)} of {len(paths)} images lie outside {places}: {and_others(outside, 1)}")


def note_people(source: TableSource, sheet: Sheet, note: Note) -> None:
    """Report that scores may leak: without a person column, or if an id seems to number images."""
    column, name = sheet.renamed.get("person"), source.task.group
    one, many = ("person", "people") if name == "person" else ("group", "groups")
    ids = [row.cells["person"] for row in sheet.rows if row.cells.get("person")]
    if "person" not in sheet.rows[0].cells and name is None:
        note(f"{source.file}: task.group=null: each image is alone. Out-of-fold scores leak if images belong together")
    elif "person" not in sheet.rows[0].cells and source.group == "extra":
        note(f"{source.file}: no column '{name}', so each image counts as one {one}. "
             f"Out-of-fold scores leak if {many} of the data are among them")  # fmt: skip
    elif "person" not in sheet.rows[0].cells:
        note(f"LEAK possible: {source.file}: no column '{name}', so each image counts as one {one}. "
             f"Out-of-fold scores leak if a {one} has several images")  # fmt: skip
    elif column and "person" not in sheet.given and len(ids) > 1 and len(set(ids)) == len(ids):
        note(f"LEAK possible: {source.file}: column '{column}' differs in every row, so it may number the images. "
             f"Out-of-fold scores leak if a {one} has several images")  # fmt: skip


def table_rows_digest(source: TableSource) -> str:
    """Return 8 hexadecimal digits of the rows that a CSV means, the same wherever it lies and however it is written.

    The order counts for evaluation rows only: predictions have it.
    """
    rows = read_cells(source, lambda text: None)[1]
    names = name_images([cells["path"] for _, cells in rows], source.bases)
    lines = ["\x1f".join([name, *(f"{key}={cells[key]}" for key in source.optional if cells.get(key))])
             for (_, cells), name in zip(rows, names, strict=True)]  # fmt: skip
    evaluation = [line for line, row in zip(lines, rows, strict=True) if row.cells.get("part", "").lower() == "eval"]
    return hashlib.sha256("\n".join([*sorted(lines), "", *evaluation]).encode()).hexdigest()[:8]
