"""Digests of files: each is read once, then remembered by its path as long as the system says that it is the same."""

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
RECENT = 3.0  # seconds: within them two writes can bear one time (of coarse clocks), so such a file is not remembered
CHUNK = 1 << 20
Known = dict[str, list[str]]  # path: state, digest


def file_digests(paths: Sequence[str], root: Path) -> list[str]:
    """Return 16 hexadecimal digits of the content of each file; root/contents.json remembers them.

    A file is read again where its size, its inode, or its time of change differs: that of its content, which a program
    can set back, or that of its inode, which none can. A file that cannot be read is a DataError.
    """
    names = [os.path.abspath(path) for path in paths]
    states = {name: file_state(name) for name in dict.fromkeys(names)}
    known = load_known(root / STORE)
    if any(is_new(known, name, state) for name, state in states.items()):
        known = read_new(states, root)
    return [known[name][1] for name in names]


def file_digest(path: Path, root: Path) -> str:
    """Return the digest of one file."""
    return file_digests([str(path)], root)[0]


def joint_digest(paths: Iterable[Path], root: Path) -> str:
    """Return one digest of several files in their order."""
    return content_hash(file_digests([str(path) for path in paths], root))


def check_unchanged(paths: Sequence[str], digests: Sequence[str], root: Path) -> None:
    """Raise a DataError if files do not hold what these digests are of."""
    now = file_digests(paths, root)
    changed = [path for path, before, after in zip(paths, digests, now, strict=True) if before != after]
    if changed:
        what = f"{len(changed)} of {len(paths)} photos changed while the command ran, first {changed[0]}"
        raise DataError(f"{what}. Run the same command again")


def file_state(path: str) -> str:
    """Return what the system knows of a file: it differs once the content does."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path} is not a file")
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}"


def load_known(store: Path) -> Known:
    """Return the remembered digests; nothing where the file is missing or broken."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(store.read_text(encoding="utf-8")))
        if all(isinstance(state, str) and len(state.split()) == 4 and isinstance(digest, str)
               for state, digest in known.values()):  # fmt: skip
            return known
    return {}


def is_new(known: Known, path: str, state: str) -> bool:
    """Return True unless the digest of a file in this state is known."""
    return path not in known or known[path][0] != state


def read_new(states: dict[str, str], root: Path) -> Known:
    """Return the digests of files, reading those that are not known, and remember them where that is possible."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a cache that cannot be written serves as well
            stack.enter_context(file_lock(root / ".contents.lock"))
        known = load_known(root / STORE)
        new = [path for path, state in states.items() if is_new(known, path, state)]
        with ThreadPoolExecutor(num_cpus()) as pool:
            digests = dict(zip(new, pool.map(read_digest, new), strict=True))
        known |= {path: [states[path], digest] for path, digest in digests.items()}
        lasting = {path: pair for path, pair in known.items() if is_lasting(path, pair[0])}
        with contextlib.suppress(OSError, ValueError):  # a name may be of no encoding
            write_json(root / STORE, lasting)
    return known


def is_lasting(path: str, state: str) -> bool:
    """Return True if a file is there and has not changed for so long that its next change will show."""
    changed = max(map(int, state.split()[1:3])) / 1e9
    return time.time() - changed > RECENT and os.path.exists(path)


def read_digest(path: str) -> str:
    """Read a file and return its digest."""
    found = hashlib.blake2b(digest_size=8)
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return found.hexdigest()
