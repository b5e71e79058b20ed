"""The page of a data set: its counts, examples of each class and doubles as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from maskcls.core.task import Task
from maskcls.reporting.page_rendering import render_template, thumbnail
from maskcls.system.console import track
from maskcls.system.files import write_text

Lines = Sequence[Sequence[str]]
Examples = Sequence[tuple[str, pd.DataFrame]]  # heading and rows of the image table


def write_data_page(path: Path, title: str, tables: Sequence[tuple[str, Lines]], examples: Examples,
                    doubles: Examples, lists: Sequence[tuple[str, Sequence[str]]],
                    task: Task) -> None:  # fmt: skip
    """Write one self-contained page; a table begins with its head."""
    total = sum(len(rows) for _, rows in [*examples, *doubles])
    images = track((thumbnail(path, 120) for _, rows in [*examples, *doubles] for path in rows["path"]), total, "page")
    values = {
        "title": title, "tables": tables, "lists": [pair for pair in lists if pair[1]],
        "examples": [(name, picture_rows(rows, images, task)) for name, rows in examples],
        "doubles": [(name, picture_rows(rows, images, task)) for name, rows in doubles],
    }  # fmt: skip
    write_text(path, render_template("data_page.html.j2", values))


def picture_rows(rows: pd.DataFrame, images: Iterable[str | None], task: Task) -> list[dict[str, Any]]:
    """Return id, person, number with its unit and thumbnail of rows; their images are the next ones."""
    pictures = []
    for row, image in zip(rows.to_dict("records"), images, strict=False):
        value = row[task.number.source] if task.number else None
        number = "" if task.number is None or pd.isna(value) else f"{value:g} {task.number.unit}".rstrip()
        pictures.append({"id": row["id"], "person": row["person"], "number": number, "image": image})
    return pictures
