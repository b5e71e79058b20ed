"""Image decoding: bytes of a file → size, orientation and upright RGB pixels."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as pil

Image = npt.NDArray[np.uint8]
ReadPhoto = Callable[[str], Image | None]  # returns the RGB image of an id; None if missing, unreadable or changed
LIMIT = 80  # megapixels; decoding such an image takes 240 MB
SHRINK = 8  # downscaling factor when the pixels of a JPEG are only checked
ORIENTATION, SWAPPING = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap height and width
ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
JPEG = ("JPEG", "MPO")
OPENCV_FORMATS = {
    (kind, mode) for kind in JPEG for mode in ("RGB", "L")
}  # OpenCV decodes these like Pillow, but faster
OPENCV_FORMATS |= {
    (kind, mode) for kind in ("PNG", "WEBP") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
}
SINGLE_IMAGE = (*JPEG, "PSD")  # further frames of these (previews, layers) belong to the first image
PNG_METADATA = (b"eXIf", b"Raw profile type", b"com.adobe.xmp")  # without these, Pillow need not read a PNG to its end
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_HINT = "HEIC needs pip install pillow-heif"
warnings.filterwarnings("ignore", category=pil.DecompressionBombWarning)  # LIMIT is lower and has its own message
warnings.filterwarnings("ignore", module=r"PIL\.")  # about corrupt metadata, without the file name


class Header(NamedTuple):
    """Header of an image file; the size of a TIFF may be that before rotation."""

    height: int
    width: int
    orientation: int
    kind: str
    mode: str


UNTYPED = ("DDS", "QOI", "SUN")  # images to which Pillow gives no MIME type


@functools.cache
def image_formats() -> list[str]:
    """Return Pillow's names of the readable image formats, the common ones first."""
    pil.init()
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    common = ("JPEG", "PNG", "WEBP")
    known = [kind for kind in pil.OPEN if kind in UNTYPED or pil.MIME.get(kind, "").startswith("image/")]
    return [*common, *(kind for kind in known if kind not in common)]


@functools.cache
def image_endings() -> set[str]:
    """Return the file name suffixes of the readable image formats, in lower case."""
    formats = set(image_formats())
    return {ending for ending, kind in pil.registered_extensions().items() if kind in formats}


def read_header(raw: bytes) -> Header:
    """Return the header of an image file, or raise ValueError with the reason that it is unusable.

    OpenCV fills the missing part of a truncated JPEG with gray, so this function checks for the end marker.
    """
    try:
        with pil.open(io.BytesIO(raw), formats=image_formats()) as image:
            (width, height), kind, mode = image.size, str(image.format), image.mode
            frames = 1 if kind in SINGLE_IMAGE else getattr(image, "n_frames", 1)
            orientation = read_orientation(image) if kind != "PNG" or any(mark in raw for mark in PNG_METADATA) else 1
    except (pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise ValueError(f"exceeds the limit of {LIMIT} megapixels") from error
    except Exception as error:  # the plugins of Pillow raise arbitrary errors
        hint = f": {HEIC_HINT}" if raw[4:8] == b"ftyp" and raw[8:12] in HEIC_BRANDS else ""
        raise ValueError(f"cannot be read as an image{hint}") from error
    if width * height > LIMIT * 1e6:
        raise ValueError(f"has {height} × {width} pixels, over the limit of {LIMIT} megapixels")
    if frames > 1:
        raise ValueError(f"contains {frames} images. Save the intended one as a separate file")
    if kind in ENDS and raw.find(ENDS[kind], jpeg_data_offset(raw) if kind != "PNG" else 0) < 0:
        raise ValueError("cannot be read as an image: truncated file")
    return Header(*((width, height) if orientation in SWAPPING else (height, width)), orientation, kind, mode)


def read_orientation(image: Any) -> int:
    """Return the orientation from EXIF or XMP, 1 to 8; 1 is upright."""
    with contextlib.suppress(Exception):  # unreadable EXIF counts as upright
        orientation = image.getexif().get(ORIENTATION, 1)
        return orientation if orientation in range(1, 9) else 1
    return 1


def jpeg_data_offset(raw: bytes) -> int:
    """Return the offset of a JPEG's pixel data, after all segments (one may contain a thumbnail with an end marker)."""
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF and raw[at + 1] != 0xDA:
        at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big") if raw[at + 1] != 0xFF else 1
    return at


def inspect_encoded(raw: bytes) -> tuple[int, int]:
    """Return height and width of the upright image, or raise ValueError like `decode_image`.

    A JPEG is decoded at an eighth of its size, which takes half the time.
    """
    header = read_header(raw)
    if header.kind not in JPEG or not opencv_can_decode(header) or min(header.height, header.width) < 8 * SHRINK:
        height, width, _ = decode_image(raw, header).shape
        return height, width
    decode_with_opencv(raw, header, SHRINK)
    return header.height, header.width


def opencv_can_decode(header: Header) -> bool:
    """Return True if OpenCV decodes this format and mode."""
    return (header.kind, header.mode) in OPENCV_FORMATS


def decode_image(raw: bytes, header: Header) -> Image:
    """Return the upright RGB pixels of an image, (H, W, 3).

    Gray, palette, 16-bit, CMYK and transparent images are converted to RGB like Pillow's convert, without transparency
    and with the upper 8 of 16 bits. Raise ValueError if the image cannot be decoded.
    """
    if opencv_can_decode(header):
        return decode_with_opencv(raw, header)
    if header.kind in JPEG:
        decode_with_opencv(raw, header, SHRINK)  # Pillow does not report warnings of libjpeg
    return decode_with_pillow(raw)


def decode_with_opencv(raw: bytes, header: Header, shrink: int = 1) -> Image:
    """Return the upright pixels decoded by OpenCV; a JPEG may be downscaled by `shrink` (1 or 8)."""
    mode = cv2.IMREAD_COLOR_RGB if shrink == 1 else cv2.IMREAD_REDUCED_COLOR_8
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError("cannot be read as an image: corrupt pixel data")
    pixels = apply_orientation(np.asarray(image, np.uint8), header.orientation)
    size = math.ceil(header.height / shrink), math.ceil(header.width / shrink)
    if pixels.shape[:2] != size:
        decoded = " × ".join(map(str, pixels.shape[:2]))
        raise ValueError(f"cannot be read as an image: expected {size[0]} × {size[1]} pixels, got {decoded}")
    return pixels


def apply_orientation(pixels: Image, orientation: int) -> Image:
    """Return upright pixels, given their EXIF orientation."""
    if orientation >= 5:
        pixels = np.asarray(cv2.transpose(pixels), np.uint8)
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return pixels if axis is None else np.asarray(cv2.flip(pixels, axis), np.uint8)


def decode_with_pillow(raw: bytes) -> Image:
    """Return the upright pixels decoded by Pillow."""
    try:
        with pil.open(io.BytesIO(raw), formats=image_formats()) as image:
            image.load()  # rotates a TIFF and clears its orientation
            orientation, mode = read_orientation(image), image.mode
            pixels = to_rgb8(np.asarray(image)) if mode.startswith("I;16") else None
            if pixels is None and mode not in ("I", "F"):
                pixels = np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # the plugins of Pillow raise arbitrary errors
        raise ValueError("cannot be read as an image: corrupt pixel data") from error
    if pixels is None:
        raise ValueError("has more than 8 bits per channel and an unknown white level. Save it with 8 bits")
    return apply_orientation(pixels, orientation)


def to_rgb8(gray: npt.NDArray[np.uint16]) -> Image:
    """Return 16-bit gray pixels as 8-bit RGB."""
    return np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, 2)
