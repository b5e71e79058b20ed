"""Processes of this machine: their cores, the memory that they share, and helpers that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
from multiprocessing.connection import wait

SHARED = "/dev/shm"  # where Linux keeps what processes share: torch's batches and Python's semaphores
FEW = 2**20  # bytes that the semaphores of a pool of processes take, with room to spare


def num_cpus() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_shared_memory() -> int:
    """Return the bytes that processes can still share: 0 if /dev/shm is missing or too full for a few semaphores.

    Docker gives a container 64 MB unless it is told otherwise. Other systems than Linux have no such limit.
    """
    if sys.platform != "linux":
        return sys.maxsize
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:
        return 0
    return free if free >= FEW else 0


def exit_with_parent() -> None:
    """Let this process end when the one that began it does, even by kill -9: else it would wait for work for ever."""
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
