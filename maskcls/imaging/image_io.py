"""Photos on disk: read whole or not at all, and each looked at once, so that a bad one is known before any work."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from maskcls.core.errors import PhotoError
from maskcls.imaging import image_decoding
from maskcls.imaging.image_decoding import JPEG, Image, decode_image, read_header
from maskcls.system.processes import num_cpus
from maskcls.system.stderr import capture_stderr

Item = TypeVar("Item")
Result = TypeVar("Result")
ROUND = 128  # photos of each thread between two looks at what the decoders have said


class ImageInfo(NamedTuple):
    """What is known of a photo without its pixels: its upright size, and why it cannot be used (None: it can)."""

    height: int
    width: int
    fault: str | None
    late: bool = False  # found when its pixels were wanted, which `look` cannot find again


def read_image(path: str) -> Image:
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
        raw = read_bytes(path)
        return decode_image(raw, read_header(raw))
    except ValueError as error:
        raise PhotoError(f"{path} {error}") from error


def read_bytes(path: str) -> bytes:
    """Return the bytes of a regular file, else a ValueError: a pipe would be waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is no file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def inspect_image(path: str) -> ImageInfo:
    """Look at one photo: its header, and its pixels."""
    try:
        return ImageInfo(*image_decoding.inspect_image(read_bytes(path)), None)
    except ValueError as error:
        return ImageInfo(0, 0, str(error))


def listen(path: str) -> ImageInfo:
    """Look at one photo while nothing else is decoded: what libjpeg warns of is then a fault of this photo."""
    with capture_stderr() as heard:
        seen = inspect_image(path)
    if heard and seen.fault is None:
        with contextlib.suppress(ValueError):
            if read_header(read_bytes(path)).kind in JPEG:  # other formats warn of their metadata, and fail at pixels
                return ImageInfo(0, 0, f"cannot be read as a photo: its pixels are broken ({heard[0]})")
    return seen


def map_heard(
    job: Callable[[Item], Result], items: Sequence[Item], path: Callable[[Item], str]
) -> Iterator[tuple[Result, str | None]]:
    """Yield job(item) for each item, from threads, and what a decoder has against its photo (None: nothing).

    A good photo costs nothing more: only where the decoders of a round have said something, its photos are looked at
    again, one by one.
    """
    with ThreadPoolExecutor(num_cpus()) as pool:
        for start in range(0, len(items), step := ROUND * num_cpus()):
            some = items[start : start + step]
            with capture_stderr() as heard:
                results = list(pool.map(job, some))
            faults = [listen(path(item)).fault for item in some] if heard else [None] * len(some)
            if heard and not any(faults):  # it was about no photo
                with contextlib.suppress(OSError):
                    os.write(2, "".join(f"{line}\n" for line in heard).encode())
            yield from zip(results, faults, strict=True)
