"""Paths in a table: relative to one of its folders, or absolute; and the names of the images, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from maskcls.core.csv_reader import is_below_root, spell_as_on_disk


class Located(NamedTuple):
    """The file of a path in a table, and the folder of the table that contains it, None if it is outside of all."""

    file: Path
    base: Path | None


def locate(name: str, bases: Sequence[Path]) -> Located:
    """Return the file of a path: below the first folder in which it exists, else below the first folder."""
    if is_below_root(name):
        files = [(base / spell_as_on_disk(base, name), base) for base in bases]
        return Located(*next((pair for pair in files if is_file(pair[0])), files[0]))
    outside = [Path(os.path.abspath(base)) / name for base in bases]  # an absolute path replaces the folder
    file = next(filter(is_file, outside), outside[0])
    for base in bases:
        relative = relative_name(file, base)
        if relative and (".." not in file.parts or is_same_file(file, base / relative)):
            return Located(base / spell_as_on_disk(base, relative), base)
    plain = Path(os.path.normpath(file))
    file, top = plain if is_same_file(file, plain) else file, Path(file.anchor)
    return Located(top / spell_as_on_disk(top, file.relative_to(top).as_posix()), None)


def is_same_file(file: Path, other: Path) -> bool:
    """Return True if two paths lead to one existing file: `link/..` is not always the folder of the link."""
    return is_file(file) and is_file(other) and os.path.samefile(file, other)


def missing_file_message(name: str, bases: Sequence[Path]) -> str:
    """Return the message for a path of a table that leads to no file."""
    places = [str(base / name) for base in bases] if is_below_root(name) else [str(locate(name, bases).file)]
    is_here = is_below_root(name) and is_file(Path(name))
    hint = f". It is in the current folder: set root={Path.cwd()} or move the CSV there" if is_here else ""
    return f"file {' or '.join(dict.fromkeys(places))} does not exist{hint}"


def is_file(path: Path) -> bool:
    """Return True for an existing file; a path that no file can have is not one."""
    return os.path.isfile(str(path))


def relative_name(file: Path, base: Path) -> str | None:
    """Return the path of a file relative to a folder, None if it is not below it; links are not followed."""
    path, top = os.path.abspath(file), os.path.join(os.path.abspath(base), "")
    return Path(path[len(top) :]).as_posix() if path.startswith(top) and path != top else None


def name_images(names: Sequence[str], bases: Sequence[Path]) -> list[str]:
    """Return a name for the image of each path in a table that stays the same when the folders move.

    It is the path relative to the table's folder; for images outside, relative to the innermost folder that contains
    all of these, or, if two images then had one name, their whole path.
    """
    inside: dict[int, str] = {}
    outside: dict[int, str] = {}
    tops = [os.path.join(os.path.abspath(base), "") for base in bases]
    for i, name in enumerate(names):
        path = plain_path(name, bases)
        top = next((top for top in tops if path.startswith(top)), "") if os.path.isabs(path) else None
        (outside if top == "" else inside)[i] = path.removeprefix(top or "")
    folders = [os.path.dirname(path) for path in outside.values()]
    common = os.path.join(os.path.commonpath(folders), "") if folders else ""
    short = {i: path.removeprefix(common) for i, path in outside.items()}
    if set(short.values()) & set(inside.values()):
        short = {i: path.lstrip("/") for i, path in outside.items()}
    return [inside[i] if i in inside else short[i] for i in range(len(names))]


def plain_path(name: str, bases: Sequence[Path]) -> str:
    """Return a path of a table in its shortest spelling; it is relative unless it is absolute or contains `..`.

    It reads the disk only for `..`, which may follow a link: a long table is named quickly.
    """
    parts = name.split("/")
    if ".." not in parts and name:
        is_plain = "." not in parts and "" not in parts[1:]
        return name if is_plain else str(PurePosixPath(name))
    file, base = locate(name, bases)
    relative = relative_name(file, base) if base else None
    return relative or Path(os.path.abspath(file)).as_posix()
