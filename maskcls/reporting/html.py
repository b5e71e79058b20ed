"""HTML helpers: data URIs and thumbnails."""

from __future__ import annotations

import base64

from maskcls.core.errors import DataError
from maskcls.imaging.image_io import read_photo


def thumbnail(path: str, side: int = 200) -> str | None:
    """Return a photo as a small JPEG's data: URI, None where it cannot be read any more."""
    import cv2

    try:
        image = read_photo(path)[..., ::-1]
        scale = min(1.0, side / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return uri("jpeg", cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes())
    except (DataError, cv2.error):
        return None


def uri(kind: str, image: bytes) -> str:
    """Return an image as a data: URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
