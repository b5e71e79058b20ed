"""Reading and inspection of image files."""

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
ROUND = 128  # images per thread between two checks for decoder warnings


class ImageInfo(NamedTuple):
    """Upright size of an image, and the reason if it is unusable (else None)."""

    height: int
    width: int
    error: str | None
    found_on_decoding: bool = False  # `inspect_image` does not find this error


def read_image(path: str) -> Image:
    """Return an image as upright uint8 RGB, (H, W, 3), or raise PhotoError.

    Not thread-safe: it captures standard error of the whole process while decoding.
    """
    with capture_stderr() as warnings:
        image = read_pixels(path)
    if warnings and (error := inspect_alone(path).error):
        raise PhotoError(f"{path} {error}")
    return image


def read_pixels(path: str) -> Image:
    """Return an image like `read_image`, from any thread; `map_images` handles warnings of the decoders."""
    try:
        raw = read_file(path)
        return decode_image(raw, read_header(raw))
    except ValueError as error:
        raise PhotoError(f"{path} {error}") from error


def read_file(path: str) -> bytes:
    """Return the bytes of a regular file, or raise ValueError; reading a pipe would block."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError("is not a file")
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def inspect_image(path: str) -> ImageInfo:
    """Inspect the header and the pixels of an image file."""
    try:
        return ImageInfo(*image_decoding.inspect_encoded(read_file(path)), None)
    except ValueError as error:
        return ImageInfo(0, 0, str(error))


def inspect_alone(path: str) -> ImageInfo:
    """Inspect an image file while nothing else is decoded, so that a warning of libjpeg is an error of this image."""
    with capture_stderr() as warnings:
        info = inspect_image(path)
    if warnings and info.error is None:
        with contextlib.suppress(ValueError):
            if read_header(read_file(path)).kind in JPEG:  # other formats only warn about metadata
                return ImageInfo(0, 0, f"cannot be read as an image: corrupt pixel data ({warnings[0]})")
    return info


def map_images(
    function: Callable[[Item], Result], items: Sequence[Item], path: Callable[[Item], str]
) -> Iterator[tuple[Result, str | None]]:
    """Yield function(item), computed in threads, and the decoder's error for its image (else None), for each item.

    Only the images of a round in which a decoder wrote a warning are inspected again, one by one.
    """
    with ThreadPoolExecutor(num_cpus()) as pool:
        for start in range(0, len(items), step := ROUND * num_cpus()):
            batch = items[start : start + step]
            with capture_stderr() as warnings:
                results = list(pool.map(function, batch))
            errors = [inspect_alone(path(item)).error for item in batch] if warnings else [None] * len(batch)
            if warnings and not any(errors):  # unrelated to the images
                with contextlib.suppress(OSError):
                    os.write(2, "".join(f"{line}\n" for line in warnings).encode())
            yield from zip(results, errors, strict=True)
