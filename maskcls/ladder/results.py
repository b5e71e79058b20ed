"""Ladder results: one JSON file per rung, with a record per data, scale and overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.reporting.comparison import Record, RunScores, run_facts
from maskcls.storage.run import Run
from maskcls.storage.run_files import read_metrics, read_records
from maskcls.system.files import write_json

IGNORED_OVERRIDES = re.compile(
    r"(data|extra)\.(root|file)=|runs_dir=|cache_dir=|logger|hardware"
)  # they do not affect scores


def build_record(
    rung: Rung, scores: RunScores, parent: RunScores | None, seeds: Sequence[Sequence[Run]], **settings: Any
) -> Record:
    """Return the record of a rung."""
    metrics = read_metrics(seeds[0][0].metrics_path, seeds[0][0].task)
    return {
        "ladder": rung.ladder, "rung": rung.name, "change": rung.change, "published": dict(rung.published), **settings,
        "leak": metrics["people_on_both_sides"], "scores": scores.to_dict(), "parent": rung.parent,
        "difference": scores.compare(parent) if parent else None, **run_facts(seeds),
    }  # fmt: skip


def save_record(folder: Path, record: Record) -> None:
    """Add a record to the file of its rung; replace that of the same data, scale and overrides."""
    path = folder / record["ladder"] / f"{record['rung']}.json"
    write_json(path, dict(sorted((load_records(path) | {record_key(record): record}).items())))


def delete_record(folder: Path, rung: Rung, key: str) -> None:
    """Remove a record of a rung."""
    path = folder / rung.ladder / f"{rung.name}.json"
    if key in (records := load_records(path)):
        write_json(path, {other: record for other, record in records.items() if other != key})


def load_records(path: Path) -> dict[str, Record]:
    """Return the records of a rung by key, empty if the file does not exist."""
    return {record_key(record): record for record in read_records(path).values()}


def record_key(record: Record) -> str:
    """Return the key of a record: data, scale and overrides."""
    overrides = " ".join(record["given"])
    return f"{record['data']['name']}, scale {record['scale']['name']}" + (f", {overrides}" if overrides else "")


def load_results(folder: Path, ladder: str) -> dict[str, dict[str, Record]]:
    """Return the records of a ladder as {key: {rung: record}}."""
    results: dict[str, dict[str, Record]] = {}
    for rung in load_rungs(ladder):
        for key, record in load_records(folder / ladder / f"{rung.name}.json").items():
            results.setdefault(key, {})[rung.name] = record
    return results
