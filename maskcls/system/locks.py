"""Locks between processes: the system's own, freed when their process ends, else marker files that name it."""

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

ABSENT = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}  # Lustre without -o flock, some NFS and FUSE


def flock(file: IO[Any], wait: bool) -> bool:
    """Lock an open file until it is closed; return False if there are no such locks here.

    If another process holds the lock, wait for it or raise BlockingIOError.
    """
    try:
        import fcntl  # Windows has none

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except ImportError:
        reason = "this system has no flock"
    except OSError as error:
        if error.errno not in ABSENT:
            raise
        reason = f"flock: {error.strerror}"
    else:
        return True
    console.say_once(
        f"this file system has no file locks ({reason}): marker files, *.soft, are used instead. "
        "Delete one only if the process that it names has ended"
    )
    return False


@contextlib.contextmanager
def hold_marker(marker: Path, waiting: Callable[[], Any]) -> Iterator[None]:
    """Context manager that holds a lock by the existence of a file, after any process of this host that has ended."""
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
    """Acquire a lock that another process holds, or held when it was killed."""
    console.say_once(f"waiting for {marker}, held by process {' of '.join(read_holder(marker)[:2])}")
    while not lock.is_locked:
        remove_stale(marker)
        with contextlib.suppress(Timeout):
            lock.acquire(timeout=2)


def read_holder(marker: Path) -> list[str]:
    """Return the lines of a marker file: process id, host, and when the process started; none if it is gone."""
    with contextlib.suppress(OSError):
        return marker.read_text(encoding="utf-8", errors="replace").split()
    return []


def remove_stale(marker: Path) -> None:
    """Remove a marker file whose process on this host has ended, and say so.

    filelock does so by an exchange of two names, which NFS and Lustre refuse.
    """
    holder = read_holder(marker)
    if len(holder) < 2 or not has_ended(*holder[:2]):
        return
    aside = marker.with_name(f"{marker.name}.{os.getpid()}.stale")
    with contextlib.suppress(OSError):
        marker.rename(aside)  # of several processes, one succeeds
        if read_holder(aside) == holder:
            console.say_once(f"{marker} was left by process {holder[0]}, which has ended: removed")
        else:  # another process had removed the stale one, and this is its own
            os.link(aside, marker)
        aside.unlink()


def has_ended(pid: str, host: str) -> bool:
    """Return True if a process of this host has ended; of another host's nothing is known."""
    if host != socket.gethostname() or not pid.isdecimal() or os.name == "nt":  # there, kill(pid, 0) ends a process
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        return False
    return False


def mark_part(name: str) -> str:
    """Return the beginning of a part's file name: its process and host stand in for a lock where there is none."""
    return f".{name}.{os.getpid()}@{socket.gethostname()}."


def read_writer(part: Path) -> tuple[str, str]:
    """Return process and host from a file name that begins with `mark_part`, blanks from another one."""
    pid, _, host = part.name.rsplit(".", 2)[0].rpartition("@")
    return pid.rpartition(".")[2], host
