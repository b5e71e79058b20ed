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
from maskcls.system.locks import flock, has_ended, hold_marker, part_file_prefix, read_writer
from maskcls.system.safe_reading import open_file


def replace_between_markers(path: Path, markers: tuple[str, str], content: str) -> None:
    """Replace the text between two markers of a file."""
    begin, end = markers
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if begin not in text or end not in text:
        got = "a file without them" if path.is_file() else "no file"
        raise ConfigError(f"{path}: expected the markers {begin} and {end}, got {got}. Add them where the text belongs")
    before, rest = text.split(begin, 1)
    write_text(path, f"{before}{begin}\n{content}\n{end}{rest.split(end, 1)[1]}")


UMASK = os.umask(0)
os.umask(UMASK)  # reading it requires setting it


def content_hash(content: Any) -> str:
    """Return 8 hexadecimal digits of the content of a JSON-like value, independent of the order of keys."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def atomic_write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file atomically: write a temporary file in the same folder, flush it to disk, rename it."""
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
    """Return a new file `.name.*.part` in the same folder, locked until it is closed or its process ends."""
    while True:
        handle, name = tempfile.mkstemp(prefix=part_file_prefix(path.name), suffix=".part", dir=path.parent)
        file = os.fdopen(handle, "wb")
        flock(file, wait=True)
        if os.fstat(file.fileno()).st_nlink:
            return file, Path(name)
        file.close()  # another process removed it before it was locked


def remove_stale_parts(folder: Path, pattern: str = "**/.*.part") -> None:
    """Remove the temporary files of killed processes in a folder; those of running processes are locked and kept."""
    for part in folder.glob(pattern):
        with contextlib.suppress(OSError, ValueError), open_file(part) as file:
            if flock(file, wait=False) or has_ended(*read_writer(part)):
                part.unlink()


def check_writable(**folders: str) -> None:
    """Create the folders of config keys; raise RunError for one that is not writable."""
    for key, folder in folders.items():
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"{key}: cannot create {folder} ({error.strerror})"
            raise RunError(f"{what}. Choose another folder with {key}=…") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RunError(f"{key}: {folder} is not writable. Choose another folder with {key}=…")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    atomic_write(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; raise ValueError for NaN."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def file_lock(path: Path, waiting: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Context manager that holds a lock file until its process ends; call `waiting()` if another process holds it."""
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
    """Write an .npz file atomically."""
    archive = io.BytesIO()  # numpy < 2 leaves the archive open after a write error
    np.savez(archive, **arrays)
    atomic_write(path, lambda file: file.write(archive.getbuffer()))
