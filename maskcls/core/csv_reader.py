"""CSV files as rows of text, with the file and line of each error."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from maskcls.core.columns import Columns, check_unused, rename_columns, renamed_columns
from maskcls.core.errors import DataError, and_others, nearest, unknown_message
from maskcls.core.group_values import find_groups
from maskcls.core.table import DECISIONS, Note

SYSTEM_FILES = ("._", ".DS_Store")  # of macOS


class Row(NamedTuple):
    """One row of a CSV: its location for error messages, and its cells."""

    location: str
    cells: dict[str, str]


class Sheet(NamedTuple):
    """The rows of a CSV, {name: column} of the columns that are read under another name, and the names the user set."""

    rows: list[Row]
    renamed: dict[str, str]
    given: frozenset[str] = frozenset()


def read_rows(
    source: Path, columns: Sequence[str], optional: Sequence[str] = (), ignored: Sequence[str] = (),
    note: Note | None = None, with_groups: bool = False,
) -> list[Row]:  # fmt: skip
    """Return the rows of a CSV like `read_sheet`; `note` also reports the columns that have other names."""
    notes: list[str] = []
    sheet = read_sheet(source, columns, optional, ignored, notes.append, with_groups=with_groups)
    rows, renamed = sheet.rows, sheet.renamed
    if renamed:
        notes.insert(0, f"{source}: read column " + ", ".join(f"'{old}' as {name}" for name, old in renamed.items()))
    for text in notes if note else ():
        note(text)  # type: ignore[misc]
    return rows


def read_sheet(
    source: Path, columns: Sequence[str], optional: Sequence[str], ignored: Sequence[str], note: Note,
    given: Columns | None = None, key: str = "", with_groups: bool = False,
) -> Sheet:  # fmt: skip
    """Return the rows of a CSV as stripped text (ids keep leading zeros) in Unicode NFC.

    The delimiter is one of `, ; tab |`. Column names match in any case, with any blanks and punctuation, or by a
    synonym, or as `given` (the config key `key`) says; `note` reports columns that are neither read nor `ignored`,
    and, if `with_groups`, those whose values are groups (`find_groups`).
    Raise DataError for a missing file or column, and for a row whose number of cells differs from the header's.
    """
    lines = read_lines(source)
    header = lines[0][1]
    duplicates = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    raise_errors([f"{source}: duplicate column '{name}'. Rename or remove one" for name in duplicates])
    names = rename_columns(source, header, [*columns, *optional], given, key)
    raise_errors([missing_column_message(source, name, header, key) for name in columns if name not in names])
    rows = [(where, row if any(row[len(header) :]) else row[: len(header)]) for where, row in lines[1:]]
    raise_errors(
        [f"{where}: expected {len(header)} cells, got {len(row)}" for where, row in rows if len(row) != len(header)]
    )
    filled = [name for i, name in enumerate(names) if name or any(row[i] for _, row in rows)]
    renamed = renamed_columns(header, [*columns, *optional], names)
    cells = [Row(where, dict(zip(names, row, strict=True))) for where, row in rows]
    groups = find_groups([row.cells for row in cells], [*columns, *optional]) if with_groups else []
    check_unused(source, filled, [*columns, *optional], ignored, note, given or (), groups)
    return Sheet(cells, renamed, frozenset(given or ()))


def read_header(source: Path) -> list[str]:
    """Return the columns of a CSV as written."""
    return read_lines(source)[0][1]


def missing_column_message(source: Path, name: str, header: Sequence[str], key: str = "") -> str:
    """Return the message for a column that a header lacks, with the nearest one that it has."""
    close = nearest(name, header)
    message = f"{source}: missing column '{name}', got {', '.join(header)}"
    if key and not close:
        return f"{message}. Name it with {key}={{{name}: <column>}}"
    return message + (f". Rename '{close}'" if close else "")


def read_lines(source: Path) -> list[tuple[str, list[str]]]:
    """Return (location, cells) of the lines of a CSV without empty ones; the first is the header."""
    if not source.is_file():
        raise DataError(f"{source} {'is not a regular file' if os.path.exists(source) else 'does not exist'}")
    try:
        text = unicodedata.normalize("NFC", source.read_bytes().decode("utf-8-sig"))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_delimiter(text))
        lines = [(f"{source} line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text. Save it as CSV in UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{source}: cannot read CSV ({error})") from error
    lines = [(where, row) for where, row in lines if any(row)]
    if not lines:
        raise DataError(f"{source} is empty")
    return lines


def detect_delimiter(text: str) -> str:
    """Return the most frequent delimiter of the first line, by default a comma."""
    header = text.lstrip().partition("\n")[0]
    return max(",;\t|", key=header.count)


def find_duplicates(rows: Sequence[Row], column: str, names: Sequence[str] | None = None) -> list[str]:
    """Return a message for each row whose cell (or name) is that of an earlier row; `a` and `./a` are one path."""
    seen: set[str] = set()
    errors = []
    names = names or [str(PurePosixPath(cells[column])) for _, cells in rows]
    for (where, cells), name in zip(rows, names, strict=True):
        if name in seen:
            errors.append(f"{where}: duplicate {column} {cells[column]!r}")
        seen.add(name)
    return errors


def parse_decision(row: Row, errors: list[str]) -> str:
    """Return the decision of a row in lower case, "" without one; add a message to `errors` for an unknown word."""
    decision = row.cells.get("decision", "").casefold()
    if decision not in ("", *DECISIONS):
        errors.append(f"{row.location}: {unknown_message('decision', row.cells['decision'], DECISIONS)}")
    return decision


def is_below_root(name: str) -> bool:
    """Return True if a relative path is inside its root."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def missing_path_message(kind: str, base: Path, name: str) -> str:
    """Return the message for a row's path that is outside its root or does not exist."""
    if PurePosixPath(name).is_absolute():
        return f"path {name!r} is absolute. Make it relative to {base}"
    if name and not is_below_root(name):
        return f"path {name!r} is outside {base}"
    return f"{kind} {base / name} does not exist"


def spell_as_on_disk(base: Path, name: str) -> str:
    """Return a relative path in the Unicode form of the files on disk (macOS writes é as two characters)."""
    folder, parts = base, []
    for part in PurePosixPath(name).parts:
        if not part.isascii() and not os.path.lexists(folder / part) and os.path.isdir(folder):
            spellings = cached_spellings(str(folder), os.stat(folder).st_mtime_ns)
            part = spellings.get(unicodedata.normalize("NFC", part), part)
        parts.append(part)
        folder = folder / part
    return "/".join(parts)


def spellings_in(folder: str) -> dict[str, str]:
    """Return {NFC form: name} of the names in a folder, empty if the folder does not exist."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {unicodedata.normalize("NFC", name): name for name in names}


@lru_cache(maxsize=64)
def cached_spellings(folder: str, mtime_ns: int) -> dict[str, str]:
    """Return `spellings_in(folder)`, cached until the folder's modification time changes."""
    return spellings_in(folder)


def note_blanks(source: Path, rows: Sequence[Row], note: Note) -> None:
    """Report the defaults that replace empty cells of person and part."""
    for column, default in (("person", "each counts as one person"), ("part", "they are training rows")):
        blank = [where for where, cells in rows if cells.get(column) == ""]
        if blank:
            note(f"{blank[0]}: {len(blank)} of {len(rows)} rows have an empty {column}; {default}")


def note_unused_files(folder: Path, used: Iterable[str | Path], note: Note) -> None:
    """Report the files below a folder that are not used, except the system's."""
    used_paths = set(map(os.path.normpath, used))
    files = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    unused = sorted(os.path.relpath(file, folder) for file in files if os.path.normpath(file) not in used_paths)
    if unused := [name for name in unused if not os.path.basename(name).startswith(SYSTEM_FILES)]:
        note(f"{len(unused)} files below {folder} are not used: {and_others(unused)}")


def is_utf8(name: str) -> bool:
    """Return True if a file's name can be written as UTF-8."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def find_outside_links(paths: Sequence[str], base: Path) -> list[str]:
    """Return the paths that lead outside a root through symbolic links; each folder is resolved once."""
    top, folders = os.path.realpath(base), [os.path.dirname(path) for path in paths]
    outside = {folder for folder in set(folders) if not Path(os.path.realpath(folder)).is_relative_to(top)}
    return [
        path for path, folder in zip(paths, folders, strict=True)
        if folder in outside or (os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(top))
    ]  # fmt: skip


def raise_errors(errors: Sequence[str], limit: int = 10) -> None:
    """Raise one DataError with the first messages and the number of the others, if there are any."""
    if errors:
        more = [f"… and {len(errors) - limit} more"] if len(errors) > limit else []
        raise DataError(*errors[:limit], *more)
