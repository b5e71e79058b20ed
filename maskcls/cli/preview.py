"""Contact sheet of images: unchanged, with drawn masks, or cropped.

maskcls preview source=photos/ overlay=true        each face without a mask and with each mask style
maskcls preview source=people.csv crop=face crop.detector=retinaface crop.margin=0.3
maskcls preview source=photos/ match='*/normal.*' images=40 out=sheet.jpg
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from maskcls.cli.arguments import options_command
from maskcls.components import crop
from maskcls.config.override_grammar import accept_text, parse
from maskcls.core.csv_reader import read_rows, spell_as_on_disk
from maskcls.core.errors import ConfigError, DataError, unknown_message
from maskcls.core.schema import ImageSide, NonNegativeInt, PositiveInt
from maskcls.imaging.contact_sheet import contact_sheet
from maskcls.imaging.face_detection import FaceDetector, check_detector
from maskcls.imaging.face_masks import STYLES, Image, draw_mask, sample_mask
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.imaging.image_io import read_image
from maskcls.system import console

Versions = Callable[[Image], list[Image]]


@dataclass(frozen=True)
class PreviewOptions:
    """Options of `maskcls preview`."""

    source: str  # folder of images, or CSV with a column path
    overlay: bool = False  # draw a mask in each style
    crop: str | None = None  # option of the config group crop; its parameters as crop.margin=0.3
    match: str = "*"  # pattern of image paths, such as '*/normal.*'
    images: PositiveInt = 24  # maximum number of images
    columns: PositiveInt = 2  # images per row
    size: ImageSide = 160  # longer side of an image in pixels
    detector: str = "mtcnn"  # face detector of overlay: mtcnn or retinaface
    seed: NonNegativeInt = 0  # seed of the mask styles
    out: str = "contact.jpg"  # .jpg or .png file to write


def select_images(source: Path, match: str, limit: int) -> list[str]:
    """Return at most `limit` images of a CSV (column path) or a folder, evenly spaced."""
    if source.is_dir():
        files, left_out = find_images(source)
        if left_out:
            console.info(f"{source}: {describe_left_out(left_out)}")
    else:
        names = [row.cells["path"] for row in read_rows(source, ("path",))]
        files = [source.parent / spell_as_on_disk(source.parent, name) for name in names]
    files = [path for path in files if path.match(match)]
    if not files:
        raise DataError(f"{source}: no images match {match!r}")
    return [str(files[i]) for i in np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int)]


def mask_versions(detector: str, seed: int) -> Versions:
    """Return a function from an image to itself and, if a face is detected, a version with each mask style."""
    try:
        detect, rng = FaceDetector(check_detector(detector)), np.random.default_rng(seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    def versions(image: Image) -> list[Image]:
        face = detect(image)
        if not face:
            return [image]
        return [image, *(draw_mask(image, face.landmarks, sample_mask(rng), style, rng) for style in STYLES)]

    return versions


def crop_version(option: str, overrides: Sequence[str]) -> Versions:
    """Return a function from an image to itself and its crop, by an option of the group and its parameters."""
    errors: list[str] = []
    params = {}
    for argument in overrides:
        override = parse(accept_text(argument))
        params[argument.partition("=")[0].removeprefix("crop.")] = override.value() if override else None
    component = crop.registry.check({"name": option, **params}, errors)
    if component is None or errors:
        raise ConfigError(*errors)
    crop_fn = component.build()
    return lambda image: [image, crop_fn(image)]


@options_command(PreviewOptions, overrides=True)
def main(options: PreviewOptions, overrides: list[str]) -> None:
    """Write the contact sheet."""
    keys = [argument.partition("=")[0] for argument in overrides]
    if unknown := [key for key in keys if not (options.crop and key.startswith("crop."))]:
        names = PreviewOptions.__dataclass_fields__
        raise ConfigError(*(unknown_message("key", key, [*names, "crop.margin"]) for key in unknown))
    versions: Versions = lambda image: [image]  # noqa: E731
    if options.overlay:
        versions = mask_versions(options.detector, options.seed)
    elif options.crop:
        versions = crop_version(options.crop, overrides)
    paths = select_images(Path(options.source), options.match, options.images)
    sheet = contact_sheet([versions(read_image(path)) for path in paths], options.size, options.columns)
    if not cv2.imwrite(options.out, sheet[..., ::-1]):
        raise DataError(f"cannot write {options.out}")
    console.info(f"{len(paths)} images written to {options.out}")
