"""Capture of standard error at the file descriptor, where libjpeg writes its warnings."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

LOCK = threading.RLock()  # the process has one descriptor for all threads


@contextlib.contextmanager
def capture_stderr() -> Iterator[list[str]]:
    """Context manager that collects the lines written to file descriptor 2; the list is filled on exit.

    Output of all threads is captured, so a line can be attributed to an image only if nothing else runs.
    """
    lines: list[str] = []
    with LOCK, tempfile.TemporaryFile() as file:
        try:
            saved_fd = os.dup(2)
        except OSError:  # standard error is closed
            saved_fd = -1
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            if saved_fd >= 0:
                os.dup2(saved_fd, 2)
                os.close(saved_fd)
            else:
                os.close(2)
            file.seek(0)
            lines += filter(None, map(str.strip, file.read().decode(errors="replace").splitlines()))
