"""Put photos on one sheet to look at: as they are, with drawn masks, or cropped.

python -m maskcls preview photos/ --overlay                        each face bare, then worn, nose, chin, ear
python -m maskcls preview people.csv --crop face detector=retinaface margin=0.3
python -m maskcls preview photos/ --match '*/normal.*' --photos 40 --out sheet.jpg
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import yaml

from maskcls.cli.command import run_command
from maskcls.components import crop
from maskcls.core.csv_reader import read_csv, spell_as_on_disk
from maskcls.core.errors import ConfigError, DataError
from maskcls.imaging.contact_sheet import contact_sheet
from maskcls.imaging.face_detection import FaceDetector, check_detector
from maskcls.imaging.face_masks import STYLES, Image, draw_mask, sample_mask
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.imaging.image_io import read_image
from maskcls.system import console

Versions = Callable[[Image], list[Image]]


def select_images(source: Path, match: str, most: int) -> list[str]:
    """Return at most so many photos of a CSV (column path) or a folder, spread evenly over it."""
    if source.is_dir():
        files, left_out = find_images(source)
        if left_out:
            console.info(f"{source}: {describe_left_out(left_out)}")
    else:
        names = [row.cells["path"] for row in read_csv(source, ("path",))]
        files = [source.parent / spell_as_on_disk(source.parent, name) for name in names]
    files = [path for path in files if path.match(match)]
    if not files:
        raise DataError(f"there are no photos that match {match!r} in {source}")
    return [str(files[i]) for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def mask_versions(detector: str, seed: int) -> Versions:
    """Return what shows a photo with a drawn mask in each style; without a found face it stands alone."""
    try:
        find, random = FaceDetector(check_detector(detector)), np.random.default_rng(seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    def versions(image: Image) -> list[Image]:
        found = find(image)
        styles = STYLES if found else ()
        return [
            image,
            *(draw_mask(image, found.landmarks, sample_mask(random), style, random) for style in styles if found),
        ]

    return versions


def crop_version(words: list[str]) -> Versions:
    """Return what shows a photo and its crop, given as a word of the group and parameter=value."""
    faults = [f"--crop: {text!r} is no parameter=value" for text in words[1:] if "=" not in text]
    pairs = [text.partition("=") for text in words[1:]]
    made = crop.registry.check({"name": words[0]} | {name: yaml.safe_load(value) for name, _, value in pairs}, faults)
    if made is None or faults:
        raise ConfigError(*faults)
    cut = made.build()
    return lambda image: [image, cut(image)]


@run_command
def main() -> None:
    """Write the sheet that the command line asks for."""
    parser = argparse.ArgumentParser("python -m maskcls preview", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="a folder of photos, or a CSV with a column path")
    parser.add_argument("--overlay", action="store_true", help="draw a mask in each style")
    parser.add_argument("--crop", nargs="+", metavar="WORD", help="a word of the group crop, then parameter=value")
    parser.add_argument("--match", default="*", help="take photos whose path matches, such as '*/normal.*'")
    parser.add_argument("--photos", type=int, default=24, help="how many photos at most")
    parser.add_argument("--columns", type=int, default=2, help="how many photos in a row of the sheet")
    parser.add_argument("--size", type=int, default=160, help="pixels of a photo's longer side")
    parser.add_argument("--detector", default="mtcnn", help="mtcnn or retinaface")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("contact.jpg"), help="a .jpg or .png file")
    asked = parser.parse_args()
    show: Versions = lambda image: [image]  # noqa: E731
    if asked.overlay:
        show = mask_versions(asked.detector, asked.seed)
    elif asked.crop:
        show = crop_version(asked.crop)
    files = select_images(asked.source, asked.match, asked.photos)
    picture = contact_sheet([show(read_image(path)) for path in files], asked.size, asked.columns)
    if not cv2.imwrite(str(asked.out), picture[..., ::-1]):
        raise DataError(f"{asked.out} cannot be written")
    console.info(f"{len(files)} photos are on {asked.out}")
