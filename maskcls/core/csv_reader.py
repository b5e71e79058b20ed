"""CSV files: read as text, whatever their separator, with every bad row and every column that is not read named."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from maskcls.core.columns import check_unused, rename_columns
from maskcls.core.errors import DataError, and_others, nearest

MAX_AGE = 120
JUNK = ("._", ".DS_Store")
Note = Callable[[str], None]


class Row(NamedTuple):
    """One row of a CSV: where it stands, for a sentence about it, and its cells."""

    location: str
    cells: dict[str, str]


def read_csv(
    source: Path, columns: Sequence[str], optional: Sequence[str] = (), ignored: Sequence[str] = (),
    note: Note | None = None,
) -> list[Row]:  # fmt: skip
    """Return a CSV's rows as stripped text (ids keep their zeros) in Unicode's composed form, NFC.

    Its separator is one of `, ; tab |`. A missing file or column, or a line of more or fewer cells than the header, is
    a DataError. A column is known by its name in any case, with any blanks and signs, or by a synonym of it. `note` is
    told of columns that are known so, and of those that are not read (`ignored` ones left out).
    """
    lines = read_lines(source)
    header = lines[0][1]
    twice = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    raise_errors([f"{source} has two columns '{name}'" for name in twice])
    names = rename_columns(source, header, [*columns, *optional], note)
    raise_errors([missing_column_message(source, name, header) for name in columns if name not in names])
    rows = [(where, row if any(row[len(header) :]) else row[: len(header)]) for where, row in lines[1:]]
    raise_errors(
        [f"{where} has {len(row)} cells, the header {len(header)}" for where, row in rows if len(row) != len(header)]
    )
    if note:
        filled = [name for i, name in enumerate(names) if name or any(row[i] for _, row in rows)]
        check_unused(source, filled, [*columns, *optional], ignored, note)
    return [Row(where, dict(zip(names, row, strict=True))) for where, row in rows]


def missing_column_message(source: Path, name: str, header: Sequence[str]) -> str:
    """Return the message for a column that a header lacks, with the nearest one that it has."""
    close = nearest(name, header)
    return f"{source}: missing column '{name}', got {', '.join(header)}" + (f". Rename '{close}'" if close else "")


def read_lines(source: Path) -> list[tuple[str, list[str]]]:
    """Return where each line of a CSV stands and its cells; the first one is the header, empty ones are left out."""
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    try:
        text = unicodedata.normalize("NFC", source.read_bytes().decode("utf-8-sig"))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=detect_delimiter(text))
        lines = [(f"{source} line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no text in UTF-8: save it as a CSV in UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{source} cannot be read as a CSV: {error}") from error
    lines = [(where, row) for where, row in lines if any(row)]
    if not lines:
        raise DataError(f"{source} is empty")
    return lines


def detect_delimiter(text: str) -> str:
    """Return the separator that the first line has most of; a comma where it has none."""
    header = text.lstrip().partition("\n")[0]
    return max(",;\t|", key=header.count)


def find_duplicates(rows: Sequence[Row], column: str) -> list[str]:
    """Return a sentence for each row whose cell stood in an earlier one; `a` and `./a` are one path."""
    seen: set[str] = set()
    faults = []
    for where, cells in rows:
        name = str(PurePosixPath(cells[column]))
        if name in seen:
            faults.append(f"{where}: {column} {cells[column]!r} stands there more than once")
        seen.add(name)
    return faults


def parse_category(value: str, words: Mapping[str, int]) -> int | None:
    """Return the code of a word, None for an unknown one."""
    return words.get(value.lower())


def parse_age(value: str) -> float | None:
    """Return an age in years, None for what is no age."""
    try:
        age = float(value)
    except ValueError:
        return None
    return age if 0 <= age <= MAX_AGE else None


def is_below_root(name: str) -> bool:
    """Tell whether a relative path names something below its root."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def missing_path_message(kind: str, base: Path, name: str) -> str:
    """Return the sentence for a path of a row that leads to nothing below its root."""
    if PurePosixPath(name).is_absolute():
        return f"{name!r} is no path below {base}"
    if name and not is_below_root(name):
        return f"{name!r} climbs out of {base}"
    return f"there is no {kind} {base / name}"


def spell_as_on_disk(base: Path, name: str) -> str:
    """Return a relative path in the Unicode form that files have (a Mac writes é as two signs), else as it is."""
    place, parts = base, []
    for part in PurePosixPath(name).parts:
        if not part.isascii() and not os.path.lexists(place / part) and os.path.isdir(place):
            known = remembered_spellings(str(place), os.stat(place).st_mtime_ns)
            part = known.get(unicodedata.normalize("NFC", part), part)
        parts.append(part)
        place = place / part
    return "/".join(parts)


def spellings_in(folder: str) -> dict[str, str]:
    """Return the names in a folder by their composed form; none if there is no such folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {unicodedata.normalize("NFC", name): name for name in names}


@lru_cache(maxsize=64)
def remembered_spellings(folder: str, changed: int) -> dict[str, str]:
    """Return spellings_in a folder; `changed` is its time of change."""
    return spellings_in(folder)


def note_blanks(source: Path, given: Sequence[Row], note: Note) -> None:
    """Say what is taken for a person or a part that the rows of a CSV do not give."""
    if "person" not in given[0].cells:
        note(
            f"{source}: no column person, so each photo counts as a person of its own. "
            "Scores leak where a person has several photos"
        )
    for column, taken in (("person", "each counts as a person of its own"), ("part", "they are trained on")):
        blank = [where for where, cells in given if cells.get(column) == ""]
        if blank:
            note(f"{blank[0]}: {len(blank)} of {len(given)} rows have an empty {column}: {taken}")


def note_unused_files(folder: Path, used: Iterable[str | Path], note: Note) -> None:
    """Count the files below a folder that are not among the used ones; what a Mac leaves there holds no photo."""
    taken = set(map(os.path.normpath, used))
    files = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
    spare = sorted(os.path.relpath(file, folder) for file in files if os.path.normpath(file) not in taken)
    if spare := [name for name in spare if not os.path.basename(name).startswith(JUNK)]:
        note(f"{len(spare)} files below {folder} are not used: {and_others(spare)}")


def is_utf8(name: str) -> bool:
    """Tell whether a file's name can be written into a table as UTF-8."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def find_outside_links(paths: Sequence[str], base: Path) -> list[str]:
    """Return the paths that symbolic links lead out of a root; each folder is resolved once."""
    top, folders = os.path.realpath(base), [os.path.dirname(path) for path in paths]
    outside = {folder for folder in set(folders) if not Path(os.path.realpath(folder)).is_relative_to(top)}
    return [
        path for path, folder in zip(paths, folders, strict=True)
        if folder in outside or (os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(top))
    ]  # fmt: skip


def raise_errors(faults: Sequence[str], most: int = 10) -> None:
    """Raise the faults of a file together, the first ten in words."""
    if faults:
        more = [f"… and {len(faults) - most} more"] if len(faults) > most else []
        raise DataError(*faults[:most], *more)
