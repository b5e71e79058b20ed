"""CPU count, shared memory, and child processes that exit with their parent."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
from multiprocessing.connection import wait

SHARED = "/dev/shm"  # Linux's shared memory, used by torch for batches and by Python for semaphores
MIN_FREE = 2**20  # bytes; enough for the semaphores of a process pool


def num_cpus() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_shared_memory() -> int:
    """Return the free bytes of shared memory, 0 if /dev/shm is missing or too full for a few semaphores.

    The default of Docker is 64 MB. Systems other than Linux have no such limit.
    """
    if sys.platform != "linux":
        return sys.maxsize
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:
        return 0
    return free if free >= MIN_FREE else 0


def exit_with_parent() -> None:
    """Start a thread that exits this process when its parent ends, even by kill -9, instead of waiting forever."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)
