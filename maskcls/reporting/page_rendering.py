"""HTML pages from templates, data URIs and thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskcls.core.errors import DataError
from maskcls.imaging.image_decoding import Image
from maskcls.imaging.image_io import read_pixels
from maskcls.imaging.resize import shrink_image
from maskcls.system import console


def render_template(name: str, values: Mapping[str, Any], **filters: Callable[..., str]) -> str:
    """Return a page from templates/, with every value escaped and control characters shown as text."""
    from jinja2 import Environment, FileSystemLoader

    folder = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(
        autoescape=True, loader=folder, trim_blocks=True, lstrip_blocks=True, finalize=console.escape_value
    )  # fmt: skip
    engine.filters.update(filters)
    return engine.get_template(name).render(values)


def read_asset(name: str) -> str:
    """Return the text of a script or style sheet in templates/, to stand in a page."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def thumbnail(path: str, side: int = 200) -> str | None:
    """Return the data: URI of an image as a small JPEG, None if the image is not readable."""
    import cv2

    try:
        return thumbnail_of(read_pixels(path), side)
    except (DataError, cv2.error):
        return None


def thumbnail_of(image: Image, side: int) -> str:
    """Return the data: URI of pixels, RGB, as a small JPEG."""
    import cv2

    small = shrink_image(image, side)[..., ::-1]
    return data_uri("jpeg", cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())


def data_uri(kind: str, image: bytes) -> str:
    """Return an image as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
