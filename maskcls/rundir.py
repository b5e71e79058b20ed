"""A run's directory: named by the content of its config, written by rename, locked against double work."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from maskcls.errors import RunError


def fingerprint(content: Any) -> str:
    """Return 8 hexadecimal digits of the content of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file whole or not at all: beside its place, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Hold a lock file; it is freed by the system when its process dies. `waiting()` is called when it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class RunDir:
    """runs/<name>-<hash>: what is in it says how far the run has come."""

    def __init__(self, root: Path, name: str, content: Mapping[str, Any]) -> None:
        self.id = f"{name}-{fingerprint(content)}"
        self.path = root / self.id

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def fold(self, k: int) -> Path:
        """Return the folder of one fold."""
        return self.path / f"fold{k}"

    def fold_done(self, k: int) -> bool:
        """Tell whether a fold's predictions stand."""
        return (self.fold(k) / "oof.npz").exists()

    def metrics(self) -> dict[str, Any] | None:
        """Return the closing metrics, or None while the run is not done (they are written last)."""
        path = self / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else None

    def open(self, config: Mapping[str, Any]) -> None:
        """Make the directory and write its config, unless it stands."""
        if not (self / "config.yaml").exists():
            write_text(self / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def claim(self, data: str, photos: int) -> None:
        """Remember the table's hash at the first time; refuse to go on over another table."""
        path = self / "data.json"
        mine = {"hash": data, "photos": photos}
        if not path.exists():
            write_json(path, mine)
        elif (theirs := json.loads(path.read_text())) != mine:
            raise RunError(
                f"{self.path} was begun over other data ({theirs['photos']} photos, hash {theirs['hash']}; "
                f"now {photos}, hash {data}): give this run another name=, or remove that folder"
            )

    def about(self, **facts: Any) -> None:
        """Add facts of this machine and call to about.json."""
        path = self / "about.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, known | facts)

    def append(self, numbers: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self / "log.jsonl").open("ab+") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            cut = file.read(1) not in (b"", b"\n")  # a killed process left half a line
            file.write(("\n" * cut + json.dumps(dict(numbers)) + "\n").encode())

    def log(self) -> list[dict[str, Any]]:
        """Return the rows of log.jsonl."""
        return epochs(self.path)


def epochs(place: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's log.jsonl, the latest for each fold and epoch (a resumed epoch is logged again)."""
    path = place / "log.jsonl"
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):  # a line that a killed process left half-written
            row = json.loads(line)
            rows[row["fold"], row["epoch"]] = row
    return [rows[key] for key in sorted(rows)]


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write a .npz whole or not at all."""
    write(path, lambda file: np.savez(file, **arrays))


def read_arrays(path: Path) -> dict[str, Any]:
    """Read a .npz without pickle."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
