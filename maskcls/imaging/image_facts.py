"""Facts on an image file for an overview of a data set: size, format, and digests of its bytes and of its pixels."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from maskcls.imaging.image_decoding import decode_image, read_header
from maskcls.imaging.image_io import read_file


class ImageFacts(NamedTuple):
    """Upright size, format, digests of the bytes and of the pixels; or the reason if the image is unusable."""

    height: int
    width: int
    kind: str
    content: str
    pixels: str
    error: str | None


def read_facts(path: str) -> ImageFacts:
    """Read and decode an image file, from any thread; `map_images` handles warnings of the decoders."""
    try:
        raw = read_file(path)
        header = read_header(raw)
        image = np.ascontiguousarray(decode_image(raw, header))
    except ValueError as error:
        return unusable(str(error))
    height, width, _ = image.shape
    return ImageFacts(height, width, header.kind, digest(raw), f"{height} {width} {digest(image.data)}", None)


def unusable(error: str) -> ImageFacts:
    """Return the facts on an unusable image."""
    return ImageFacts(0, 0, "", "", "", error)


def digest(raw: bytes | memoryview) -> str:
    """Return 16 hexadecimal digits of bytes."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
