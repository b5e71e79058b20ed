"""Drawn masks: bare faces as further training photos with a mask, worn and worn incorrectly."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import PIL

from maskcls.core.errors import ConfigError, DataError
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.task import MASKS, decode, encode
from maskcls.imaging import face_detection, face_masks, image_decoding, raster
from maskcls.imaging.face_detection import Detector, FaceDetector, package_versions
from maskcls.imaging.face_masks import Image, Style, draw_mask, sample_mask
from maskcls.imaging.image_io import read_photo
from maskcls.imaging.landmarks import Landmarks
from maskcls.system import console
from maskcls.system.file_digests import check_unchanged, file_digests
from maskcls.system.files import content_hash, file_lock
from maskcls.system.processes import num_cpus

registry = Registry("overlay")
Note = Callable[[str], None]
SLIPS: dict[Style, float] = {"nose": 0.48, "chin": 0.34, "ear": 0.18}  # how a mask is worn incorrectly
QUALITY = 95  # of the JPEG files


@registry.register
def none(table: pd.DataFrame, note: Note, cache: Path) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def masks(
    table: pd.DataFrame, note: Note, cache: Path, *, of: Literal["extra", "train", "all"] = "extra",
    worn: NonNegativeInt = 1, incorrect: NonNegativeInt = 1, detector: Detector = "mtcnn", seed: NonNegativeInt = 0,
) -> pd.DataFrame:  # fmt: skip
    """Add `worn` and `incorrect` drawn versions of each bare face of a part, placed by a detector's landmarks.

    They are drawn once, below cache/overlays. A drawn photo keeps its source's person, labels and fold and is never
    scored; photos in which no face is found are left out and counted.
    """
    find = FaceDetector(detector)
    parts = ("train", "extra") if of == "all" else (of,)
    own = ~table["id"].str.startswith("pseudo/")  # a guess is no bare face that somebody vouches for
    bare = table[own & table["part"].isin(parts) & (table["mask"] == MASKS.index("none")) & (table["label"] >= 0)]
    if bare.empty:
        raise ConfigError(f"overlay masks: no photo of overlay.of={of} shows a bare face")
    wanted = [f"{kind}{i}" for kind, count in (("worn", worn), ("incorrect", incorrect)) for i in range(count)]
    contents = file_digests(list(bare["path"]), cache)
    place = cache / "overlays" / key(bare, contents, wanted, detector, seed)
    with file_lock(place.parent / f".{place.name}.lock"):
        if not place.exists():
            draw(bare, contents, wanted, find, seed, place)
    there = {entry.name for entry in os.scandir(place)}
    new = pd.concat([bare.iloc[:0], *(mask_rows(bare, name, place, there) for name in wanted)])
    lost = sum(name.endswith(".none") for name in there)
    note(f"overlay: {len(new)} masks were drawn on {len(bare) - lost} bare faces; in {lost} {detector} found no face")
    return pd.concat([table, new], ignore_index=True)


def key(bare: pd.DataFrame, contents: list[str], wanted: list[str], detector: str, seed: int) -> str:
    """Return the name of a folder of drawn photos: it changes with its sources and with the code that draws."""
    files = [
        Path(__file__),
        *(Path(str(module.__file__)) for module in (face_masks, raster, face_detection, image_decoding)),
    ]
    code = [file.read_text(encoding="utf-8") for file in files]
    return content_hash([
        list(bare["id"]), contents, wanted, detector, seed, code, cv2.__version__, PIL.__version__,
        package_versions(),
    ])  # fmt: skip


def draw(
    bare: pd.DataFrame, contents: list[str], wanted: list[str], find: FaceDetector, seed: int, place: Path
) -> None:  # fmt: skip
    """Draw the wanted masks on all photos, in parallel, into a folder that appears whole or not at all.

    A photo without a found face leaves an empty file `<name>.none`.
    """
    part = place.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def one(name: str, path: str) -> None:
        image = read_photo(path)
        found = find(image)
        if found is None:
            (part / f"{file_stem(name)}.none").touch()
            return
        for kind in wanted:
            random = np.random.default_rng((seed, zlib.crc32(f"{name}/{kind}".encode())))
            picture = with_mask(image, found.landmarks, kind.startswith("worn"), random)
            file = part / f"{file_stem(name)}-{kind}.jpg"
            if not cv2.imwrite(str(file), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
                raise DataError(f"{file} cannot be written: is the disk full?")

    with ThreadPoolExecutor(num_cpus()) as pool:
        for _ in console.track(pool.map(one, bare["id"], bare["path"]), len(bare), "drawing masks"):
            pass
    check_unchanged(list(bare["path"]), contents, place.parent.parent)
    os.replace(part, place)


def with_mask(image: Image, at: Landmarks, worn: bool, random: np.random.Generator) -> Image:
    """Return a photo with a random mask, worn or in one of the three ways of wearing it incorrectly."""
    style = "worn" if worn else list(SLIPS)[random.choice(len(SLIPS), p=list(SLIPS.values()))]
    return draw_mask(image, at, sample_mask(random), style, random)


def file_stem(name: str) -> str:
    """Return the file name of a photo's drawn versions, the same for an id always."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def mask_rows(bare: pd.DataFrame, kind: str, place: Path, there: set[str]) -> pd.DataFrame:
    """Return the rows of one drawn version: its source's, but for id, path, mask, label, part and scored."""
    files = pd.Series([f"{file_stem(name)}-{kind}.jpg" for name in bare["id"]], index=bare.index)
    have = files.isin(there)
    rows, mask = bare[have].copy(), MASKS.index(kind.rstrip("0123456789"))
    _, gender, age = decode(rows["label"])
    return rows.assign(
        id="overlay/" + rows["id"] + "/" + kind, path=[str(place / name) for name in files[have]],
        mask=mask, label=encode(mask, gender, age), part="extra", scored=False,
    )  # fmt: skip
