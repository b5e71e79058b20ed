"""What each file of a run's folder must hold; every reader of a run goes through here, for it may come from anybody."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from maskcls.core.task import CLASSES
from maskcls.storage.predictions import check_ids
from maskcls.storage.schemas import About, Metrics, Record
from maskcls.system.safe_reading import FormatError, check_plain, read_bytes, read_csv, read_json, wrap_read_errors

if TYPE_CHECKING:
    import pandas as pd


RULER = {"id": str, "person": str, "label": int, "part": str, "fold": int, "scored": bool}
PARTS = ("train", "eval", "extra")
NUMBERS = ("loss", "val_loss", "f1", "seconds")  # of an epoch, that the report shows
BAD_LINES = 1000  # of a log; each killed process leaves one


def check_shape(content: Any, kind: type[BaseModel]) -> None:
    """Raise a FormatError that names the first value of the wrong kind."""
    try:
        kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(f"{where}: {first['msg']}, got {repr(first['input'])[:40]}") from error


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the closing metrics of a run."""
    return read_shape(path, Metrics)


def read_about(path: Path) -> dict[str, Any]:
    """Read the facts of a run's machine and call, none where there is no file."""
    return read_shape(path, About) if os.path.lexists(path) else {}


def read_records(path: Path) -> dict[str, Any]:
    """Read what is kept of a rung, none where there is no file."""
    found = read_json(path) if os.path.lexists(path) else {}
    with wrap_read_errors(path):
        for record in found.values():
            check_shape(record, Record)
    return found


def read_shape(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """Read a JSON object of a known shape."""
    content = read_json(path)
    with wrap_read_errors(path):
        check_shape(content, kind)
    return content


def read_table(path: Path) -> pd.DataFrame:
    """Read the ruler of a run, table.csv: id, person, label, part, fold, scored, content (empty in an older run's)."""
    with wrap_read_errors(path):
        table = read_csv(path, RULER, {"content": str})
        check_ids(table["id"])
        fold, label, scored = table["fold"], table["label"], table["scored"]
        train, known = table["part"] == "train", table["part"].isin(PARTS)
        refuse_rows(table, table["person"] == "", "it has no person")
        refuse_rows(table, ~known, f"its part is not one of {', '.join(PARTS)}")
        refuse_rows(table, (label < -1) | (label >= len(CLASSES)), f"its label is not −1 to {len(CLASSES) - 1}")
        refuse_rows(table, (label < 0) & (train | scored), "it has no label")
        refuse_rows(table, fold < -1, "its fold is below −1")
        refuse_rows(table, train & scored & (fold < 0), "it is scored and in no fold")
        if not (train & scored).any():
            raise FormatError("none of its rows is scored")
        if (count := int(fold.max()) + 1) != (have := fold[fold >= 0].nunique()):
            raise FormatError(f"its folds are not numbered from 0: {have} folds, the largest is {count - 1}")
    return table if "content" in table else table.assign(content="")


def refuse_rows(table: pd.DataFrame, bad: pd.Series[bool], what: str) -> None:
    """Raise a FormatError that names the first bad row."""
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise FormatError(f"row {place + 1}, {table['id'].iloc[place][:40]!r}: {what}")


def check_colours(mean: Any, std: Any) -> None:
    """Raise a FormatError for what is not the mean and standard deviation of three colours."""
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list | tuple) or len(values) != 3 or not all(type(v) in (int, float) for v in values):
            raise FormatError(f"{name} is not three numbers")
        if not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise FormatError(f"{name} holds {min(values)}")


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of log.jsonl, the latest for each fold and epoch (a resumed epoch is logged again)."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    bad = 0
    with wrap_read_errors(path):
        for line in read_bytes(path).split(b"\n") if os.path.lexists(path) else []:
            with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
                row = check_epoch(json.loads(line))
                rows[row["fold"], row["epoch"]] = row
                continue
            bad += bool(line)  # what a killed process left half-written
            if bad > BAD_LINES:
                raise FormatError(f"more than {BAD_LINES} of its lines are not epochs")
    return [rows[key] for key in sorted(rows)]


def check_epoch(row: Any) -> dict[str, Any]:
    """Return a line of the log as it is; a ValueError where it is not fold, epoch and numbers."""
    check_plain(row)
    if any(type(row[key]) is not int or row[key] < 0 for key in ("fold", "epoch")):
        raise FormatError("it names no fold and epoch")
    if any(not isinstance(row.get(key, 0.0), int | float) for key in NUMBERS):
        raise FormatError("one of its numbers is not a number")
    return row
