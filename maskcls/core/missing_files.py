"""Rows whose file is missing: a fault of the table, or left out of it where the run wants that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

left_out: ContextVar[list[str] | None] = ContextVar("left_out", default=None)


@contextmanager
def skip_missing(active: bool) -> Iterator[list[str]]:
    """Context manager in which sources leave out rows without a file; its list holds a sentence for each.

    A source is any function, perhaps a user's, so this is no parameter of it.
    """
    sentences: list[str] = []
    token = left_out.set(sentences if active else None)
    try:
        yield sentences
    finally:
        left_out.reset(token)


def report_missing(sentence: str, faults: list[str]) -> None:
    """Add a sentence on a row without a file to the faults of its table, or to the rows that are left out."""
    known = left_out.get()
    (faults if known is None else known).append(sentence)
