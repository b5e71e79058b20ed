"""Index of a folder of runs: each run directory in it, its state, and what can be read of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from maskcls.core.errors import ConfigError, MaskclsError, RunError
from maskcls.core.table import Note, num_folds
from maskcls.core.task import Task, TaskKey
from maskcls.storage.run import Run
from maskcls.system.console import escape_controls
from maskcls.system.locks import is_locked
from maskcls.system.safe_reading import read_bytes, wrap_read_errors

State = Literal["finished", "concluded", "running", "stopped", "unreadable"]
MAX_FOLDS = 1000  # that an unfinished run is asked for; its files may be damaged


@dataclass(frozen=True)
class IndexedRun:
    """A run directory: its state, and its files as far as they are readable."""

    run: Run
    name: str  # path below the folder of runs
    state: State
    detail: str  # fold and epoch of an unfinished run, folds of a concluded one, or the error
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    facts: Mapping[str, Any] = field(default_factory=dict)  # about.json

    @property
    def task(self) -> Task | None:
        """The task of the run, None if its files do not say it."""
        try:
            return self.run.task
        except (MaskclsError, OSError):
            return None

    @property
    def is_finished(self) -> bool:
        """True if the run has closing metrics."""
        return self.state in ("finished", "concluded")

    @property
    def seconds(self) -> float:
        """Seconds of training and validation."""
        return float(sum(row.get("seconds", 0.0) for row in self.history))


class SharedTables:
    """Image tables by their files and tasks: runs on the same data with the same folds share one in memory."""

    def __init__(self) -> None:
        self.tables: dict[tuple[bytes, TaskKey], pd.DataFrame] = {}

    def attach(self, run: Run) -> None:
        """Give a run its table, read only once; RunError for a broken table."""
        with wrap_read_errors(run.table_path):
            key = hashlib.blake2b(read_bytes(run.table_path)).digest(), run.task.key
        if key in self.tables:
            run.table = self.tables[key]
        self.tables[key] = run.table


def find_run_dirs(runs_dir: Path, note: Note = lambda text: None) -> list[Path]:
    """Return the run directories in a folder and its subfolders, such as those of sweeps, sorted by path.

    A folder that holds begun runs is not an unbegun run, whatever file of one lies in it. What is skipped is named by
    `note`: such files, links to folders of runs elsewhere, and folders that cannot be read. ConfigError if the folder
    does not exist or is itself a run.
    """
    if not runs_dir.is_dir():
        raise ConfigError(f"runs_dir: folder {runs_dir} does not exist")
    paths = list(walk_runs(runs_dir, note))
    holders = {parent for path in paths if is_begun(path) for parent in path.parents}
    found: set[Path] = set()
    for path in paths:
        if path in holders and (path == runs_dir or not is_begun(path)):
            files = ", ".join(file.name for file in run_files(path) if os.path.lexists(file))
            note(f"{path} is a folder of runs; its own {files} is skipped")
        elif is_begun(path) or not found.intersection(path.parents):  # else a part of a run
            found.add(path)
    if runs_dir in found:
        raise ConfigError(f"runs_dir: {runs_dir} is a run, expected a folder of runs. Set runs_dir={runs_dir.parent}")
    return sorted(found)


def walk_runs(top: Path, note: Note) -> Iterator[Path]:
    """Yield the folders with files of a run, a folder before those in it; links are named and not followed."""

    def skip(error: OSError) -> None:
        note(f"{error.filename} is skipped: {error.strerror}")

    for folder, names, _ in os.walk(top, onerror=skip):
        path = Path(folder)
        names[:] = [name for name in names if not name.startswith(".")]
        if is_run_dir(path):
            yield path
        for link in (path / name for name in names if os.path.islink(path / name)):
            if is_run_dir(link):
                yield link
            elif is_elsewhere(link, top) and any(map(is_begun, walk_runs(link, lambda text: None))):
                note(f"{link} is a link to a folder of runs and is skipped. Set runs_dir={link} for its runs")


def is_elsewhere(link: Path, top: Path) -> bool:
    """Return True unless a link leads to a folder below `top`, or around it."""
    target, top = Path(os.path.realpath(link)), Path(os.path.realpath(top))
    return not target.is_relative_to(top) and not top.is_relative_to(target)


def run_files(path: Path) -> tuple[Path, ...]:
    """Return the files that only runs have."""
    run = Run(path)
    return run.config_path, run.table_path, run.history_path, run.metrics_path


def is_run_dir(path: Path) -> bool:
    """Return True if a folder has one of the files that only runs have."""
    return any(map(os.path.lexists, run_files(path)))


def is_begun(path: Path) -> bool:
    """Return True if a folder has the files of a run that has begun its first fold, or its closing metrics."""
    config, table, _, metrics = run_files(path)
    return os.path.lexists(metrics) or (os.path.lexists(config) and os.path.lexists(table))


def read_runs(runs_dir: Path, paths: Iterable[Path]) -> Iterator[IndexedRun]:
    """Yield the runs of a folder; one that is damaged, or changes while it is read, is unreadable and no error."""
    tables = SharedTables()
    for path in paths:
        yield read_run(Run(path), path.relative_to(runs_dir).as_posix(), tables)


def read_run(run: Run, name: str, tables: SharedTables) -> IndexedRun:
    """Return a run with what can be read of it; the first error is its detail."""
    errors: list[str] = []

    def attempt(read: Callable[[], Any], default: Any) -> Any:
        try:
            return read()
        except (MaskclsError, OSError) as error:
            errors.append(str(error))
            return default

    is_done = run.is_done
    config = attempt(lambda: read_config(run), {})
    metrics = attempt(run.metrics, None) or {}
    history, facts = attempt(run.history, []), attempt(run.provenance, {})
    if os.path.lexists(run.table_path) or is_done:
        attempt(lambda: tables.attach(run), None)
    if is_done and not errors:
        attempt(run.check, None)
    if not errors:
        state, detail = attempt(lambda: find_state(run, metrics, history), ("unreadable", ""))
    if errors:
        state, detail = "unreadable", describe_error(errors[0], facts)
    return IndexedRun(run, name, state, detail, config, metrics, history, facts)


def read_config(run: Run) -> Mapping[str, Any]:
    """Return the config of a run; RunError without one."""
    if not os.path.lexists(run.config_path):
        raise RunError("no config.yaml: the run has not started, or was copied or deleted in part")
    return run.config


def describe_error(error: str, facts: Mapping[str, Any]) -> str:
    """Return an error in one line, with the version of maskcls that wrote the run."""
    version = facts.get("maskcls")
    return escape_controls(" ".join(error.split())) + (f" (written by maskcls {version})" if version else "")


def find_state(run: Run, metrics: Mapping[str, Any], history: list[dict[str, Any]]) -> tuple[State, str]:
    """Return the state of a readable run, and its detail."""
    if metrics:
        folds = [f"fold {row['fold']} after epoch {row['epochs']}" for row in metrics["folds"] if row.get("concluded")]
        return ("concluded", ", ".join(folds)) if folds else ("finished", "")
    count = find_num_folds(run)
    is_running = any(is_locked(path) for path in (run.lock_path(), *map(run.lock_path, range(count))))
    return "running" if is_running else "stopped", describe_progress(run, count, history)


def find_num_folds(run: Run) -> int:
    """Return the number of folds of an unfinished run, which may have no table yet."""
    folds = run.config.get("folds")
    count = num_folds(run.table) if os.path.lexists(run.table_path) else folds if isinstance(folds, int) else 0
    return min(max(count, 0), MAX_FOLDS)


def describe_progress(run: Run, count: int, history: list[dict[str, Any]]) -> str:
    """Return the fold and the epoch at which an unfinished run is, such as `at fold 3 of 0–4, epoch 2 of 10`."""
    epochs = {row["fold"]: row["epoch"] for row in history}
    remaining = [k for k in range(count) if not run.fold_is_done(k)]
    if count and not remaining:
        return "before its closing metrics"
    if not remaining:
        return "before its first fold"
    k = next((k for k in remaining if k in epochs), remaining[0])
    done = count - len(remaining)
    epoch = f", epoch {epochs[k]} of {run.config.get('epochs')}" if k in epochs else ""
    return f"at fold {k}{epoch}; {done} of {count} folds finished"
