"""Upload of offline Weights & Biases records; needs an API key and a connection.

maskcls sync
maskcls sync runs_dir=runs
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskcls.cli.arguments import options_command
from maskcls.components.loggers.wandb_logger import resolve_mode
from maskcls.core.errors import RunError
from maskcls.system import console

TIMEOUT = 600  # seconds per record
LAST_FILES = ("metrics.json", "ladders.html")  # written last, by a run or a reproduction


@dataclass(frozen=True)
class SyncOptions:
    """Options of `maskcls sync`."""

    runs_dir: str = "runs"  # folder of the runs


def sync(runs_dir: Path) -> None:
    """Send all unsent records and print a table; raise RunError if a record cannot be sent."""
    if not runs_dir.is_dir():
        raise RunError(f"runs_dir: folder {runs_dir} does not exist")
    unsent = list(unsent_records(runs_dir))
    if not unsent:
        console.info(f"{runs_dir}: all records of finished runs have been sent")
        return
    notes: list[str] = []
    try:
        mode = resolve_mode(notes.append, os.environ.get("WANDB_MODE", "online"))
    except Exception as error:  # invalid environment variables or settings of wandb
        raise RunError(f"wandb: invalid settings ({' '.join(str(error).split())[:200]})") from error
    if mode != "online":
        raise RunError(
            f"{len(unsent)} records in {runs_dir} are unsent: {notes[0] if notes else 'WANDB_MODE is offline'}"
        )
    states = [(record, send_record(record)) for record in unsent]
    rows = [[record.parents[2].name, record.parent.name, state] for record, state in states]
    console.print_table("", ["run", "record", "state"], rows, left=3)
    if failed := sum(state != "sent" for _, state in states):
        raise RunError(f"{failed} of {len(states)} records could not be sent. Run the same command to retry")


def unsent_records(runs_dir: Path) -> Iterator[Path]:
    """Yield the unsent offline records of the finished runs in a folder, oldest first.

    A resumed run has a record of each of its processes with the same W&B id; the latest has all epochs.
    """
    latest: dict[tuple[Path, str], Path] = {}
    for file in sorted(runs_dir.glob("*/wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name):
        latest[file.parents[2], file.parent.name.split("-", 3)[-1]] = file  # offline-run-<time>-<id>
    for file in latest.values():
        is_finished = any((file.parents[2] / name).exists() for name in LAST_FILES)
        if is_finished and not file.with_name(f"{file.name}.synced").exists():
            yield file


def send_record(record: Path) -> str:
    """Run `wandb sync` on one record, which marks it as sent; return `sent` or the error."""
    if record.is_symlink() or not record.is_file():  # wandb would block on a pipe and follow a link
        return "is not a regular file"
    command = [sys.executable, "-m", "wandb", "sync", str(record.parent)]
    try:
        result = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"timed out after {TIMEOUT} s"
    if record.with_name(f"{record.name}.synced").exists():
        return "sent"
    lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
    return lines[-1][:120] if lines else f"wandb exited with code {result.returncode}"


@options_command(SyncOptions)
def main(options: SyncOptions) -> None:
    """Send the unsent records."""
    sync(Path(options.runs_dir))
