"""Photos on disk: read whole or not at all, and each looked at once, so that a bad one is known before any work."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as pil

from maskcls.console import say, track
from maskcls.errors import DataError
from maskcls.processes import cores
from maskcls.rundir import fingerprint, locked, write_json

Image = npt.NDArray[np.uint8]
LIMIT = 80  # megapixels; a photo of as many takes 240 MB while it is decoded
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap height and width
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
warnings.filterwarnings("ignore", category=pil.DecompressionBombWarning)  # LIMIT is lower, and says so in a sentence


class Look(NamedTuple):
    """What is known of a photo without its pixels: its upright size, and why it cannot be used (None: it can)."""

    height: int
    width: int
    fault: str | None


def photo(path: str) -> Image:
    """Read one photo as uint8 RGB, (H, W, 3), upright; what cannot be read whole is a DataError that names it.

    Grey, palette, 16-bit, CMYK and transparent photos become RGB; transparency is dropped.
    """
    try:
        raw = content(path)
        measured(raw)
        return decoded(raw, cv2.IMREAD_COLOR_RGB)
    except ValueError as error:
        raise DataError(f"{path} {error}") from error


def content(path: str) -> bytes:
    """Return the bytes of a regular file, else a ValueError: a pipe would be waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is no file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def measured(raw: bytes) -> tuple[int, int]:
    """Return a photo's upright height and width by its header alone; a ValueError says what is wrong with the file.

    OpenCV before 5 fills what a truncated JPEG lacks with grey and goes on, so its end is looked for here.
    """
    try:
        with pil.open(io.BytesIO(raw)) as image:
            (width, height), kind, turned = image.size, image.format, sideways(image)
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise ValueError(f"has more than the {LIMIT} megapixels that are read") from error
    except Exception as error:  # whatever Pillow's readers stumble over
        raise ValueError("cannot be read as a photo") from error
    if width * height > LIMIT * 1e6:
        raise ValueError(f"has {height} × {width} pixels, more than the {LIMIT} megapixels that are read")
    if kind in ENDS and raw.find(ENDS[kind], scan(raw) if kind != "PNG" else 0) < 0:
        raise ValueError("cannot be read as a photo: it is cut off, its end is missing")
    return (width, height) if turned else (height, width)


def sideways(image: Any) -> bool:
    """Tell whether EXIF says that a photo is shown turned by a quarter."""
    with contextlib.suppress(Exception):  # EXIF that cannot be read turns nothing
        return image.getexif().get(ORIENTATION) in SIDEWAYS
    return False


def scan(raw: bytes) -> int:
    """Return where the pixels of a JPEG begin: after its segments, one of which may hold a thumbnail with an end."""
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF and raw[at + 1] != 0xDA:
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big") if raw[at + 1] != 0xFF else 1
    return at


def decoded(raw: bytes, mode: int) -> Image:
    """Return the pixels of a file's bytes; a ValueError where there are none."""
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), mode)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("cannot be read as a photo: its pixels are broken")
    return np.asarray(image, np.uint8)


def look(path: str) -> Look:
    """Look at one photo: its header, and its pixels at an eighth of their size, which takes half the time."""
    try:
        raw = content(path)
        height, width = measured(raw)
        decoded(raw, cv2.IMREAD_REDUCED_COLOR_8 if min(height, width) >= 64 else cv2.IMREAD_COLOR_RGB)
    except ValueError as error:
        return Look(0, 0, str(error))
    return Look(height, width, None)


def looked(paths: Iterable[str], root: Path) -> list[Look]:
    """Return a look at each photo; root/photos.json remembers them by size and time of change, whoever asks next."""
    asked, store = list(paths), root / "photos.json"
    with locked(root / ".photos.lock"):
        known = remembered(store)
        stamps = {path: stamp(path) for path in dict.fromkeys(asked)}
        new = [path for path, mark in stamps.items() if known.get(path, [None])[0] != mark]
        if new:
            say(f"checking {len(new)} photos")
            with ThreadPoolExecutor(cores()) as pool:
                for path, seen in zip(new, track(pool.map(look, new), len(new), "checking"), strict=True):
                    known[path] = [stamps[path], *seen]
            sound = {path: row for path, row in known.items() if row[-1] is None}  # chmod mends a fault unseen
            write_json(store, {"code": code(), "photos": sound})
    return [Look(*known[path][1:]) for path in asked]


def remembered(store: Path) -> dict[str, Any]:
    """Return what a file knows of photos; nothing where it is broken or of other code."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(store.read_text(encoding="utf-8"))
        return dict(content["photos"]) if content["code"] == code() else {}
    return {}


def code() -> str:
    """Return a mark of what judges a photo here."""
    return fingerprint([Path(__file__).read_text(encoding="utf-8"), cv2.__version__])


def stamp(path: str) -> str:
    """Return a mark of a file that changes with its content; of what is no file, that it is none."""
    try:
        known = os.stat(path)
    except OSError as error:
        return str(error.strerror)
    return f"{known.st_size} {known.st_mtime_ns}"
