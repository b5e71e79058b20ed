"""Standard streams that accept any text, in every locale and if they are closed."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Open closed standard streams, and escape characters that a stream cannot encode."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if not is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which the next opened file would get
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_open(number: int) -> bool:
    """Return True if a file descriptor is open."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
