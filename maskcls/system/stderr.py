"""What C libraries write to the standard error: libjpeg says there, and nowhere else, that a photo is broken."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

LOCK = threading.RLock()  # the descriptor is the whole process's


@contextlib.contextmanager
def capture_stderr() -> Iterator[list[str]]:
    """Context manager that collects what is written to file descriptor 2; the list is filled when it ends.

    All threads of the process are captured, so what is heard belongs to a photo only where nothing else runs.
    """
    lines: list[str] = []
    with LOCK, tempfile.TemporaryFile() as file:
        try:
            kept = os.dup(2)
        except OSError:  # the standard error is closed
            kept = -1
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            if kept >= 0:
                os.dup2(kept, 2)
                os.close(kept)
            else:
                os.close(2)
            file.seek(0)
            lines += filter(None, map(str.strip, file.read().decode(errors="replace").splitlines()))
