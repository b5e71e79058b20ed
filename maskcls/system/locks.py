"""Locks between processes: flock, or marker files with process id and host if flock is unavailable."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from filelock import SoftFileLock, Timeout

from maskcls.system import console
from maskcls.system.safe_reading import FormatError, open_file

ABSENT = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # Lustre without -o flock, some NFS and FUSE


def flock(file: IO[Any], wait: bool) -> bool:
    """Lock an open file until it is closed; return False if the file system does not support flock.

    If another process holds the lock, wait for it or raise BlockingIOError.
    """
    try:
        import fcntl  # not on Windows

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except ImportError:
        reason = "this system has no flock"
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        reason = f"flock: {error.strerror}"
    else:
        return True
    console.info_once(
        f"this file system has no file locks ({reason}); using marker files (*.soft) instead. "
        "Delete a marker file only if the process named in it has ended"
    )
    return False


def is_locked(path: Path) -> bool:
    """Return True if a process holds a lock file, or its marker; it is neither created nor waited for."""
    if holder := read_holder(path.with_name(f"{path.name}.soft")):
        return len(holder) < 2 or not has_ended(*holder[:2])
    try:
        import fcntl  # not on Windows

        with open_file(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError, FormatError):
        return False
    return False


@contextlib.contextmanager
def hold_marker(marker: Path, waiting: Callable[[], Any]) -> Iterator[None]:
    """Context manager that holds a lock by the existence of a marker file; stale markers of this host are removed."""
    lock = SoftFileLock(marker)
    remove_stale(marker)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        waiting()
        wait_for_marker(lock, marker)
    try:
        yield
    finally:
        lock.release()


def wait_for_marker(lock: SoftFileLock, marker: Path) -> None:
    """Acquire a lock that another process holds, or whose process was killed."""
    console.info_once(f"waiting for {marker}, locked by process {' of '.join(read_holder(marker)[:2])}")
    while not lock.is_locked:
        remove_stale(marker)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=2)


def read_holder(marker: Path) -> list[str]:
    """Return process id, host and start time from a marker file, or an empty list if it does not exist."""
    with contextlib.suppress(OSError):
        return marker.read_text(encoding="utf-8", errors="replace").split()
    return []


def remove_stale(marker: Path) -> None:
    """Remove a marker file whose process on this host has ended, and report it.

    filelock does this by exchanging two names, which NFS and Lustre do not support.
    """
    holder = read_holder(marker)
    if len(holder) < 2 or not has_ended(*holder[:2]):
        return
    stale = marker.with_name(f"{marker.name}.{os.getpid()}.stale")
    with contextlib.suppress(OSError):
        marker.rename(stale)  # of several processes, one succeeds
        if read_holder(stale) == holder:
            console.info_once(f"removed {marker}, left by process {holder[0]}, which has ended")
        else:  # another process removed the stale marker first, and this one is its own
            os.link(stale, marker)
        stale.unlink()


def has_ended(pid: str, host: str) -> bool:
    """Return True if the process ran on this host and has ended; False for other hosts."""
    if (
        host != socket.gethostname() or not pid.isdecimal() or os.name == "nt"
    ):  # Windows: kill(pid, 0) ends it
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # the process of another user
        return False
    return False


def part_file_prefix(name: str) -> str:
    """Return the prefix of a temporary file's name; process id and host replace the lock without flock."""
    return f".{name}.{os.getpid()}@{socket.gethostname()}."


def read_writer(part: Path) -> tuple[str, str]:
    """Return process id and host from a file name made with `part_file_prefix`, empty texts for other names."""
    pid, _, host = part.name.rsplit(".", 2)[0].rpartition("@")
    return pid.rpartition(".")[2], host
