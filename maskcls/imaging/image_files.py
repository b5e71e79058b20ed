"""Search for image files, with a count of the other files by suffix."""

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
    """Return the images of a folder (recursively) or a glob pattern, sorted, and the count of other files by suffix.

    A path to a file is returned regardless of its suffix. Files and folders whose names begin with a dot are ignored.
    Raise DataError for an unreadable folder.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path], Counter()
    left_out: Counter[str] = Counter()
    if path.is_dir():
        files = walk_files(path, left_out)
    else:
        files = [file for file in map(Path, glob.glob(str(path), recursive=True)) if file.is_file()]
    return split_images(files, left_out)


def split_images(files: Iterable[Path], left_out: Counter[str]) -> tuple[list[Path], Counter[str]]:
    """Return the images among files, sorted, and `left_out` with the other files added by suffix."""
    endings = image_endings()
    images = [path for path in sorted(files) if path.name[0] != "."]
    others = [path for path in images if path.suffix.lower() not in endings]
    left_out.update(path.suffix.lower() or "without a suffix" for path in others)
    return [path for path in images if path.suffix.lower() in endings], left_out


def walk_files(folder: Path, left_out: Counter[str]) -> list[Path]:
    """Return the files in a folder, recursively; links to folders are counted, not followed."""
    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=raise_unreadable):
        folders[:] = [name for name in folders if name[0] != "."]
        left_out[LINK] += sum(os.path.islink(os.path.join(parent, name)) for name in folders)
        files += [path for name in names if (path := Path(parent, name)).is_file()]
    left_out += Counter()  # drops a count of zero
    return files


def raise_unreadable(error: OSError) -> NoReturn:
    """Raise DataError for an unreadable folder."""
    raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error


def describe_left_out(counts: Counter[str]) -> str:
    """Return a text such as "left out 3 files: 2 .txt, 1 .mov", empty if there are none."""
    if not counts:
        return ""
    parts = [f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    hint = f" ({HEIC_HINT})" if counts.keys() & {".heic", ".heif", ".hif"} else ""
    return f"left out {counts.total()} file{'s' * (counts.total() > 1)}: {', '.join(parts)}{hint}"
