"""Rows whose file is missing: errors of their table, or left out with on_error=skip."""

from __future__ import annotations

from dataclasses import dataclass, field

from maskcls.core.table import Note


@dataclass
class SkipMissing:
    """Note callback for on_error=skip: a source that gets it leaves out rows whose file is missing.

    `messages` collects one message for each of these rows.
    """

    note: Note
    messages: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        self.note(text)


def report_missing(message: str, errors: list[str], note: Note) -> None:
    """Add the message on a row without a file to the rows that are left out, or to the errors of its table."""
    (note.messages if isinstance(note, SkipMissing) else errors).append(message)
