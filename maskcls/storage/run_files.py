"""Readers of the files in a run directory; all content is checked, as runs may come from untrusted sources."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ValidationError

from maskcls.core.table import GROUP_PREFIX
from maskcls.core.task import Task
from maskcls.storage.predictions import check_ids
from maskcls.storage.record_schemas import Record
from maskcls.storage.schemas import About, Metrics
from maskcls.system.safe_reading import FormatError, check_plain, read_bytes, read_csv, read_json, wrap_read_errors

if TYPE_CHECKING:
    import pandas as pd


TABLE_COLUMNS = {"id": str, "person": str, "label": int, "part": str, "fold": int, "scored": bool}
PARTS = ("train", "eval", "extra")
NUMBERS = ("loss", "val_loss", "f1", "seconds")  # of an epoch, shown in the report
MAX_COUNT, MAX_SECONDS = 10**9, 1e12  # of log.jsonl; sums of these are finite
MAX_BAD_LINES = 1000  # in log.jsonl; each killed process leaves one


def check_schema(content: Any, kind: type[BaseModel]) -> None:
    """Raise FormatError for the first value that does not fit the schema."""
    try:
        kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise FormatError(f"{where}: {first['msg']}, got {repr(first['input'])[:40]}") from error


def read_metrics(path: Path, task: Task) -> dict[str, Any]:
    """Read the closing metrics of a run, with a score of each attribute of its task."""
    metrics = read_with_schema(path, Metrics)
    with wrap_read_errors(path):
        decision, evaluation = metrics.get("decision"), metrics.get("eval")
        parts = [*metrics["folds"], metrics["oof"], *filter(None, [evaluation])]
        parts += [part for key in ("oof", "eval") if (part := decision["plain"].get(key))] if decision else []
        for name in task.names:
            if any(type(part.get(f"{name}_f1")) not in (int, float) for part in parts):
                raise FormatError(f"expected {name}_f1 among the scores")
        if decision and len(decision["bias"]) != task.num_classes:
            raise FormatError(f"decision.bias: expected {task.num_classes} values, got {len(decision['bias'])}")
    return metrics


def read_about(path: Path) -> dict[str, Any]:
    """Read facts about machine, software and command, none if there is no file."""
    return read_with_schema(path, About) if os.path.lexists(path) else {}


def read_records(path: Path) -> dict[str, Any]:
    """Read the records of a rung, none if there is no file."""
    records = read_json(path) if os.path.lexists(path) else {}
    with wrap_read_errors(path):
        for record in records.values():
            check_schema(record, Record)
    return records


def read_with_schema(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """Read a JSON object and check it against a schema."""
    content = read_json(path)
    with wrap_read_errors(path):
        check_schema(content, kind)
    return content


def read_table(path: Path, task: Task) -> pd.DataFrame:
    """Read table.csv: id, person, label, part, fold, scored, content ("" in runs of older versions), and the groups."""
    with wrap_read_errors(path):
        table = read_csv(path, TABLE_COLUMNS, {"content": str}, GROUP_PREFIX)
        check_ids(table["id"])
        fold, label, scored = table["fold"], table["label"], table["scored"]
        is_train = table["part"] == "train"
        reject_rows(table, table["person"] == "", "person", "text")
        reject_rows(table, ~table["part"].isin(PARTS), "part", " or ".join(PARTS))
        reject_rows(table, (label < -1) | (label >= task.num_classes), "label", f"−1 to {task.num_classes - 1}")
        can_lack = len(task.attributes) > 1  # a training row may have the labels of some attributes
        where = "scored" if can_lack else "scored or training"
        needs_label = scored if can_lack else scored | is_train
        reject_rows(table, (label < 0) & needs_label, "label", f"≥ 0 in a {where} row")
        reject_rows(table, fold < -1, "fold", "≥ −1")
        reject_rows(table, is_train & scored & (fold < 0), "fold", "≥ 0 in a scored training row")
        if not (is_train & scored).any():
            raise FormatError("no validation rows")
        if (count := int(fold.max()) + 1) != (present := fold[fold >= 0].nunique()):
            raise FormatError(f"folds are not numbered from 0: {present} folds, the largest is {count - 1}")
    return table if "content" in table else table.assign(content="")


def reject_rows(table: pd.DataFrame, bad: pd.Series[bool], column: str, expected: str) -> None:
    """Raise FormatError for the first row with a bad value of a column."""
    if bad.any():
        index = int(np.flatnonzero(bad)[0])
        name, value = (table[key].iloc[index] for key in ("id", column))
        raise FormatError(f"row {index + 1}, {name[:40]!r}: {column}: expected {expected}, got {str(value)[:20]!r}")


def check_normalization(mean: Any, std: Any) -> None:
    """Raise FormatError unless mean and std are three numbers each, and std is positive."""
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, list | tuple) or len(values) != 3 or not all(type(v) in (int, float) for v in values):
            raise FormatError(f"{name}: expected three numbers, got {repr(values)[:40]}")
        if not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            expected = "numbers > 0" if name == "std" else "finite numbers"
            raise FormatError(f"{name}: expected {expected}, got {', '.join(map(str, values))}")


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the rows of log.jsonl, the latest for each fold and epoch (a resumed epoch is logged again)."""
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    num_bad = 0
    with wrap_read_errors(path):
        for line in read_bytes(path).split(b"\n") if os.path.lexists(path) else []:
            with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
                row = check_epoch(json.loads(line))
                rows[row["fold"], row["epoch"]] = row
                continue
            num_bad += bool(line)  # half-written by a killed process
            if num_bad > MAX_BAD_LINES:
                raise FormatError(f"more than {MAX_BAD_LINES} of its lines are not epochs")
    return [rows[key] for key in sorted(rows)]


def check_epoch(row: Any) -> dict[str, Any]:
    """Return a line of the log; ValueError unless it has fold, epoch and numbers, and finite seconds.

    A loss may be infinite or NaN, as that of a training that diverges.
    """
    check_plain(row)
    if any(type(row[key]) is not int or not 0 <= row[key] <= MAX_COUNT for key in ("fold", "epoch")):
        raise FormatError("fold or epoch is missing")
    if any(not is_number(row.get(key, 0.0)) for key in NUMBERS):
        raise FormatError("expected numbers")
    if not abs(row.get("seconds", 0.0)) <= MAX_SECONDS:
        raise FormatError("seconds are not finite")
    return row


def is_number(value: Any) -> bool:
    """Return True for a number that is not too large for a float."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= MAX_COUNT)
