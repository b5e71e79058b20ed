"""Standard streams that any text can be printed to: in every locale, and where they are closed."""

from __future__ import annotations

import io
import os
import sys


def prepare_streams() -> None:
    """Open what is closed of the standard streams, and let letters that a stream's encoding lacks be escaped."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if not is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: else the first file that is opened has it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_open(number: int) -> bool:
    """Return True if a file descriptor is in use."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
