"""Mask overlay: training images with masks drawn on bare faces, worn correctly and incorrectly."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
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
from maskcls.core.table import Note
from maskcls.core.task import MASKS, decode, encode
from maskcls.imaging import face_detection, face_masks, image_decoding, raster
from maskcls.imaging.face_detection import Detector, FaceDetector, package_versions
from maskcls.imaging.face_masks import Image, Style, draw_mask, sample_mask
from maskcls.imaging.image_io import read_pixels
from maskcls.imaging.landmarks import Landmarks
from maskcls.system import console
from maskcls.system.file_digests import check_unchanged, file_digests
from maskcls.system.files import content_hash, file_lock
from maskcls.system.processes import num_cpus

registry = Registry("overlay")
INCORRECT_STYLES: dict[Style, float] = {"nose": 0.48, "chin": 0.34, "ear": 0.18}  # probabilities
JPEG_QUALITY = 95


@registry.register
def none(table: pd.DataFrame, note: Note, cache: Path) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def masks(
    table: pd.DataFrame, note: Note, cache: Path, *, of: Literal["extra", "train", "all"] = "extra",
    worn: NonNegativeInt = 1, incorrect: NonNegativeInt = 1, detector: Detector = "mtcnn", seed: NonNegativeInt = 0,
) -> pd.DataFrame:  # fmt: skip
    """Add `worn` and `incorrect` versions of each bare face of a part, drawn at the landmarks of a detector.

    They are drawn once, below cache/overlays. A drawn image keeps the person, labels and fold of its source and is
    never scored. A note counts the images without a detected face, which are left out.
    """
    detect = FaceDetector(detector)
    parts = ("train", "extra") if of == "all" else (of,)
    has_label = ~table["id"].str.startswith("pseudo/")  # a pseudo-label may be wrong
    bare = table[has_label & table["part"].isin(parts) & (table["mask"] == MASKS.index("none")) & (table["label"] >= 0)]
    if bare.empty:
        raise ConfigError(f"overlay=masks: no image of overlay.of={of} shows a bare face. Choose another overlay.of")
    versions = [f"{kind}{i}" for kind, count in (("worn", worn), ("incorrect", incorrect)) for i in range(count)]
    contents = file_digests(list(bare["path"]), cache)
    folder = cache / "overlays" / cache_key(bare, contents, versions, detector, seed)
    with file_lock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            draw_masks(bare, contents, versions, detect, seed, folder)
    files = {entry.name for entry in os.scandir(folder)}
    new = pd.concat([bare.iloc[:0], *(mask_rows(bare, version, folder, files) for version in versions)])
    num_missed = sum(name.endswith(".none") for name in files)
    note(
        f"overlay: {len(new)} masks were drawn on {len(bare) - num_missed} bare faces; "
        f"{detector} found no face in {num_missed} images"
    )
    return pd.concat([table, new], ignore_index=True)


def cache_key(bare: pd.DataFrame, contents: list[str], versions: list[str], detector: str, seed: int) -> str:
    """Return the folder name of drawn images, a hash of their sources, the options and the code."""
    files = [
        Path(__file__),
        *(Path(str(module.__file__)) for module in (face_masks, raster, face_detection, image_decoding)),
    ]
    code = [file.read_text(encoding="utf-8") for file in files]
    return content_hash([
        list(bare["id"]), contents, versions, detector, seed, code, cv2.__version__, PIL.__version__,
        package_versions(),
    ])  # fmt: skip


def draw_masks(
    bare: pd.DataFrame, contents: list[str], versions: list[str], detect: FaceDetector, seed: int, folder: Path
) -> None:  # fmt: skip
    """Draw all versions of all images in parallel into a folder that is created atomically.

    An image without a detected face gets an empty file `<name>.none`.
    """
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def draw_image(name: str, path: str) -> None:
        image = read_pixels(path)
        face = detect(image)
        if face is None:
            (part / f"{file_stem(name)}.none").touch()
            return
        for version in versions:
            rng = np.random.default_rng((seed, zlib.crc32(f"{name}/{version}".encode())))
            masked = with_mask(image, face.landmarks, version.startswith("worn"), rng)
            file = part / f"{file_stem(name)}-{version}.jpg"
            if not cv2.imwrite(str(file), masked[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise DataError(f"cannot write {file}. Free disk space and run the same command")

    with ThreadPoolExecutor(num_cpus()) as pool:
        for _ in console.track(pool.map(draw_image, bare["id"], bare["path"]), len(bare), "drawing masks"):
            pass
    check_unchanged(list(bare["path"]), contents, folder.parent.parent)
    os.replace(part, folder)


def with_mask(image: Image, landmarks: Landmarks, worn: bool, rng: np.random.Generator) -> Image:
    """Return an image with a random mask, worn correctly or in one of three incorrect styles."""
    styles, probs = list(INCORRECT_STYLES), list(INCORRECT_STYLES.values())
    style = "worn" if worn else styles[rng.choice(len(styles), p=probs)]
    return draw_mask(image, landmarks, sample_mask(rng), style, rng)


def file_stem(name: str) -> str:
    """Return the start of the file names of an image's drawn versions, a hash of its id."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def mask_rows(bare: pd.DataFrame, version: str, folder: Path, files: set[str]) -> pd.DataFrame:
    """Return the rows of one drawn version: those of the source with new id, path, mask, label, part and scored."""
    names = pd.Series([f"{file_stem(name)}-{version}.jpg" for name in bare["id"]], index=bare.index)
    is_drawn = names.isin(files)
    rows, mask = bare[is_drawn].copy(), MASKS.index(version.rstrip("0123456789"))
    _, gender, age = decode(rows["label"])
    return rows.assign(
        id="overlay/" + rows["id"] + "/" + version, path=[str(folder / name) for name in names[is_drawn]],
        mask=mask, label=encode(mask, gender, age), part="extra", scored=False,
    )  # fmt: skip
