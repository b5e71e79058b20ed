"""Photos on disk: read whole or not at all, and each looked at once, so that a bad one is known before any work."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import PIL

from maskcls.core.errors import PhotoError
from maskcls.imaging import image_decoding
from maskcls.imaging.image_decoding import JPEG, Image, decode_image, inspect_image, read_header
from maskcls.system.console import say, track
from maskcls.system.files import fingerprint, locked, write_json
from maskcls.system.processes import cores
from maskcls.system.stderr import capture_stderr

Item = TypeVar("Item")
Result = TypeVar("Result")
ROUND = 128  # photos of each thread between two looks at what the decoders have said


class Look(NamedTuple):
    """What is known of a photo without its pixels: its upright size, and why it cannot be used (None: it can)."""

    height: int
    width: int
    fault: str | None
    late: bool = False  # found when its pixels were wanted, which `look` cannot find again


def photo(path: str) -> Image:
    """Read one photo as uint8 RGB, (H, W, 3), upright; what cannot be read whole is a PhotoError that names it.

    Not for threads: while it decodes, it captures what the whole process writes to its standard error.
    """
    with capture_stderr() as heard:
        image = read_photo(path)
    if heard and (fault := listen(path).fault):
        raise PhotoError(f"{path} {fault}")
    return image


def read_photo(path: str) -> Image:
    """Read one photo as `photo` does, from any thread; what the decoders warn of is left to `map_heard`."""
    try:
        raw = content(path)
        return decode_image(raw, read_header(raw))
    except ValueError as error:
        raise PhotoError(f"{path} {error}") from error


def content(path: str) -> bytes:
    """Return the bytes of a regular file, else a ValueError: a pipe would be waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is no file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def look(path: str) -> Look:
    """Look at one photo: its header, and its pixels."""
    try:
        return Look(*inspect_image(content(path)), None)
    except ValueError as error:
        return Look(0, 0, str(error))


def listen(path: str) -> Look:
    """Look at one photo while nothing else is decoded: what libjpeg warns of is then a fault of this photo."""
    with capture_stderr() as heard:
        seen = look(path)
    if heard and seen.fault is None:
        with contextlib.suppress(ValueError):
            if read_header(content(path)).kind in JPEG:  # other formats warn of their metadata, and fail at pixels
                return Look(0, 0, f"cannot be read as a photo: its pixels are broken ({heard[0]})")
    return seen


def map_heard(
    job: Callable[[Item], Result], items: Sequence[Item], path: Callable[[Item], str]
) -> Iterator[tuple[Result, str | None]]:
    """Yield job(item) for each item, from threads, and what a decoder has against its photo (None: nothing).

    A good photo costs nothing more: only where the decoders of a round have said something, its photos are looked at
    again, one by one.
    """
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(items), step := ROUND * cores()):
            some = items[start : start + step]
            with capture_stderr() as heard:
                results = list(pool.map(job, some))
            faults = [listen(path(item)).fault for item in some] if heard else [None] * len(some)
            if heard and not any(faults):  # it was about no photo
                with contextlib.suppress(OSError):
                    os.write(2, "".join(f"{line}\n" for line in heard).encode())
            yield from zip(results, faults, strict=True)


def looked(paths: Iterable[str], root: Path) -> list[Look]:
    """Return a look at each photo; root/photos.json remembers them by size and time of change, whoever asks next."""
    asked, store = list(paths), root / "photos.json"
    with locked(root / ".photos.lock"):
        known = remembered(store)
        stamps = {path: stamp(path) for path in dict.fromkeys(asked)}
        new = [path for path, mark in stamps.items() if known.get(path, [None])[0] != mark]
        if new:
            say(f"checking {len(new)} photos")
            looks = track(map_heard(look, new, str), len(new), "checking")
            for path, (seen, fault) in zip(new, looks, strict=True):
                known[path] = [stamps[path], *(seen if fault is None else Look(0, 0, fault))]
            remember(store, known)
    return [Look(*known[path][1:]) for path in asked]


def keep_faults(faults: Mapping[str, str], root: Path) -> None:
    """Remember photos that cannot be decoded, although they have passed the look, as long as they do not change."""
    with locked(root / ".photos.lock"):
        late = {path: [stamp(path), *Look(0, 0, fault, late=True)] for path, fault in faults.items()}
        remember(root / "photos.json", remembered(root / "photos.json") | late)


def remember(store: Path, known: Mapping[str, Any]) -> None:
    """Write what is known of photos, but for faults that a look finds again: chmod mends them unseen."""
    looks = {path: Look(*row[1:]) for path, row in known.items()}
    kept = {path: row for path, row in known.items() if looks[path].fault is None or looks[path].late}
    write_json(store, {"code": code(), "photos": kept})


def remembered(store: Path) -> dict[str, Any]:
    """Return what a file knows of photos; nothing where it is broken or of other code."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(store.read_text(encoding="utf-8"))
        return dict(content["photos"]) if content["code"] == code() else {}
    return {}


def code() -> str:
    """Return a mark of what judges a photo here."""
    sources = [Path(str(file)).read_text(encoding="utf-8") for file in (__file__, image_decoding.__file__)]
    return fingerprint([sources, cv2.__version__, PIL.__version__])


def stamp(path: str) -> str:
    """Return a mark of a file that changes with its content; of what is no file, that it is none."""
    try:
        known = os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return f"{known.st_size} {known.st_mtime_ns} {known.st_ctime_ns} {known.st_ino}"
