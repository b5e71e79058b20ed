"""Decoded and cropped pixels, built once and memory-mapped."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import PIL

from maskcls.components.crop import Crop, FaceCrop, mixed_sizes_message
from maskcls.core.csv_reader import raise_errors
from maskcls.core.errors import DataError, PhotoError, RunError, unknown_message
from maskcls.core.registry import Component
from maskcls.data.image_check import keep_faults
from maskcls.imaging import face_detection, image_decoding
from maskcls.imaging.face_detection import package_versions
from maskcls.imaging.image_io import map_heard, read_photo
from maskcls.system.console import info, track
from maskcls.system.file_digests import check_unchanged, file_digests
from maskcls.system.files import content_hash, file_lock, write_json

Pixels = npt.NDArray[np.uint8]


def load_pixels(
    table: pd.DataFrame, crop: Component, root: Path, note: Callable[[str], None] = lambda text: None
) -> Pixels:
    """Return the cropped photos of a table in its order, (N, height, width, 3) RGB, read-only and memory-mapped.

    `note` is told in how many photos the crop found what it looks for, whoever made the cache. A set that stands is
    read without a lock, by any number of processes; its folder's time says when it was last asked for. DataError where
    a photo no longer holds what the table's column `content` says.
    """
    paths = list(table["path"])
    contents = list(table["content"]) if "content" in table else file_digests(paths, root)
    check_unchanged(paths, contents, root)
    place = root / content_hash([contents, crop.name, dict(crop.params), source_code(crop)]) / "pixels.npy"
    if not place.exists():
        with (
            writable(place.parent),
            file_lock(lock(place.parent), lambda: info("these photos are being decoded; waiting")),
        ):
            if not place.exists():
                sweep(root)
                build_cache(paths, crop, place, contents)
    with contextlib.suppress(OSError):  # another user's cache, or a read-only one, serves as well
        os.utime(place.parent)
    try:
        report_fallbacks(place.with_name("facts.json"), crop.name, note)
        return np.load(place, mmap_mode="r", allow_pickle=False)
    except (ValueError, LookupError, TypeError, EOFError) as error:
        raise DataError(f"{place.parent} is broken ({error}): remove it, and the photos are decoded again") from error


def source_code(crop: Component) -> list[str]:
    """Return the code and the versions that turn a file into pixels."""
    files = [str(inspect.getsourcefile(source)) for source in (crop.builder, face_detection, image_decoding)]
    code = [Path(file).read_text(encoding="utf-8") for file in files]
    return [*code, cv2.__version__, PIL.__version__, *(package_versions() if "detector" in crop.params else ())]


def report_fallbacks(facts: Path, crop: str, note: Callable[[str], None]) -> None:
    """Pass on what is known of a cached crop: how many of its photos are fallbacks (null where it needs no face)."""
    known = json.loads(facts.read_text(encoding="utf-8")) if facts.exists() else {"fallbacks": None}
    if known["fallbacks"] is not None:
        others = "; the others have the centre crop" if known["fallbacks"] else ""
        found = known["photos"] - known["fallbacks"]
        note(f"crop {crop}: a face was found in {found} of {known['photos']} photos{others}")


def lock(folder: Path) -> Path:
    """Return the file that is locked while a folder of the cache is made."""
    return folder.parent / f".{folder.name}.lock"


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Tell a full or read-only disk in a sentence."""
    try:
        yield
    except OSError as error:
        what = f" ({error.filename})" if error.filename else ""
        raise DataError(f"cache_dir: {folder} cannot be made: {error.strerror or error}{what}") from error


def build_cache(paths: list[str], word: Component, place: Path, contents: list[str]) -> None:
    """Decode and crop photos of these contents into a .npy file, in parallel; it appears whole or not at all."""
    crop: Crop = word.build()
    first = first_readable(paths, crop)
    if isinstance(crop, FaceCrop):
        crop.fallbacks = 0  # this photo comes again below
    size, part = first.nbytes * len(paths), place.with_suffix(".part")
    faults: list[str] = []

    def fill(index: int) -> str | None:
        try:
            image = decoded(paths[index], crop)
        except PhotoError as error:
            return str(error).removeprefix(f"{paths[index]} ")
        except DataError as error:
            faults.append(str(error))
            return None
        if image.shape != first.shape:
            sizes = [f"{pixels.shape[0]} × {pixels.shape[1]}" for pixels in (first, image)]
            faults.append(mixed_sizes_message(word.name, sizes))
            return None
        whole[index] = image
        return None

    try:
        info(f"decoding {len(paths)} photos to {first.shape[0]} × {first.shape[1]} pixels ({size / 1e6:.0f} MB)")
        whole = allocate(part, (len(paths), *first.shape))
        decode_all(paths, fill, faults, place.parent.parent)
        check_unchanged(paths, contents, place.parent.parent)
        whole.flush()
        missed = crop.fallbacks if isinstance(crop, FaceCrop) else None
        facts = {"photos": len(paths), "fallbacks": missed, "crop": {"name": word.name, **word.params}}
        write_json(place.with_name("facts.json"), facts | {"size": list(first.shape[:2])})
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
        if not place.exists():
            shutil.rmtree(place.parent, ignore_errors=True)


def decode_all(paths: list[str], fill: Callable[[int], str | None], faults: list[str], root: Path) -> None:
    """Run `fill` for each photo, in parallel, which returns why a photo cannot be read or adds another fault.

    Photos that cannot be read are remembered, and raised as a PhotoError; other faults as a DataError.
    """
    unread: dict[str, str] = {}
    work = map_heard(fill, range(len(paths)), paths.__getitem__)
    for path, (own, heard) in zip(paths, track(work, len(paths), "decoding"), strict=False):
        if fault := own or heard:
            unread[path] = fault
        if len(faults) + len(unread) >= 10:
            break
    if unread:
        keep_faults(unread, root)
        raise PhotoError(*[f"{path} {fault}" for path, fault in unread.items()])
    raise_errors(list(dict.fromkeys(faults)))


def allocate(part: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a new array in a file whose room on the disk is taken: in a memory map a full disk would be a SIGBUS."""
    part.parent.mkdir(parents=True, exist_ok=True)
    size, free = math.prod(shape), shutil.disk_usage(part.parent).free
    if free < size * 1.02:
        raise DataError(
            f"cache_dir: {shape[0]} photos take {size / 1e6:.0f} MB and {part.parent} has {free / 1e6:.0f} MB left"
        )
    whole = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with part.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
    return whole


def sweep(root: Path) -> None:
    """Remove the half of a set that a killed process has left."""
    for part in root.glob("*/pixels.part"):
        with contextlib.suppress(RunError), try_lock(part.parent):
            if part.exists():  # else it has just become a whole set
                shutil.rmtree(part.parent)


@contextlib.contextmanager
def try_lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; where another process holds it, that is a RunError."""

    def refuse() -> None:
        raise RunError(f"{folder} is being made by another process")

    with file_lock(lock(folder), refuse):
        yield


def first_readable(paths: list[str], crop: Crop) -> Pixels:
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
    image = read_photo(path)
    try:
        return crop(image)
    except (DataError, cv2.error) as error:
        raise DataError(f"{path}: {error}") from error


def list_entries(root: Path) -> dict[str, Path]:
    """Return the folders of a cache by their keys: decoded photos, and drawn masks as overlays/<key>."""
    drawn = root / "overlays"
    folders = [place for base in (root, drawn) if base.is_dir() for place in base.iterdir()
               if place.is_dir() and place != drawn and "." not in place.name]  # fmt: skip
    return {place.relative_to(root).as_posix(): place for place in sorted(folders)}


def remove_entries(root: Path, key: str) -> None:
    """Remove one set, or all; one that is being built is refused, and a run that reads one keeps what it has mapped."""
    known = list_entries(root)
    if key != "all" and key not in known:
        raise DataError(unknown_message(f"set in {root}", key, known))
    chosen = known if key == "all" else {key: known[key]}
    if sys.stdin.isatty() and chosen and input(f"remove {', '.join(chosen)}? [y/N] ").lower() not in ("y", "yes"):
        return
    for name, folder in chosen.items():
        gone = folder.with_name(f".{folder.name}.gone")
        with try_lock(folder):
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)  # at once: half a set would pass for a whole one
            shutil.rmtree(gone)
        info(f"removed {name}")
