"""Peak and resident memory of processes."""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB, including mapped file pages."""
    if (peak := read_proc_field("/proc/self/status", "VmHWM")) is not None:
        return peak
    import resource  # not available on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def worker_memory() -> float:
    """Return the current memory of this process's workers in MB; shared pages are divided among their processes."""
    paths = [f"/proc/{worker.pid}/smaps_rollup" for worker in multiprocessing.active_children()]
    return sum(read_proc_field(path, "Pss") or 0.0 for path in paths)


def resident_memory() -> dict[str, float]:
    """Return the current resident memory in MB: the process's own, and file pages, which the system may drop."""
    fields = {"own_rss_mb": "RssAnon", "files_rss_mb": "RssFile"}
    return {key: read_proc_field("/proc/self/status", field) or 0.0 for key, field in fields.items()}


def read_proc_field(path: str, field: str) -> float | None:
    """Return a field of a Linux /proc file in MB, None without it (getrusage includes the parent's peak in a child)."""
    text = Path(path).read_text(encoding="utf-8") if Path(path).exists() else ""
    match = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 / 1e6 if match else None
