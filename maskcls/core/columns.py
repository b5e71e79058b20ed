"""Names of columns: known in any spelling and by synonyms; one that is not read is named, a slip is refused."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from maskcls.core.errors import DataError

NEAR = 0.8  # likeness of two names from which one is taken for a slip of the other
COLUMN_SYNONYMS = {
    "person": ("person_id", "subject", "subject_id", "identity"),
    "part": ("split",),
    "path": ("file", "filename", "image_path"),
    "gender": ("sex",),
}
Note = Callable[[str], None]


def squeeze(name: str) -> str:
    """Return the letters and digits of a name, without case: what two spellings of it share."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())


def rename_columns(source: Path, header: Sequence[str], known: Sequence[str], note: Note | None) -> list[str]:
    """Return the header with known names for other spellings and synonyms; DataError where two mean one column."""
    names, faults = list(header), []
    for name in [name for name in known if name not in header]:
        spellings = {squeeze(spelling) for spelling in (name, *COLUMN_SYNONYMS.get(name, ()))}
        alike = [i for i, given in enumerate(header) if given not in known and squeeze(given) in spellings]
        if len(alike) > 1:
            several = " and ".join(f"'{header[i]}'" for i in alike)
            faults.append(f"{source}: columns {several} can each be '{name}'. Rename the right one to {name}")
        elif alike:
            names[alike[0]] = name
    if faults:
        raise DataError(*faults)
    read = [f"'{given}' as {name}" for given, name in zip(header, names, strict=True) if given != name]
    if read and note:
        note(f"{source}: reading column {', '.join(read)}")
    return names


def check_unused(
    source: Path, names: Sequence[str], known: Sequence[str], ignored: Sequence[str], note: Note
) -> None:  # fmt: skip
    """Name the columns that are not read; raise a DataError for one that looks like a slip of a missing column."""
    unused = [name for name in names if name not in known and name not in ignored]
    missing = [name for name in known if name not in names]
    slips = [(name, find_slip(name, missing)) for name in unused]
    faults = [f"{source}: unknown column '{name}', did you mean '{meant}'? Rename it or remove it"
              for name, meant in slips if meant]  # fmt: skip
    if faults:
        raise DataError(*faults)
    if unused:
        note(f"{source}: columns not used: {', '.join(name or '(no name)' for name in unused)}")


def find_slip(name: str, known: Sequence[str]) -> str | None:
    """Return the known column that a name looks like, None for a name of its own."""
    if "person" in known and "person" in squeeze(name):
        return "person"
    close = difflib.get_close_matches(squeeze(name), known, n=1, cutoff=NEAR)
    return close[0] if close else None
