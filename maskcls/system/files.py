"""Files: atomic writes, locks, hashes, JSON, YAML and npz."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from maskcls.core.errors import ConfigError, RunError
from maskcls.system.locks import flock, has_ended, hold_marker, mark_part, read_writer
from maskcls.system.safe_reading import open_file


def replace_between_markers(path: Path, markers: tuple[str, str], table: str) -> None:
    """Put a table between the two markers of a file."""
    begin, end = markers
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if begin not in text or end not in text:
        raise ConfigError(f"{path} lacks the markers {begin} and {end}")
    before, rest = text.split(begin, 1)
    write_text(path, f"{before}{begin}\n{table}\n{end}{rest.split(end, 1)[1]}")


UMASK = os.umask(0)
os.umask(UMASK)  # it can only be read by setting it


def content_hash(content: Any) -> str:
    """Return 8 hexadecimal digits of the content of a JSON-like value, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def atomic_write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file whole or not at all: beside its place, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file, part = open_part_file(path)
    try:
        with file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(part, 0o666 & ~UMASK)
            os.replace(part, path)
    except OSError as error:
        size = part.stat().st_size / 1e6 if part.exists() else 0.0
        part.unlink(missing_ok=True)
        raise OSError(error.errno, f"{error.strerror} after {size:.1f} MB", str(path)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def open_part_file(path: Path) -> tuple[IO[bytes], Path]:
    """Return a new file `.name.*.part` beside a place, locked until it is closed or its process dies."""
    while True:
        handle, name = tempfile.mkstemp(prefix=mark_part(path.name), suffix=".part", dir=path.parent)
        file = os.fdopen(handle, "wb")
        flock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file, Path(name)
        file.close()  # swept before it was locked


def remove_stale_parts(folder: Path) -> None:
    """Remove what killed processes were writing below a folder; what a living one writes is locked, and stays."""
    for part in folder.rglob(".*.part"):
        with contextlib.suppress(OSError, ValueError), open_file(part) as file:
            if flock(file, wait=False) or has_ended(*read_writer(part)):
                part.unlink()


def check_writable(**folders: str) -> None:
    """Make the folders that some keys name; raise a RunError for one that cannot be written to."""
    for key, folder in folders.items():
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{key}: {folder} cannot be made: {error.strerror}") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RunError(f"{key}: {folder} cannot be written to: give another folder, as {key}=…")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    atomic_write(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all; NaN is refused."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def file_lock(path: Path, waiting: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Hold a lock file; it is freed by the system when its process dies. `waiting()` is called when it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        try:
            native = flock(file, wait=False)
        except BlockingIOError:
            waiting()
            native = flock(file, wait=True)
        with contextlib.nullcontext() if native else hold_marker(path.with_name(f"{path.name}.soft"), waiting):
            yield


def write_npz(path: Path, **arrays: Any) -> None:
    """Write a .npz whole or not at all."""
    archive = io.BytesIO()  # numpy before 2 leaves its archive open after an error of the disk
    np.savez(archive, **arrays)
    atomic_write(path, lambda file: file.write(archive.getbuffer()))
