"""Contact sheets: many images on one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from maskcls.imaging.face_masks import Image
from maskcls.imaging.resize import resize_image


def contact_sheet(rows: Iterable[list[Image]], size: int, columns: int) -> Image:
    """Return one image of all rows, `columns` rows side by side, with each image inside size × size pixels."""
    strips = [np.concatenate([pad_to_square(image, size) for image in row], 1) for row in rows]
    max_width = max(strip.shape[1] for strip in strips)
    strips = [
        np.pad(strip, ((0, 0), (0, max_width + 8 - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips
    ]
    strips += [np.full_like(strips[0], 255)] * (-len(strips) % columns)
    sheet_rows = [np.concatenate(strips[i : i + columns], 1) for i in range(0, len(strips), columns)]
    return np.concatenate(sheet_rows)


def pad_to_square(image: Image, size: int) -> Image:
    """Return an image resized and centered in a white square."""
    scale = size / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    resized = resize_image(image, height, width, 0)
    top, left = (size - height) // 2, (size - width) // 2
    return np.pad(resized, ((top, size - height - top), (left, size - width - left), (0, 0)), constant_values=255)
