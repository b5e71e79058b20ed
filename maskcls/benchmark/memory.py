"""Peak and resident memory of processes."""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path


def peak_memory() -> float:
    """Return the most memory that this process has held, in MB, with the read pages of files."""
    if (found := memory("/proc/self/status", "VmHWM")) is not None:
        return found
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def worker_memory() -> float:
    """Return the MB that this process's workers hold now; a page that several processes share is shared out."""
    files = [f"/proc/{worker.pid}/smaps_rollup" for worker in multiprocessing.active_children()]
    return sum(memory(file, "Pss") or 0.0 for file in files)


def resident_memory() -> dict[str, float]:
    """Return the MB held now: the process's own, and pages of files, which the system may drop."""
    kinds = {"own_rss_mb": "RssAnon", "files_rss_mb": "RssFile"}
    return {name: memory("/proc/self/status", kind) or 0.0 for name, kind in kinds.items()}


def memory(file: str, kind: str) -> float | None:
    """Return a line of Linux's own account of a process, in MB (getrusage would tell a parent's peak for its child)."""
    path = Path(file)
    found = re.search(rf"^{kind}:\s+(\d+) kB", path.read_text(encoding="utf-8") if path.exists() else "", re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None
