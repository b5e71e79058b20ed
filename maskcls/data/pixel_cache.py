"""Pixel cache: decoded and cropped images, built once and memory-mapped."""

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
from maskcls.core.table import Note
from maskcls.data.image_check import store_decode_errors
from maskcls.imaging import face_detection, image_decoding
from maskcls.imaging.face_detection import package_versions
from maskcls.imaging.image_io import map_images, read_pixels
from maskcls.system.console import info, track
from maskcls.system.file_digests import check_unchanged, file_digests
from maskcls.system.files import content_hash, file_lock, remove_stale_parts, write_json

Pixels = npt.NDArray[np.uint8]


def load_pixels(table: pd.DataFrame, crop: Component, root: Path, note: Note = lambda text: None) -> Pixels:
    """Return the cropped images of a table in order, (N, height, width, 3) RGB, read-only and memory-mapped.

    A note counts the images in which the crop found a face, also for an existing cache entry. Any number of processes
    read an existing entry without a lock; the time of its folder is that of its last use. DataError if an image
    differs from the table's column `content`.
    """
    paths = list(table["path"])
    contents = list(table["content"]) if "content" in table else file_digests(paths, root)
    check_unchanged(paths, contents, root)
    path = pixels_path(contents, crop, root)
    folder = path.parent
    if not path.exists():
        with (
            wrap_write_errors(folder),
            file_lock(lock_path(folder), lambda: info("images are being decoded by another process; waiting")),
        ):
            if not path.exists():
                remove_stale_entries(root)
                remove_stale_parts(folder)
                build_cache(paths, crop, path, contents)
    with contextlib.suppress(OSError):  # the cache may be read-only or belong to another user
        os.utime(folder)
    try:
        report_fallbacks(folder / "facts.json", crop.name, note)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, LookupError, TypeError, EOFError) as error:
        raise DataError(f"cannot read {folder} ({error}). Delete it and run again to decode the images") from error


def pixels_path(contents: list[str], crop: Component, root: Path) -> Path:
    """Return the file of the cropped images with these digests of their files, in order; it may not exist."""
    return root / content_hash([contents, crop.name, dict(crop.params), source_code(crop)]) / "pixels.npy"


def source_code(crop: Component) -> list[str]:
    """Return the source code and library versions that turn a file into pixels."""
    files = [str(inspect.getsourcefile(module)) for module in (crop.builder, face_detection, image_decoding)]
    code = [Path(file).read_text(encoding="utf-8") for file in files]
    return [*code, cv2.__version__, PIL.__version__, *(package_versions() if "detector" in crop.params else ())]


def report_fallbacks(path: Path, crop: str, note: Note) -> None:
    """Note the number of images without a detected face (`fallbacks` in facts.json, null for crops that need none)."""
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"fallbacks": None}
    if facts["fallbacks"] is not None:
        fallback = "; the others have the center crop" if facts["fallbacks"] else ""
        num_faces = facts["photos"] - facts["fallbacks"]
        note(f"crop={crop}: a face was found in {num_faces} of {facts['photos']} images{fallback}")


def lock_path(folder: Path) -> Path:
    """Return the lock file of a cache folder."""
    return folder.parent / f".{folder.name}.lock"


@contextlib.contextmanager
def wrap_write_errors(folder: Path) -> Iterator[None]:
    """Context manager that turns an OSError, such as a full or read-only disk, into a DataError."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise DataError(f"cache_dir: cannot write {folder}: {error.strerror or error}{name}") from error


def build_cache(paths: list[str], component: Component, target: Path, contents: list[str]) -> None:
    """Decode and crop images in parallel into a .npy file, which is created atomically."""
    crop: Crop = component.build()
    first = first_readable(paths, crop)
    if isinstance(crop, FaceCrop):
        crop.fallbacks = 0  # the first image is cropped again below
    num_bytes, part = first.nbytes * len(paths), target.with_suffix(".part")
    errors: list[str] = []

    def fill(index: int) -> str | None:
        try:
            image = read_cropped(paths[index], crop)
        except PhotoError as error:
            return str(error).removeprefix(f"{paths[index]} ")
        except DataError as error:
            errors.append(str(error))
            return None
        if image.shape != first.shape:
            sizes = [f"{array.shape[0]} × {array.shape[1]}" for array in (first, image)]
            errors.append(mixed_sizes_message(component.name, sizes))
            return None
        pixels[index] = image
        return None

    try:
        info(f"decoding {len(paths)} images to {first.shape[0]} × {first.shape[1]} pixels ({num_bytes / 1e6:.0f} MB)")
        pixels = allocate(part, (len(paths), *first.shape))
        decode_all(paths, fill, errors, target.parent.parent)
        check_unchanged(paths, contents, target.parent.parent)
        pixels.flush()
        fallbacks = crop.fallbacks if isinstance(crop, FaceCrop) else None
        options = {"name": component.name, **component.params}
        facts = {"photos": len(paths), "fallbacks": fallbacks, "crop": options}
        write_json(target.with_name("facts.json"), facts | {"size": list(first.shape[:2])})
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
        if not target.exists():
            shutil.rmtree(target.parent, ignore_errors=True)


def decode_all(paths: list[str], fill: Callable[[int], str | None], errors: list[str], root: Path) -> None:
    """Run `fill` for each image in parallel; it returns a decoding error or adds another error to `errors`.

    Decoding errors are stored and raised as a PhotoError, other errors as a DataError.
    """
    unreadable: dict[str, str] = {}
    results = map_images(fill, range(len(paths)), paths.__getitem__)
    for path, (own, heard) in zip(paths, track(results, len(paths), "decoding"), strict=False):
        if fault := own or heard:
            unreadable[path] = fault
        if len(errors) + len(unreadable) >= 10:
            break
    if unreadable:
        store_decode_errors(unreadable, root)
        raise PhotoError(*[f"{path} {reason}" for path, reason in unreadable.items()])
    raise_errors(list(dict.fromkeys(errors)))


def allocate(part: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a new memory map whose disk space is reserved: writing to it on a full disk would raise SIGBUS."""
    part.parent.mkdir(parents=True, exist_ok=True)
    size, free = math.prod(shape), shutil.disk_usage(part.parent).free
    if free < size * 1.02:
        raise DataError(
            f"cache_dir: {shape[0]} images need {size / 1e6:.0f} MB, {part.parent} has {free / 1e6:.0f} MB free. "
            "Free disk space or set cache_dir"
        )
    pixels = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with part.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
    return pixels


def remove_stale_entries(root: Path) -> None:
    """Remove unfinished entries of killed processes."""
    for part in root.glob("*/pixels.part"):
        with contextlib.suppress(RunError), try_lock(part.parent):
            if part.exists():  # otherwise another process has just finished it
                shutil.rmtree(part.parent)


@contextlib.contextmanager
def try_lock(folder: Path) -> Iterator[None]:
    """Context manager that holds the lock of a folder; RunError if another process holds it."""

    def refuse() -> None:
        raise RunError(f"{folder} is being built by another process. Run the command again later")

    with file_lock(lock_path(folder), refuse):
        yield


def first_readable(paths: list[str], crop: Crop) -> Pixels:
    """Return the first readable image after the crop; all others must have its size."""
    errors = []
    for path in paths:
        try:
            return read_cropped(path, crop)
        except DataError as error:
            errors.append(str(error))
            if len(errors) == 10:
                break
    raise DataError(*errors)


def read_cropped(path: str, crop: Crop) -> Pixels:
    """Return an image after the crop; a DataError names its file."""
    image = read_pixels(path)
    try:
        return crop(image)
    except (DataError, cv2.error) as error:
        raise DataError(f"{path}: {error}") from error


def list_entries(root: Path) -> dict[str, Path]:
    """Return the folders of a cache by key: decoded images, and drawn masks as overlays/<key>."""
    overlays = root / "overlays"
    folders = [folder for base in (root, overlays) if base.is_dir() for folder in base.iterdir()
               if folder.is_dir() and folder != overlays and "." not in folder.name]  # fmt: skip
    return {folder.relative_to(root).as_posix(): folder for folder in sorted(folders)}


def remove_entries(root: Path, key: str) -> None:
    """Remove one entry, or all; RunError for one that is being built. Running processes keep their memory maps."""
    entries = list_entries(root)
    if key != "all" and key not in entries:
        raise DataError(unknown_message(f"entry of {root}", key, entries))
    selected = entries if key == "all" else {key: entries[key]}
    if sys.stdin.isatty() and selected and input(f"remove {', '.join(selected)}? [y/N] ").lower() not in ("y", "yes"):
        return
    for name, folder in selected.items():
        trash = folder.with_name(f".{folder.name}.gone")
        with try_lock(folder):
            shutil.rmtree(trash, ignore_errors=True)
            folder.rename(trash)  # atomic: a partly removed entry would look complete
            shutil.rmtree(trash)
        info(f"removed {name}")
