"""The images behind a run's predictions, as far as they are still there: from the pixel cache, or from their files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskcls.components import crop, data
from maskcls.core.errors import DataError, MaskclsError, RunError
from maskcls.core.table import Note
from maskcls.data.pixel_cache import pixels_path
from maskcls.imaging.image_decoding import Image, ReadPhoto
from maskcls.imaging.image_io import read_pixels
from maskcls.storage.run import Run
from maskcls.storage.stored_components import restore_section
from maskcls.system.file_digests import read_digest

GONE = "the image files and the pixel cache of these runs are gone"
UNKNOWN = "{} of {} images have no digest in table.csv, as in runs of older versions, so they cannot be checked"


def open_photos(run: Run, note: Note = lambda text: None) -> ReadPhoto | None:
    """Return a reader of a run's images by their ids; None, with a note, if none of them can be shown.

    The run may be untrusted, and what is read may be shared: an image is shown only if its file has the content that
    the run's table records. Without a record it is not shown, with a note.
    """
    with contextlib.suppress(MaskclsError, OSError, ValueError, LookupError, TypeError):
        count, total = int((run.table["content"] == "").sum()), len(run.table)
        if count:
            note(UNKNOWN.format(count, total))
        if count == total:
            return None
        if read := open_cached(run) or open_files(run):
            return read
    note(GONE)
    return None


def image_paths(run: Run) -> pd.Series[str]:
    """Return the path of each image of a run's data by its id, as its config.yaml names them now.

    Raise RunError if they cannot be read; the message quotes nothing of an untrusted config.
    """
    component = restore_section(data.registry, run.config.get("data"), run.config_path, run.task)
    try:
        return data.without_drawing(component).build(lambda note: None).set_index("id")["path"]
    except DataError:
        what = f"{run.path}: cannot read the images that its config.yaml names"
        raise RunError(f"{what}. Set data=<source> and the source's root or file") from None


def open_cached(run: Run) -> ReadPhoto | None:
    """Return a reader of the cropped images in the pixel cache, None if they are not there."""
    with contextlib.suppress(MaskclsError):
        contents = run.table["content"].tolist()
        component = restore_section(crop.registry, run.config.get("crop"), run.config_path, run.task)
        path = pixels_path(contents, component, Path(str(run.config.get("cache_dir"))))
        if path.exists():
            pixels = np.load(path, mmap_mode="r", allow_pickle=False)
            if pixels.dtype == np.uint8 and pixels.ndim == 4 and len(pixels) == len(contents):
                positions = {name: i for i, name in enumerate(run.table["id"]) if contents[i]}
                return lambda name: np.asarray(pixels[positions[name]]) if name in positions else None
    return None


def open_files(run: Run) -> ReadPhoto | None:
    """Return a reader of the image files that the run's config names, None if there are none."""
    rows = image_paths(run)
    paths = dict(zip(rows.index.astype(str), rows, strict=True))
    contents = dict(zip(run.table["id"], run.table["content"], strict=True))
    if not paths.keys() & contents.keys():
        return None
    return lambda name: read_unchanged(paths, contents, name)


def read_unchanged(paths: Mapping[str, str], contents: Mapping[str, str], name: str) -> Image | None:
    """Return the image of an id from its file, None if it cannot be read or is not known to be the file of the run."""
    try:
        is_same = bool(contents[name]) and read_digest(paths[name]) == contents[name]
        return read_pixels(paths[name]) if is_same else None
    except (DataError, LookupError, OSError, cv2.error):
        return None
