"""Leaderboard of all runs of a folder: a table, and an offline page that compares any two of them.

maskcls leaderboard
maskcls leaderboard runs_dir=runs baseline=a-1234 out=week.html

Runs of different tasks (other attributes or values) are never ranked together; the task of most runs is first.
The page needs no server and makes no request. It sorts and filters the runs and shows the paired difference of each to
any baseline; of two runs the classes gained and lost, the images that only one has right, and the learning curves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maskcls.cli.arguments import options_command
from maskcls.core.schema import NonNegativeInt, PositiveFloat, PositiveInt
from maskcls.system import console


@dataclass(frozen=True)
class LeaderboardOptions:
    """Options of `maskcls leaderboard`."""

    runs_dir: str = "runs"  # folder of the runs, which may be in subfolders
    out: str = "leaderboard.html"  # page to write; an earlier leaderboard is replaced
    baseline: str | None = None  # run to compare the others with; null: the best, without a leak, on most runs' rows
    rows: PositiveInt = 50  # runs of a task in the terminal, the best first; the page has all
    photos: NonNegativeInt = 600  # most images on the page, those first on which runs differ most
    max_mb: PositiveFloat = 5.0  # size of the page; what does not fit is left out, and named


@options_command(LeaderboardOptions)
def main(options: LeaderboardOptions) -> None:
    """Print the table and write the page."""
    leaderboard(options)


def leaderboard(options: LeaderboardOptions) -> None:
    """Read the runs, print the best ones and write the page; damaged and unfinished runs are rows, not errors."""
    from maskcls.storage.index import find_run_dirs, read_runs

    runs_dir, out = Path(options.runs_dir), Path(options.out)
    paths = find_run_dirs(runs_dir, lambda text: console.info(text, "yellow"))

    from maskcls.data.run_photos import open_photos
    from maskcls.reporting.board import build_boards
    from maskcls.reporting.board_scores import ScoreReader
    from maskcls.reporting.leaderboard import check_target, print_boards, write_leaderboard

    check_target(out)
    if not paths:
        console.info(f"{runs_dir} contains no runs. Train one: python -m maskcls.run", "yellow")
    indexed = console.track(read_runs(runs_dir, paths), len(paths), "reading")
    boards = build_boards(indexed, ScoreReader(), options.baseline)
    if paths:
        print_boards(boards, options.rows)
    write_leaderboard(out, runs_dir, boards, int(options.max_mb * 1e6), options.photos, open_photos)
    console.info(f"{out}: {len(paths)} runs, {out.stat().st_size / 1e6:.2f} MB")
