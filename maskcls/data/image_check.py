"""Inspection of images, once each; results are remembered."""

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
from maskcls.imaging.image_io import ImageInfo, inspect_image, map_heard
from maskcls.system.console import info, track
from maskcls.system.files import content_hash, file_lock, write_json


def inspect_images(paths: Iterable[str], root: Path) -> list[ImageInfo]:
    """Return a look at each photo; root/photos.json remembers them by size and time of change, whoever asks next."""
    asked, store = list(paths), root / "photos.json"
    with file_lock(root / ".photos.lock"):
        known = read_store(store)
        stamps = {path: file_signature(path) for path in dict.fromkeys(asked)}
        new = [path for path, mark in stamps.items() if known.get(path, [None])[0] != mark]
        if new:
            info(f"checking {len(new)} photos")
            looks = track(map_heard(inspect_image, new, str), len(new), "checking")
            for path, (seen, fault) in zip(new, looks, strict=True):
                known[path] = [stamps[path], *(seen if fault is None else ImageInfo(0, 0, fault))]
            remember(store, known)
    return [ImageInfo(*known[path][1:]) for path in asked]


def keep_faults(faults: Mapping[str, str], root: Path) -> None:
    """Remember photos that cannot be decoded, although they have passed the look, as long as they do not change."""
    with file_lock(root / ".photos.lock"):
        late = {path: [file_signature(path), *ImageInfo(0, 0, fault, late=True)] for path, fault in faults.items()}
        remember(root / "photos.json", read_store(root / "photos.json") | late)


def remember(store: Path, known: Mapping[str, Any]) -> None:
    """Write what is known of photos, but for faults that a look finds again: chmod mends them unseen."""
    looks = {path: ImageInfo(*row[1:]) for path, row in known.items()}
    kept = {path: row for path, row in known.items() if looks[path].fault is None or looks[path].late}
    write_json(store, {"code": code(), "photos": kept})


def read_store(store: Path) -> dict[str, Any]:
    """Return what a file knows of photos; nothing where it is broken or of other code."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(store.read_text(encoding="utf-8"))
        return dict(content["photos"]) if content["code"] == code() else {}
    return {}


def code() -> str:
    """Return a mark of what judges a photo here."""
    sources = [Path(str(file)).read_text(encoding="utf-8") for file in (__file__, image_decoding.__file__)]
    return content_hash([sources, cv2.__version__, PIL.__version__])


def file_signature(path: str) -> str:
    """Return a mark of a file that changes with its content; of what is no file, that it is none."""
    try:
        known = os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return f"{known.st_size} {known.st_mtime_ns} {known.st_ctime_ns} {known.st_ino}"
