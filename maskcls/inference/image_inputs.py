"""The images that a caller passes to a model, as uint8 RGB arrays: paths, PIL images, arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from maskcls.core.errors import DataError
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.image_io import read_image

ImageInput = str | Path | Image.Image | npt.NDArray[np.uint8]
EXPECTED = "expected a path, a PIL image or a uint8 RGB array (H, W, 3)"
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of PIL images; the others have more than 8 bits


def list_inputs(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """Return images as a list: one image, a batch (N, H, W, 3), or any iterable; DataError for anything else."""
    if isinstance(images, str | Path | Image.Image) or getattr(images, "ndim", None) == 3:
        return [images]  # type: ignore[list-item]
    try:
        return list(images)
    except TypeError as error:
        raise DataError(f"expected a list of images, got {type(images).__name__}") from error


def as_image(image: ImageInput, index: int) -> Pixels:
    """Return an image as uint8 RGB (H, W, 3); DataError, which names its position, for any other value."""
    if isinstance(image, str | Path):
        if Path(image).is_dir():
            raise DataError(
                f"image {index}: {image} is a folder. Pass its files: sorted(Path({str(image)!r}).iterdir())"
            )
        if not Path(image).is_file():
            raise DataError(f"image {index}: {image} does not exist")
        return read_image(str(image))
    if isinstance(image, Image.Image):
        return convert_pil(image, index)
    if not hasattr(image, "__array__"):
        raise DataError(f"image {index}: {EXPECTED}, got {type(image).__name__}")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        hint = suggest_conversion(pixels)
        raise DataError(f"image {index}: {EXPECTED}, got {pixels.dtype} of shape {pixels.shape}{hint}")
    return pixels


def convert_pil(image: Image.Image, index: int) -> Pixels:
    """Return a PIL image upright in RGB, as reading its file does."""
    if image.mode not in MODES:
        raise DataError(f"image {index}: PIL image of mode {image.mode}. Convert it to 8 bits and RGB")
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"image {index}: cannot be decoded ({error})") from error


def suggest_conversion(pixels: npt.NDArray[Any]) -> str:
    """Return the usual conversion of an array that is not an image, empty if none is known."""
    if pixels.ndim == 4:
        return ". Pass a batch by itself, not in a list"
    if pixels.ndim == 2:
        return ". Repeat gray values: np.stack([image] * 3, axis=2)"
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return ". Remove the alpha channel: image[..., :3]"
    if pixels.ndim == 3 and pixels.shape[0] == 3 != pixels.shape[2]:
        return ". Move the channels: image.transpose(1, 2, 0)"
    return ". Scale it to 0 … 255 and convert: image.astype('uint8')" if pixels.dtype.kind == "f" else ""
