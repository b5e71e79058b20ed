"""Contact sheet of images: unchanged, with drawn masks, cropped or augmented.

maskcls preview source=photos/ overlay=true        each face without a mask, with each mask style and with another cover
maskcls preview source=people.csv crop=face crop.detector=retinaface crop.margin=0.3
maskcls preview source=photos/ augmentation=randaugment augmentation.magnitude=15 crop=resize
maskcls preview source=photos/ match='*/normal.*' images=40 out=sheet.jpg

overlay=true is of the competition's own: it draws what overlay=masks adds to training.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from omegaconf import OmegaConf

from maskcls.cli.arguments import options_command
from maskcls.components import augmentation, crop
from maskcls.config.compose import compose
from maskcls.config.override_grammar import accept_text, parse
from maskcls.core.csv_reader import read_rows, spell_as_on_disk
from maskcls.core.errors import ConfigError, DataError, unknown_message, write_error_message
from maskcls.core.schema import ImageSide, NonNegativeInt, PositiveInt
from maskcls.imaging.contact_sheet import contact_sheet
from maskcls.imaging.face_detection import FaceDetector, check_detector
from maskcls.imaging.face_masks import STYLES, Image
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.imaging.image_io import read_image
from maskcls.imaging.random_covers import draw_random_cover
from maskcls.imaging.random_masks import draw_random_mask
from maskcls.system import console

Versions = Callable[[Image], list[Image]]
NUM_AUGMENTED = 4


@dataclass(frozen=True)
class PreviewOptions:
    """Options of `maskcls preview`."""

    source: str  # folder of images, or CSV with a column path
    overlay: bool = False  # draw a mask in each style, and a cover that is not a mask
    crop: str | None = None  # option of the config group crop; its parameters as crop.margin=0.3
    augmentation: str | None = None  # option of the config group augmentation; its parameters as augmentation.p=0.5
    match: str = "*"  # pattern of image paths, such as '*/normal.*'
    images: PositiveInt = 24  # maximum number of images
    columns: PositiveInt = 2  # images per row
    size: ImageSide = 160  # longer side of an image in pixels
    detector: str = "mtcnn"  # face detector of overlay: mtcnn or retinaface
    seed: NonNegativeInt = 0  # seed of the mask styles and augmentations
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
    matching = [path for path in files if path.match(match)]
    if not matching:
        raise DataError(f"none of the {len(files)} images in {source} matches match={match}. Change match")
    return [str(matching[i]) for i in np.linspace(0, len(matching) - 1, min(limit, len(matching))).astype(int)]


def mask_versions(detector: str, seed: int) -> Versions:
    """Return a function from an image to itself and, if a face is detected, with each mask style and another cover."""
    try:
        detect, rng = FaceDetector(check_detector(detector)), np.random.default_rng(seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    def versions(image: Image) -> list[Image]:
        face = detect(image)
        if not face:
            return [image]
        masked = [draw_random_mask(image, face.landmarks, style, rng) for style in STYLES]
        return [image, *masked, draw_random_cover(image, face.landmarks, rng)]

    return versions


def crop_version(option: str, overrides: Sequence[str]) -> Versions:
    """Return a function from an image to itself and its crop, by an option of the group and its parameters."""
    errors: list[str] = []
    params = {}
    for argument in filter(lambda argument: argument.startswith("crop."), overrides):
        override = parse(accept_text(argument))
        params[argument.partition("=")[0].removeprefix("crop.")] = override.value() if override else None
    component = crop.registry.check({"name": option, **params}, errors)
    if component is None or errors:
        raise ConfigError(*errors)
    crop_fn = component.build()
    return lambda image: [image, crop_fn(image)]


def augmented_versions(option: str, overrides: Sequence[str], versions: Versions, seed: int) -> Versions:
    """Return a function from an image to its versions, such as its crop, and the last of these augmented."""
    errors: list[str] = []
    own = [argument for argument in overrides if argument.startswith("augmentation.")]
    section = compose("name=preview", f"augmentation={option}", *own)["augmentation"]
    component = augmentation.registry.check(OmegaConf.to_container(section), errors)
    if component is None or errors:
        raise ConfigError(*errors)
    augment, seeds = component.build(), itertools.count(seed)

    def augmented(image: Image) -> list[Image]:
        images = versions(image)
        if not augment:
            return images
        return [*images, *(augment(images[-1], next(seeds)) for _ in range(NUM_AUGMENTED))]

    return augmented


@options_command(PreviewOptions, overrides=True)
def main(options: PreviewOptions, overrides: list[str]) -> None:
    """Write the contact sheet."""
    keys = [argument.partition("=")[0] for argument in overrides]
    groups = tuple(f"{group}." for group in ("crop", "augmentation") if getattr(options, group))
    if unknown := [key for key in keys if not key.startswith(groups)]:
        names = PreviewOptions.__dataclass_fields__
        hints = [f"Set {key.partition('.')[0]}, too" if key.partition(".")[0] in names else "" for key in unknown]
        messages = [f"unknown key '{key}'. {hint}" if hint else unknown_message("key", key, names)
                    for key, hint in zip(unknown, hints, strict=True)]  # fmt: skip
        raise ConfigError(*messages)
    versions: Versions = lambda image: [image]  # noqa: E731
    if options.overlay:
        versions = mask_versions(options.detector, options.seed)
    elif options.crop:
        versions = crop_version(options.crop, overrides)
    if options.augmentation:
        versions = augmented_versions(options.augmentation, overrides, versions, options.seed)
    paths = select_images(Path(options.source), options.match, options.images)
    sheet = contact_sheet([versions(read_image(path)) for path in paths], options.size, options.columns)
    if not cv2.imwrite(options.out, sheet[..., ::-1]):
        raise DataError(write_error_message(options.out))
    console.info(f"{len(paths)} images written to {options.out}")
