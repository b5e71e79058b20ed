"""The image files of a folder, a file or a pattern, and a count of the files that are none."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from maskcls.core.errors import DataError
from maskcls.imaging.image_decoding import HEIC_HINT, image_endings

LINK = "folder links"


def find_images(source: str | Path) -> tuple[list[Path], Counter[str]]:
    """Return the images of a folder (with those below it) or a pattern, sorted, and what was left out, by ending.

    A file that is named itself is an image whatever its ending. Files and folders whose names begin with a dot are
    neither images nor counted. A folder that cannot be read is a DataError.
    """
    place = Path(source).expanduser()
    if place.is_file():
        return [place], Counter()
    left_out: Counter[str] = Counter()
    if place.is_dir():
        files = walk_files(place, left_out)
    else:
        files = [path for path in map(Path, glob.glob(str(place), recursive=True)) if path.is_file()]
    return split_images(files, left_out)


def split_images(files: Iterable[Path], left_out: Counter[str]) -> tuple[list[Path], Counter[str]]:
    """Return the images among files, sorted, and a count of the others by ending, added to an earlier one."""
    endings = image_endings()
    images = [path for path in sorted(files) if path.name[0] != "."]
    others = [path for path in images if path.suffix.lower() not in endings]
    left_out.update(path.suffix.lower() or "without an ending" for path in others)
    return [path for path in images if path.suffix.lower() in endings], left_out


def walk_files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Return the files below a folder; links to folders are not followed but counted."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name[0] != "."]
        left_out[LINK] += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        files += [path for name in names if (path := Path(place, name)).is_file()]
    left_out += Counter()  # forgets a count of zero
    return files


def refuse(error: OSError) -> NoReturn:
    """Raise a folder that cannot be read as a DataError."""
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def describe_left_out(counts: Counter[str]) -> str:
    """Return "left out 3 files: 2 .txt, 1 .mov", an empty text where nothing was left out."""
    if not counts:
        return ""
    parts = [f"{count} {ending}" for ending, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    hint = f" ({HEIC_HINT})" if counts.keys() & {".heic", ".heif", ".hif"} else ""
    return f"left out {counts.total()} file{'s' * (counts.total() > 1)}: {', '.join(parts)}{hint}"
