"""Where a ladder stands: records of its rungs as JSON, and the table that is made of them alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskcls.ladder.rungs import Rung, rungs
from maskcls.reporting.comparison import Record, RunScores, run_facts
from maskcls.storage.run import Run
from maskcls.storage.run_files import read_metrics, read_records
from maskcls.system.files import write_json

PLACES = re.compile(r"(data|extra)\.(root|file)=|runs_dir=|cache_dir=|logger|hardware")  # they change no number


def build_record(
    rung: Rung, outcome: RunScores, below: RunScores | None, seeds: Sequence[Sequence[Run]], **about: Any
) -> Record:
    """Return what is kept of a rung that was run."""
    metrics = read_metrics(seeds[0][0].metrics_path)
    return {
        "ladder": rung.ladder, "rung": rung.name, "change": rung.change, "published": dict(rung.published), **about,
        "leak": metrics["people_on_both_sides"], "scores": outcome.to_dict(), "parent": rung.below,
        "difference": outcome.compare(below) if below else None, **run_facts(seeds),
    }  # fmt: skip


def save_record(folder: Path, record: Record) -> None:
    """Add a record to the rung's file, in place of one of the same data, scale and overrides."""
    path = folder / record["ladder"] / f"{record['rung']}.json"
    write_json(path, dict(sorted((read(path) | {name(record): record}).items())))


def delete_record(folder: Path, rung: Rung, key: str) -> None:
    """Remove a rung's record, whose runs are no longer what is asked for."""
    path = folder / rung.ladder / f"{rung.name}.json"
    if key in (known := read(path)):
        write_json(path, {name: record for name, record in known.items() if name != key})


def read(path: Path) -> dict[str, Record]:
    """Return a rung's records by data and scale, none where there is no file."""
    return {name(record): record for record in read_records(path).values()}


def name(record: Record) -> str:
    """Return what tells records of one rung apart: data, scale, and what was overridden."""
    words = " ".join(record["given"])
    return f"{record['data']['name']}, scale {record['scale']['name']}" + (f", {words}" if words else "")


def load_results(folder: Path, ladder: str) -> dict[str, dict[str, Record]]:
    """Return {data and scale: {rung: record}} of a ladder."""
    found: dict[str, dict[str, Record]] = {}
    for rung in rungs(ladder):
        for key, one in read(folder / ladder / f"{rung.name}.json").items():
            found.setdefault(key, {})[rung.name] = one
    return found
