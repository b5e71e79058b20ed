"""The images behind a run's predictions, as far as they are still there: from the pixel cache, or from their files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskcls.components import crop, data
from maskcls.core.errors import ConfigError, DataError, MaskclsError
from maskcls.core.registry import Component, Registry
from maskcls.data.pixel_cache import pixels_path
from maskcls.imaging.image_decoding import Image
from maskcls.imaging.image_io import read_pixels
from maskcls.storage.run import Run
from maskcls.system.file_digests import read_digest

ReadPhoto = Callable[[str], Image | None]  # the image of an id, RGB, None if it is missing, unreadable or has changed


def open_photos(run: Run) -> ReadPhoto | None:
    """Return a reader of a run's images by their ids; None if neither cached pixels nor files are found.

    The run may be untrusted: a file is shown only if its content is the one that the run's table records.
    """
    with contextlib.suppress(MaskclsError, OSError, ValueError, LookupError, TypeError):
        return open_cached(run) or open_files(run)
    return None


def restore(registry: Registry, section: Any) -> Component:
    """Return the component of a section of a run's config; ConfigError if it is unknown or invalid."""
    errors: list[str] = []
    component = registry.check(section, errors)
    if component is None:
        raise ConfigError(*errors)
    return component


def open_cached(run: Run) -> ReadPhoto | None:
    """Return a reader of the cropped images in the pixel cache, None if they are not there."""
    with contextlib.suppress(MaskclsError):
        contents, component = run.table["content"].tolist(), restore(crop.registry, run.config.get("crop"))
        path = pixels_path(contents, component, Path(str(run.config.get("cache_dir"))))
        if path.exists():
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            if pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == len(contents):
                positions = {name: i for i, name in enumerate(run.table["id"])}
                return lambda name: np.asarray(pixels[positions[name]]) if name in positions else None
    return None


def open_files(run: Run) -> ReadPhoto | None:
    """Return a reader of the image files that the run's config names, None if there are none."""
    rows = data.without_drawing(restore(data.registry, run.config.get("data"))).build(lambda note: None)
    paths = dict(zip(rows["id"], rows["path"], strict=True))
    contents = dict(zip(run.table["id"], run.table["content"], strict=True))
    if not paths.keys() & contents.keys():
        return None
    return lambda name: read_unchanged(paths, contents, name)


def read_unchanged(paths: Mapping[str, str], contents: Mapping[str, str], name: str) -> Image | None:
    """Return the image of an id from its file, None if it cannot be read or is not the file of the run."""
    try:
        if contents.get(name) and read_digest(paths[name]) != contents[name]:
            return None
        return read_pixels(paths[name])
    except (DataError, LookupError, OSError, cv2.error):
        return None
