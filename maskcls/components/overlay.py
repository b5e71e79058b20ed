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

from maskcls import imaging
from maskcls.core.competition import MASKS, check_attributes
from maskcls.core.errors import ConfigError, DataError, write_error_message
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.table import Note
from maskcls.core.task import Task
from maskcls.imaging.face_detection import Detector, FaceDetector, package_versions
from maskcls.imaging.face_masks import Image, Style
from maskcls.imaging.image_io import read_pixels
from maskcls.imaging.landmarks import Landmarks
from maskcls.imaging.random_camera import photograph
from maskcls.imaging.random_covers import draw_random_cover
from maskcls.imaging.random_masks import draw_random_mask
from maskcls.system import console
from maskcls.system.file_digests import check_unchanged, file_digests
from maskcls.system.files import content_hash, file_lock
from maskcls.system.processes import num_cpus

registry = Registry("overlay")
STYLE_PROBS: dict[str, dict[Style, float]] = {
    "worn": {"worn": 1.0}, "incorrect": {"nose": 0.48, "chin": 0.34, "ear": 0.18}, "none": {},
}  # fmt: skip
JPEG_QUALITY = 95


@registry.register
def none(table: pd.DataFrame, note: Note, cache: Path) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def masks(
    table: pd.DataFrame, note: Note, cache: Path, task: Task, *, of: Literal["extra", "train", "all"] = "extra",
    worn: NonNegativeInt = 1, incorrect: NonNegativeInt = 1, bare: NonNegativeInt = 0, replace: bool = False,
    detector: Detector = "mtcnn", seed: NonNegativeInt = 0,
) -> pd.DataFrame:  # fmt: skip
    """Add `worn`, `incorrect` and `bare` versions of each bare face of a part, drawn at the landmarks of a detector.

    They are drawn once, below cache/overlays. A drawn image keeps the person, labels and fold of its source and is
    never scored. A note counts the images without a detected face, which are left out.

    Args:
        of: images to draw masks on
        worn: versions of each face with the mask worn
        incorrect: versions of each face with the mask worn incorrectly
        bare: versions of each face without a mask, many behind a hand, an object, a scarf or a beard
        replace: train on the drawn masks in place of the data's own, which are still scored
        detector: face detector that locates the landmarks
        seed: seed of the drawing
    """
    detect, sources = FaceDetector(detector), bare_faces(table, of)
    counts = zip(MASKS, (worn, incorrect, bare), strict=True)
    versions = [f"{kind}{i}" for kind, count in counts for i in range(count)]
    contents = file_digests(list(sources["path"]), cache)
    folder = cache / "overlays" / cache_key(sources, contents, versions, detector, seed)
    with file_lock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            draw_masks(sources, contents, versions, detect, seed, folder)
    files = {entry.name for entry in os.scandir(folder)}
    new = pd.concat([sources.iloc[:0], *(mask_rows(sources, version, folder, files, task) for version in versions)])
    num_missed = sum(name.endswith(".none") for name in files)
    note(
        f"overlay: {len(new)} images were drawn from {len(sources) - num_missed} bare faces; "
        f"{detector} found no face in {num_missed} images"
    )
    if replace:
        is_own_mask = (table["part"] == "train") & (table["mask"] != MASKS.index("none"))
        table = table.assign(trained=table["trained"] & ~is_own_mask)
    return pd.concat([table, new], ignore_index=True)


def bare_faces(table: pd.DataFrame, of: str) -> pd.DataFrame:
    """Return the labelled rows of a part without a mask; ConfigError if there are none."""
    if "mask" not in table:
        raise ConfigError("overlay=masks needs a table with a column mask, as data=competition and data=synthetic have")
    parts = ("train", "extra") if of == "all" else (of,)
    has_label = ~table["id"].str.startswith("pseudo/")  # a pseudo-label may be wrong
    is_bare = (table["mask"] == MASKS.index("none")) & (table["label"] >= 0)
    rows = table[has_label & table["part"].isin(parts) & is_bare]
    if rows.empty:
        raise ConfigError(f"overlay=masks: no image of overlay.of={of} shows a bare face. Choose another overlay.of")
    return rows


@registry.task_check(masks)
def check_masks(task: Task, **_: object) -> None:
    """Raise ConfigError for a task with attributes that the competition's data does not have."""
    check_attributes(task, "overlay=masks draws on data that")


def cache_key(bare: pd.DataFrame, contents: list[str], versions: list[str], detector: str, seed: int) -> str:
    """Return the folder name of drawn images, a hash of their sources, the options and the code."""
    files = [Path(__file__), *sorted(Path(str(imaging.__file__)).parent.glob("*.py"))]
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
            drawn = draw_version(image, face.landmarks, version.rstrip("0123456789"), rng)
            file = part / f"{file_stem(name)}-{version}.jpg"
            if not cv2.imwrite(str(file), drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise DataError(write_error_message(file))

    with ThreadPoolExecutor(num_cpus()) as pool:
        for _ in console.track(pool.map(draw_image, bare["id"], bare["path"]), len(bare), "drawing masks"):
            pass
    check_unchanged(list(bare["path"]), contents, folder.parent.parent)
    os.replace(part, folder)


def draw_version(image: Image, landmarks: Landmarks, kind: str, rng: np.random.Generator) -> Image:
    """Return a photo of a bare face with a mask worn or in one of three incorrect styles, or with something else.

    Half of the images look as if another camera took them, so that noise and blur do not reveal the kind.
    """
    if styles := STYLE_PROBS[kind]:
        style: Style = rng.choice(list(styles), p=list(styles.values())).item()
        image = draw_random_mask(image, landmarks, style, rng)
    else:
        image = draw_random_cover(image, landmarks, rng)
    return photograph(image, rng) if rng.random() < 0.5 else image


def file_stem(name: str) -> str:
    """Return the start of the file names of an image's drawn versions, a hash of its id."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def mask_rows(bare: pd.DataFrame, version: str, folder: Path, files: set[str], task: Task) -> pd.DataFrame:
    """Return the rows of one drawn version: those of the source with new id, path, mask, label, part and scored."""
    names = pd.Series([f"{file_stem(name)}-{version}.jpg" for name in bare["id"]], index=bare.index)
    is_drawn = names.isin(files)
    rows, mask = bare[is_drawn].copy(), MASKS.index(version.rstrip("0123456789"))
    values = dict(zip(task.names, task.decode(rows["label"]), strict=True))
    label = task.encode(*(values | {"mask": np.full(len(rows), mask)} if "mask" in values else values).values())
    return rows.assign(
        id="overlay/" + rows["id"] + "/" + version, path=[str(folder / name) for name in names[is_drawn]],
        mask=mask, label=label, part="extra", scored=False,
    )  # fmt: skip
