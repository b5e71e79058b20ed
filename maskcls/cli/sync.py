"""Send the runs that Weights & Biases keeps offline to its server, once there is a key and a way to it.

python -m maskcls sync [runs_dir]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from maskcls.cli.command import run_command
from maskcls.components.logger import resolve_mode
from maskcls.core.errors import RunError
from maskcls.system import console

LIMIT = 600  # seconds for one run
LAST = ("metrics.json", "ladders.html")  # what a run, or a reproduction's tables, write last


def sync(runs_dir: Path) -> None:
    """Send what was not sent before and print a table of it; RunError where nothing can be sent, or a part was not."""
    if not runs_dir.is_dir():
        raise RunError(f"there is no folder of runs {runs_dir}")
    waiting = list(records(runs_dir))
    if not waiting:
        console.info(f"{runs_dir}: every record of a finished run has been sent")
        return
    said: list[str] = []
    try:
        mode = resolve_mode(said.append, os.environ.get("WANDB_MODE", "online"))
    except Exception as error:  # of its own variables and settings
        raise RunError(f"wandb refuses its settings ({' '.join(str(error).split())[:200]})") from error
    if mode != "online":
        raise RunError(
            f"{len(waiting)} records wait in {runs_dir}: {said[0] if said else 'WANDB_MODE keeps them offline'}"
        )
    states = [(record, send(record)) for record in waiting]
    rows = [[record.parents[2].name, record.parent.name, state] for record, state in states]
    console.print_table("", ["run", "record", "state"], rows, left=3)
    if lost := sum(state != "sent" for _, state in states):
        raise RunError(f"{lost} of {len(states)} records could not be sent: the same command tries them again")


def records(runs_dir: Path) -> Iterator[Path]:
    """Yield the offline records of the finished runs in a folder that were not sent, the oldest first."""
    for file in sorted(runs_dir.glob("*/wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.name):
        done = any((file.parents[2] / last).exists() for last in LAST)  # what is still written to would be sent in part
        if done and not file.with_name(f"{file.name}.synced").exists():
            yield file


def send(record: Path) -> str:
    """Send one record by wandb's own command; return `sent`, or why not (wandb marks what it has sent)."""
    if record.is_symlink() or not record.is_file():  # wandb would wait for a pipe, and send what a link leads to
        return "is not a regular file"
    call = [sys.executable, "-m", "wandb", "sync", str(record.parent)]
    try:
        done = subprocess.run(
            call, capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL,
            timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done after {LIMIT} s"
    if record.with_name(f"{record.name}.synced").exists():
        return "sent"
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1][:120] if lines else f"wandb ended with {done.returncode}"


@run_command
def main() -> None:
    """Send the runs below the folder that is given, by default runs."""
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        return
    sync(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
