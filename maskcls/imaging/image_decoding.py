"""Bytes of an image file → upright RGB pixels; the size, the orientation and the pixels come from this one place."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as pil

Image = npt.NDArray[np.uint8]
LIMIT = 80  # megapixels; a photo of as many takes 240 MB while it is decoded
SHRINK = 8  # how much smaller a JPEG is decoded where its pixels are only checked
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap height and width
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
JPEG = ("JPEG", "MPO")
FAST = {(kind, mode) for kind in JPEG for mode in ("RGB", "L")}  # OpenCV reads these as Pillow does, and faster
FAST |= {(kind, mode) for kind in ("PNG", "WEBP") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")}
ONE_PICTURE = (*JPEG, "PSD")  # what else these hold (previews, layers) belongs to their first picture
PNG_MARKS = (b"eXIf", b"Raw profile type", b"com.adobe.xmp")  # without them Pillow need not search a PNG to its end
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_HINT = "pip install pillow-heif reads HEIC"
warnings.filterwarnings("ignore", category=pil.DecompressionBombWarning)  # LIMIT is lower, and says so in a sentence
warnings.filterwarnings("ignore", module=r"PIL\.")  # of broken metadata, without the photo's name


class Header(NamedTuple):
    """What an image file says of itself; a TIFF's size may be that of the image before it is turned."""

    height: int
    width: int
    orientation: int
    kind: str
    mode: str


UNTYPED = ("DDS", "QOI", "SUN")  # images to which Pillow gives no MIME type


@functools.cache
def image_formats() -> list[str]:
    """Return Pillow's names of the image formats that it can read here, the usual ones first."""
    pil.init()
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    usual = ("JPEG", "PNG", "WEBP")
    known = [kind for kind in pil.OPEN if kind in UNTYPED or pil.MIME.get(kind, "").startswith("image/")]
    return [*usual, *(kind for kind in known if kind not in usual)]


@functools.cache
def image_endings() -> set[str]:
    """Return the endings of the files that can be read as images here, in lower case."""
    formats = set(image_formats())
    return {ending for ending, kind in pil.registered_extensions().items() if kind in formats}


def read_header(raw: bytes) -> Header:
    """Return the facts of an image's header; a ValueError says what is wrong with the file.

    OpenCV fills what a truncated JPEG lacks with grey, so its end is looked for here.
    """
    try:
        with pil.open(io.BytesIO(raw), formats=image_formats()) as image:
            (width, height), kind, mode = image.size, str(image.format), image.mode
            frames = 1 if kind in ONE_PICTURE else getattr(image, "n_frames", 1)
            turned = read_orientation(image) if kind != "PNG" or any(mark in raw for mark in PNG_MARKS) else 1
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise ValueError(f"has more than the {LIMIT} megapixels that are read") from error
    except Exception as error:  # each reader of Pillow raises kinds of its own
        hint = f": {HEIC_HINT}" if raw[4:8] == b"ftyp" and raw[8:12] in HEIC_BRANDS else ""
        raise ValueError(f"cannot be read as a photo{hint}") from error
    if width * height > LIMIT * 1e6:
        raise ValueError(f"has {height} × {width} pixels, more than the {LIMIT} megapixels that are read")
    if frames > 1:
        raise ValueError(f"holds {frames} pictures: save the one that is meant as a file of its own")
    if kind in ENDS and raw.find(ENDS[kind], find_scan(raw) if kind != "PNG" else 0) < 0:
        raise ValueError("cannot be read as a photo: it is cut off, its end is missing")
    return Header(*((width, height) if turned in SIDEWAYS else (height, width)), turned, kind, mode)


def read_orientation(image: Any) -> int:
    """Return how EXIF or XMP says that an image is turned, 1 to 8; 1 is upright."""
    with contextlib.suppress(Exception):  # EXIF that cannot be read turns nothing
        turned = image.getexif().get(ORIENTATION, 1)
        return turned if turned in range(1, 9) else 1
    return 1


def find_scan(raw: bytes) -> int:
    """Return where the pixels of a JPEG begin: after its segments, one of which may hold a thumbnail with an end."""
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF and raw[at + 1] != 0xDA:
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big") if raw[at + 1] != 0xFF else 1
    return at


def inspect_image(raw: bytes) -> tuple[int, int]:
    """Return the height and width of the upright pixels that `decode_image` makes of a file, or raise as it does.

    A JPEG's are made at an eighth of their size, which takes half the time.
    """
    header = read_header(raw)
    if header.kind not in JPEG or not is_fast(header) or min(header.height, header.width) < 8 * SHRINK:
        height, width, _ = decode_image(raw, header).shape
        return height, width
    decode_fast(raw, header, SHRINK)
    return header.height, header.width


def is_fast(header: Header) -> bool:
    """Return True if OpenCV reads such an image."""
    return (header.kind, header.mode) in FAST


def decode_image(raw: bytes, header: Header) -> Image:
    """Return the upright RGB pixels of an image, (H, W, 3).

    Grey, palette, 16-bit, CMYK and transparent images become RGB as Pillow's convert does it; transparency is dropped
    and of 16 bits the upper 8 stay. A ValueError says why there are none.
    """
    if is_fast(header):
        return decode_fast(raw, header)
    if header.kind in JPEG:
        decode_fast(raw, header, SHRINK)  # Pillow keeps to itself what libjpeg warns of
    return decode_slowly(raw)


def decode_fast(raw: bytes, header: Header, shrink: int = 1) -> Image:
    """Return the upright pixels that OpenCV reads, of a JPEG perhaps `shrink` (1 or 8) times smaller."""
    mode = cv2.IMREAD_COLOR_RGB if shrink == 1 else cv2.IMREAD_REDUCED_COLOR_8
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("cannot be read as a photo: its pixels are broken")
    pixels = turn(np.asarray(image, np.uint8), header.orientation)
    size = math.ceil(header.height / shrink), math.ceil(header.width / shrink)
    if pixels.shape[:2] != size:
        found = " × ".join(map(str, pixels.shape[:2]))
        raise ValueError(f"cannot be read as a photo: its header says {size[0]} × {size[1]} pixels, it has {found}")
    return pixels


def turn(pixels: Image, orientation: int) -> Image:
    """Return pixels upright, given the EXIF orientation that they have."""
    if orientation >= 5:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if axis is None else np.asarray(cv2.flip(pixels, axis), np.uint8)


def decode_slowly(raw: bytes) -> Image:
    """Return the pixels that Pillow reads, upright."""
    try:
        with pil.open(io.BytesIO(raw), formats=image_formats()) as image:
            image.load()  # which turns a TIFF and forgets its orientation
            turned, mode = read_orientation(image), image.mode
            pixels = widen(np.asarray(image)) if mode.startswith("I;16") else None
            if pixels is None and mode not in ("I", "F"):
                pixels = np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # each reader of Pillow raises kinds of its own
        raise ValueError("cannot be read as a photo: its pixels are broken") from error
    if pixels is None:
        raise ValueError("has pixels of more than 8 bits of which white is not known: save it with 8 bits")
    return turn(pixels, turned)


def widen(grey: npt.NDArray[np.uint16]) -> Image:
    """Return 16-bit grey pixels as RGB of 8 bits."""
    return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, 2)
