"""Digests of file contents, cached by path, size, times and inode."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from maskcls.core.errors import DataError
from maskcls.system.files import content_hash, file_lock, write_json
from maskcls.system.processes import num_cpus

STORE = "contents.json"
RECENT = 3.0  # seconds; a file changed more recently is not cached, since another write could get the same time
CHUNK = 1 << 20
Digests = dict[str, list[str]]  # path: state, digest


def file_digests(paths: Sequence[str], root: Path) -> list[str]:
    """Return 16 hexadecimal digits of the content of each file, cached in root/contents.json.

    A file is read again if its size, inode, mtime or ctime differs; programs can reset mtime but not ctime. Raise
    DataError for a file that cannot be read.
    """
    names = [os.path.abspath(path) for path in paths]
    states = {name: file_state(name) for name in dict.fromkeys(names)}
    cached = load_store(root / STORE)
    if any(is_new(cached, name, state) for name, state in states.items()):
        cached = update_digests(states, root)
    return [cached[name][1] for name in names]


def file_digest(path: Path, root: Path) -> str:
    """Return the digest of one file."""
    return file_digests([str(path)], root)[0]


def joint_digest(paths: Iterable[Path], root: Path) -> str:
    """Return one digest of several files, in order."""
    return content_hash(file_digests([str(path) for path in paths], root))


def check_unchanged(paths: Sequence[str], digests: Sequence[str], root: Path) -> None:
    """Raise DataError if the content of files no longer has these digests."""
    current = file_digests(paths, root)
    changed = [path for path, before, after in zip(paths, digests, current, strict=True) if before != after]
    if changed:
        counts = f"{len(changed)} of {len(paths)} images changed while the command ran"
        raise DataError(f"{counts}, first {changed[0]}. Run the same command again")


def file_state(path: str) -> str:
    """Return size, times and inode of a file: they differ if the content differs."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is not a file")
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def load_store(store: Path) -> Digests:
    """Return the cached digests, empty if the file is missing or corrupt."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        cached = dict(json.loads(store.read_text(encoding="utf-8")))
        if all(isinstance(state, str) and len(state.split()) == 4 and isinstance(digest, str)
               for state, digest in cached.values()):  # fmt: skip
            return cached
    return {}


def is_new(cached: Digests, path: str, state: str) -> bool:
    """Return True unless the digest of the file in this state is cached."""
    return path not in cached or cached[path][0] != state


def update_digests(states: dict[str, str], root: Path) -> Digests:
    """Return the digests of files, reading those that are not cached, and write them to the cache if possible."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only cache folder is allowed
            stack.enter_context(file_lock(root / ".contents.lock"))
        cached = load_store(root / STORE)
        new = [path for path, state in states.items() if is_new(cached, path, state)]
        with ThreadPoolExecutor(num_cpus()) as pool:
            digests = dict(zip(new, pool.map(read_digest, new), strict=True))
        cached |= {path: [states[path], digest] for path, digest in digests.items()}
        lasting = {path: pair for path, pair in cached.items() if is_lasting(path, pair[0])}
        with contextlib.suppress(OSError, ValueError):  # a file name may have no valid encoding
            write_json(root / STORE, lasting)
    return cached


def is_lasting(path: str, state: str) -> bool:
    """Return True if a file exists and its last change is old enough that the next one will be detected."""
    changed = max(map(int, state.split()[1:3])) / 1e9
    return time.time() - changed > RECENT and os.path.exists(path)


def read_digest(path: str) -> str:
    """Read a file and return its digest."""
    digest = hashlib.blake2b(digest_size=8)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()
