"""Inspection of image files, cached by size and modification time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import PIL

from maskcls.imaging import image_decoding
from maskcls.imaging.image_io import ImageInfo, inspect_image, map_images
from maskcls.system.console import info, track
from maskcls.system.files import content_hash, file_lock, write_json


def inspect_images(paths: Iterable[str], root: Path) -> list[ImageInfo]:
    """Return facts on each image file; root/photos.json caches them by file size and times."""
    paths, store = list(paths), root / "photos.json"
    with file_lock(root / ".photos.lock"):
        cached = read_store(store)
        signatures = {path: file_signature(path) for path in dict.fromkeys(paths)}
        new = [path for path, signature in signatures.items() if cached.get(path, [None])[0] != signature]
        if new:
            info(f"checking {len(new)} images")
            inspected = track(map_images(inspect_image, new, str), len(new), "checking")
            for path, (image, fault) in zip(new, inspected, strict=True):
                cached[path] = [signatures[path], *(image if fault is None else ImageInfo(0, 0, fault))]
            write_store(store, cached)
    return [ImageInfo(*cached[path][1:]) for path in paths]


def store_decode_errors(errors: Mapping[str, str], root: Path) -> None:
    """Cache errors of images that pass the inspection but cannot be decoded, until the files change."""
    with file_lock(root / ".photos.lock"):
        found = {
            path: [file_signature(path), *ImageInfo(0, 0, error, found_on_decoding=True)]
            for path, error in errors.items()
        }
        write_store(root / "photos.json", read_store(root / "photos.json") | found)


def write_store(store: Path, cached: Mapping[str, Any]) -> None:
    """Write cached facts without errors of the inspection itself: chmod can fix those and leave the signature."""
    infos = {path: ImageInfo(*row[1:]) for path, row in cached.items()}
    kept = {path: row for path, row in cached.items() if infos[path].error is None or infos[path].found_on_decoding}
    write_json(store, {"code": code_hash(), "photos": kept})


def read_store(store: Path) -> dict[str, Any]:
    """Return cached facts by path, empty if the file is unreadable or was written by other code."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(store.read_text(encoding="utf-8"))
        return dict(content["photos"]) if content["code"] == code_hash() else {}
    return {}


def code_hash() -> str:
    """Return a hash of the code and library versions that inspect images."""
    sources = [Path(str(file)).read_text(encoding="utf-8") for file in (__file__, image_decoding.__file__)]
    return content_hash([sources, cv2.__version__, PIL.__version__])


def file_signature(path: str) -> str:
    """Return size, times and inode of a file, or the error message if it cannot be read."""
    try:
        stat = os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
