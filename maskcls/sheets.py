"""CSV files: read as text, whatever their separator, with every bad row named by file and line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from maskcls.errors import DataError, nearest

OLDEST = 120


class Row(NamedTuple):
    """One row of a CSV: where it stands, for a sentence about it, and its cells."""

    where: str
    cells: dict[str, str]


def read(source: Path, columns: Sequence[str]) -> list[Row]:
    """Return a CSV's rows as stripped text (ids keep their zeros); its separator is one of `, ; tab |`.

    A missing file or column, or a line of more or fewer cells than the header, is a DataError.
    """
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    try:
        text = source.read_bytes().decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text))
        lines = [(f"{source} line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is no text in UTF-8: save it as a CSV in UTF-8") from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{source} cannot be read as a CSV: {error}") from error
    lines = [(where, row) for where, row in lines if any(row)]
    if not lines:
        raise DataError(f"{source} is empty")
    header = lines[0][1]
    twice = [name for name in dict.fromkeys(header) if name and header.count(name) > 1]
    complain([f"{source} has two columns '{name}'" for name in twice])
    complain([f"{source} has no column '{name}'{nearest(name, header)}" for name in columns if name not in header])
    rows = [(where, row if any(row[len(header) :]) else row[: len(header)]) for where, row in lines[1:]]
    complain(
        [f"{where} has {len(row)} cells, the header {len(header)}" for where, row in rows if len(row) != len(header)]
    )
    return [Row(where, dict(zip(header, row, strict=True))) for where, row in rows]


def separator(text: str) -> str:
    """Return the separator that the first line has most of; a comma where it has none."""
    header = text.lstrip().partition("\n")[0]
    return max(",;\t|", key=header.count)


def repeated(rows: Sequence[Row], column: str) -> list[str]:
    """Return a sentence for each row whose cell stood in an earlier one; `a` and `./a` are one path."""
    seen: set[str] = set()
    faults = []
    for where, cells in rows:
        name = str(PurePosixPath(cells[column]))
        if name in seen:
            faults.append(f"{where}: {column} {cells[column]!r} stands there more than once")
        seen.add(name)
    return faults


def code(value: str, words: Mapping[str, int]) -> int | None:
    """Return the code of a word, None for an unknown one."""
    return words.get(value.lower())


def years(value: str) -> float | None:
    """Return an age in years, None for what is no age."""
    try:
        age = float(value)
    except ValueError:
        return None
    return age if 0 <= age <= OLDEST else None


def inside(name: str) -> bool:
    """Tell whether a relative path names something below its root."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def absent(kind: str, base: Path, name: str) -> str:
    """Return the sentence for a path of a row that leads to nothing below its root."""
    if PurePosixPath(name).is_absolute():
        return f"{name!r} is no path below {base}"
    if name and not inside(name):
        return f"{name!r} climbs out of {base}"
    return f"there is no {kind} {base / name}"


def printable(name: str) -> bool:
    """Tell whether a file's name can be written into a table as UTF-8."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def strays(paths: Sequence[str], base: Path) -> list[str]:
    """Return the paths that symbolic links lead out of a root; each folder is resolved once."""
    top, folders = os.path.realpath(base), [os.path.dirname(path) for path in paths]
    outside = {folder for folder in set(folders) if not Path(os.path.realpath(folder)).is_relative_to(top)}
    return [
        path for path, folder in zip(paths, folders, strict=True)
        if folder in outside or (os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(top))
    ]  # fmt: skip


def complain(faults: Sequence[str], most: int = 10) -> None:
    """Raise the faults of a file together, the first ten in words."""
    if faults:
        more = [f"… and {len(faults) - most} more"] if len(faults) > most else []
        raise DataError(*faults[:most], *more)
