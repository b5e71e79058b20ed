"""CSV column names: other spellings and synonyms are accepted, misspelt names are errors."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from maskcls.core.errors import DataError
from maskcls.core.table import Note

SIMILARITY_CUTOFF = 0.8  # of two names; above it one is taken for a misspelling of the other
COLUMN_SYNONYMS = {
    "person": ("person_id", "subject", "subject_id", "identity"),
    "part": ("split",),
    "path": ("file", "filename", "image_path"),
    "gender": ("sex",),
}


def squeeze(name: str) -> str:
    """Return the letters and digits of a name in lower case, which all of its spellings share."""
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())


def rename_columns(source: Path, header: Sequence[str], names: Sequence[str], note: Note | None) -> list[str]:
    """Return the header with other spellings and synonyms of `names` replaced; raise DataError for ambiguous ones."""
    renamed, errors = list(header), []
    for name in [name for name in names if name not in header]:
        spellings = {squeeze(spelling) for spelling in (name, *COLUMN_SYNONYMS.get(name, ()))}
        matches = [i for i, column in enumerate(header) if column not in names and squeeze(column) in spellings]
        if len(matches) > 1:
            columns = " and ".join(f"'{header[i]}'" for i in matches)
            errors.append(f"{source}: columns {columns} all match '{name}'. Rename the right one to {name}")
        elif matches:
            renamed[matches[0]] = name
    if errors:
        raise DataError(*errors)
    changes = [f"'{column}' as {name}" for column, name in zip(header, renamed, strict=True) if column != name]
    if changes and note:
        note(f"{source}: reading column {', '.join(changes)}")
    return renamed


def check_unused(
    source: Path, header: Sequence[str], names: Sequence[str], ignored: Sequence[str], note: Note
) -> None:  # fmt: skip
    """Report columns that are not read; raise DataError for one that resembles a missing column."""
    unused = [column for column in header if column not in names and column not in ignored]
    missing = [name for name in names if name not in header]
    misspelt = [(column, find_misspelt(column, missing)) for column in unused]
    errors = [f"{source}: unknown column '{column}', did you mean '{name}'? Rename it or remove it"
              for column, name in misspelt if name]  # fmt: skip
    if errors:
        raise DataError(*errors)
    if unused:
        note(f"{source}: columns not used: {', '.join(column or '(no name)' for column in unused)}")


def find_misspelt(column: str, names: Sequence[str]) -> str | None:
    """Return the name that a column resembles, None if it resembles none."""
    if "person" in names and "person" in squeeze(column):
        return "person"
    close = difflib.get_close_matches(squeeze(column), names, n=1, cutoff=SIMILARITY_CUTOFF)
    return close[0] if close else None
