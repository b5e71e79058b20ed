"""Decoded pixels: each photo is read and cropped once, into a memory map that all folds, runs and jobs share."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls import detect
from maskcls.console import say, track
from maskcls.errors import DataError
from maskcls.parts.crop import Crop, Found, photo
from maskcls.registry import Word
from maskcls.rundir import fingerprint, locked, sweep, write_json
from maskcls.sheets import complain

Pixels = npt.NDArray[np.uint8]


def pixels(table: pd.DataFrame, crop: Word, root: Path, note: Callable[[str], None] = lambda text: None) -> Pixels:
    """Return the cropped photos of a table in its order, (N, height, width, 3) RGB, read-only and memory-mapped.

    `note` is told in how many photos the crop found what it looks for, whoever made the cache.
    """
    paths = list(table["path"])
    stats = [(path, (stat := os.stat(path)).st_size, stat.st_mtime_ns) for path in paths]
    code = [Path(str(inspect.getsourcefile(source))).read_text() for source in (crop.build, detect)]
    place = root / fingerprint([stats, crop.name, dict(crop.params), code, cv2.__version__]) / "pixels.npy"
    with locked(root / f".{place.parent.name}.lock"):
        if not place.exists():
            build(paths, crop(), place)
    try:
        tell(place.with_name("facts.json"), crop.name, note)
        return np.load(place, mmap_mode="r", allow_pickle=False)
    except (ValueError, LookupError, TypeError, EOFError) as error:
        raise DataError(f"{place.parent} is broken ({error}): remove it, and the photos are decoded again") from error


def tell(facts: Path, crop: str, note: Callable[[str], None]) -> None:
    """Pass on what is known of a cached crop: how many of its photos are fallbacks (null where it needs no face)."""
    known = json.loads(facts.read_text()) if facts.exists() else {"fallbacks": None}
    if known["fallbacks"] is not None:
        others = "; the others have the centre crop" if known["fallbacks"] else ""
        found = known["photos"] - known["fallbacks"]
        note(f"crop {crop}: a face was found in {found} of {known['photos']} photos{others}")


def build(paths: list[str], crop: Crop, place: Path) -> None:
    """Decode and crop photos into a .npy file, in parallel; the file appears whole or not at all."""
    first = sample(paths, crop)
    if isinstance(crop, Found):
        crop.fallbacks = 0  # this photo comes again below
    size = first.nbytes * len(paths)
    place.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(place.parent).free) < size * 1.02:
        raise DataError(
            f"cache_dir: {len(paths)} photos take {size / 1e6:.0f} MB and {place.parent} has {free / 1e6:.0f} MB left"
        )
    say(f"decoding {len(paths)} photos to {first.shape[0]} × {first.shape[1]} pixels ({size / 1e6:.0f} MB)")
    part = place.with_suffix(".part")
    sweep(place.parent)
    whole = reserved(part, (len(paths), *first.shape))
    faults: list[str] = []

    def fill(index: int) -> None:
        try:
            image = decoded(paths[index], crop)
        except DataError as error:
            faults.append(str(error))
            return
        if image.shape != first.shape:
            sizes = " and ".join(f"{a.shape[0]} × {a.shape[1]}" for a in (first, image))
            faults.append(f"crop: photos of {sizes} pixels do not fit one array: choose crop=resize or crop=center")
            return
        whole[index] = image

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in track(pool.map(fill, range(len(paths))), len(paths), "decoding"):
                if len(faults) >= 10:
                    pool.shutdown(cancel_futures=True)
                    break
        complain(list(dict.fromkeys(faults)))
        whole.flush()
        missed = crop.fallbacks if isinstance(crop, Found) else None
        write_json(place.with_name("facts.json"), {"photos": len(paths), "fallbacks": missed})
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


def reserved(part: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a new memory map with its place on the disk taken: else a write to a full disk kills the process."""
    try:
        whole = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        with part.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(part)) from error
    return whole


def sample(paths: list[str], crop: Crop) -> Pixels:
    """Return the first photo that can be read, whose size is that of all."""
    faults = []
    for path in paths:
        try:
            return decoded(path, crop)
        except DataError as error:
            faults.append(str(error))
            if len(faults) == 10:
                break
    raise DataError(*faults)


def decoded(path: str, crop: Crop) -> Pixels:
    """Read one photo and crop it; a DataError names the photo."""
    image = photo(path)
    try:
        return crop(image)
    except (DataError, cv2.error) as error:
        raise DataError(f"{path}: {error}") from error
