"""The leaderboard: all runs of a folder as one offline page that compares any two of them, and as a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from maskcls.core.errors import ConfigError
from maskcls.core.table import Note, content_differs
from maskcls.imaging.image_decoding import ReadPhoto
from maskcls.reporting.board import CURVES, TERMINAL_HEAD, Board, BoardRun, current_time, page_run, terminal_row
from maskcls.reporting.board_scores import ScoredRows
from maskcls.reporting.page_pack import (
    RowTables,
    pack_json,
    pack_predictions,
    pack_thumbnails,
    rank_photos,
)
from maskcls.reporting.page_rendering import read_asset, render_template
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.files import write_text

MARK = "maskcls leaderboard"
HEAD = f'<meta name="generator" content="{MARK}">'  # in the head of every page, and of no other file
ASSETS = ("leaderboard.css", "leaderboard_scores.js", "leaderboard.js", "vendor/uplot.css", "vendor/uplot.js",
          "vendor/htm-preact.js")  # fmt: skip
MAX_SOURCES = 3  # runs whose images are looked for, for each kind of rows
PREDS_SHARE = 0.75  # of the bytes that are left for predictions and photos
OpenPhotos = Callable[[Run, Note], ReadPhoto | None]


@dataclass
class Photos:
    """Thumbnails of a page: base64 texts, and for each kind of rows the number of the text by the image's position."""

    texts: list[str] = field(default_factory=list)
    places: dict[int, dict[int, int]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)  # why rows have none


def print_boards(boards: Sequence[Board], limit: int) -> None:
    """Print the first runs of each task, and how many more there are."""
    for board in boards:
        title = board.title if len(boards) > 1 else ""
        rows = [terminal_row(run, board.baseline) for run in board.runs[:limit]]
        console.print_table(title, TERMINAL_HEAD, rows, left=3)
        if len(board.runs) > limit:
            console.info(f"… and {len(board.runs) - limit} more runs, on the page")
    if len(boards) > 1:
        console.info("Runs of different tasks have different classes, so they are not compared.")
    people = " or ".join(dict.fromkeys(board.people for board in boards))
    on = "differences are paired, on the labelled evaluation set, else out of fold"
    console.info(f"Intervals are over {people}; {on}.")


def check_target(path: Path) -> None:
    """Raise ConfigError for a file that is not a leaderboard, which would be lost, and for another kind of name."""
    if path.suffix != ".html" or path.is_dir():
        raise ConfigError(f"out: expected a name that ends in .html, got {str(path)!r}")
    if os.path.lexists(path) and (not path.is_file() or HEAD.encode() not in path.read_bytes()[:2000]):
        raise ConfigError(f"out: {path} exists and is not a leaderboard. Choose another out=<name>.html")


def write_leaderboard(
    path: Path, runs_dir: Path, boards: Sequence[Board], num_bytes: int, num_photos: int, open_photos: OpenPhotos
) -> None:
    """Write the page, of at most `num_bytes` if the table of runs alone is not larger, with at most `num_photos`.

    What does not fit is left out and named: the predictions of the last runs, which then cannot be compared on the
    page, then photos.
    """
    assets = {Path(name).name: Markup(read_asset(name)) for name in ASSETS}
    runs = [run for board in boards for run in board.runs]
    tables = collect_tables(runs)
    data = page_data(path, runs_dir, boards, tables)
    free = num_bytes - sum(len(text.encode()) for text in assets.values()) - len(pack_json(data)) - 20_000
    preds, num_kept = pack_predictions(tables, len(runs), int(free * PREDS_SHARE))
    count = sum(run.scores is not None for run in runs[num_kept:])
    data["notes"] = [describe_left_out(count, num_bytes)] if count else []
    photos = embed_photos(runs, tables, num_photos, free - len(preds), open_photos)
    add_predictions(data, tables, num_kept, photos)
    values = {"title": f"Leaderboard of {runs_dir}", "mark": MARK, "data": pack_json(data), "preds": preds,
              "photos": " ".join(photos.texts), "assets": assets}  # fmt: skip
    write_text(path, render_template("leaderboard.html.j2", values))


def describe_left_out(count: int, num_bytes: int) -> str:
    """Return the note that the predictions of the last runs with scores are not on the page."""
    who = "The last run with scores" if count == 1 else f"The last {count} runs with scores"
    whose = "its" if count == 1 else "their"
    what = f"{who} cannot be compared here: {whose} predictions would exceed {num_bytes / 1e6:g} MB"
    return f"{what}. Set max_mb, or use maskcls compare"


def collect_tables(runs: Sequence[BoardRun]) -> list[RowTables]:
    """Return the predicted classes of all runs, for each kind of rows, by their number."""
    tables: dict[int, RowTables] = {}
    for i, run in enumerate(runs):
        for scored in (run.scores.oof, run.scores.single) if run.scores else ():
            if scored is not None:
                tables.setdefault(scored.rows.number, RowTables(scored.rows)).add(i, scored.preds)
    return [tables[number] for number in sorted(tables)]


def page_data(path: Path, runs_dir: Path, boards: Sequence[Board], tables: Sequence[RowTables]) -> dict[str, Any]:
    """Return what the page shows, without predictions and photos."""
    owners = [i for i, board in enumerate(boards) for _ in board.runs]
    runs = [page_run(run, report_link(run.indexed.run, path.parent)) for board in boards for run in board.runs]
    rows = [table.rows for table in tables]
    return {
        "folder": str(runs_dir), "made": current_time(), "curves": CURVES, "tasks": [page_task(one) for one in boards],
        "runs": [run | {"task": i} for run, i in zip(runs, owners, strict=True)],
        "rows": {one.rows.number: describe_rows(one.rows, rows) | {"task": owners[one.owners[0]], "kind": one.kind}
                 for one in tables},
    }  # fmt: skip


def page_task(board: Board) -> dict[str, Any]:
    """Return what the page shows of a task; the baseline is its position among the runs of the task."""
    return {
        "name": board.title, "people": board.people, "classes": board.task.classes if board.task else [],
        "parameters": list(dict.fromkeys(key for run in board.runs for key in run.words)),
        "baseline": next((i for i, run in enumerate(board.runs) if run is board.baseline), None),
    }  # fmt: skip


def report_link(run: Run, folder: Path) -> str | None:
    """Return the address of a run's report relative to the page, None if there is no report."""
    if not run.report_path.is_file():
        return None
    relative = Path(os.path.relpath(run.report_path.resolve(), folder.resolve())).as_posix()
    return quote(os.fsencode(relative))  # a name need not be UTF-8


def describe_rows(rows: ScoredRows, others: Sequence[ScoredRows]) -> dict[str, Any]:
    """Return the rows for the page; `conflicts` are rows with the same ids and labels but other image files."""
    same = [other for other in others if other is not rows and other.digests == rows.digests]
    return {
        "part": rows.part, "ids": rows.ids, "labels": rows.labels.tolist(), "people": rows.people.tolist(),
        "t": rows.t_quantile, "digests": [digest.hex() for digest in rows.digests],
        "conflicts": [other.number for other in same if content_differs(rows.contents, other.contents).any()],
    }  # fmt: skip


def embed_photos(
    runs: Sequence[BoardRun], tables: Sequence[RowTables], limit: int, budget: int, open_photos: OpenPhotos
) -> Photos:
    """Return thumbnails of images that some runs have right and others wrong, as many as allowed and fit."""
    photos = Photos()
    for table in sorted(tables, key=lambda table: -len(table.owners)):
        ranked = rank_photos(table.preds, table.rows.labels)[: limit - len(photos.texts)]
        if not ranked:
            continue
        sources = [runs[i].indexed.run for i in dict.fromkeys(table.owners)][:MAX_SOURCES]
        reasons: list[str] = []
        read = next(filter(None, (open_photos(run, reasons.append) for run in sources)), None)
        if read is None:
            photos.missing[table.rows.number] = "; ".join(dict.fromkeys(reasons))
            continue
        found = pack_thumbnails(read, [table.rows.ids[i] for i in ranked], budget)
        positions = {table.rows.ids[i]: i for i in ranked}
        start = len(photos.texts)
        photos.places[table.rows.number] = {positions[name]: start + i for i, name in enumerate(found)}
        photos.texts += found.values()
        budget -= sum(len(text) + 1 for text in found.values())
    return photos


def add_predictions(data: dict[str, Any], tables: Sequence[RowTables], num_kept: int, photos: Photos) -> None:
    """Add to the page's content where the predictions of each run and the photos are."""
    kinds = {"oof": "oof", "evaluation": "single"}
    for table in tables:
        number, kept = table.rows.number, [i for i in table.owners if i < num_kept]
        data["rows"][number] |= {
            "common": table.common(num_kept), "tables": len(kept), "photos": photos.places.get(number, {}),
            "missing": photos.missing.get(number, ""),
        }  # fmt: skip
        for i in dict.fromkeys(kept):
            data["runs"][i][kinds[table.rows.part]]["tables"] = [kept.index(i), kept.count(i)]
