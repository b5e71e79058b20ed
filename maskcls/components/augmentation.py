"""Augmentation of training images: albumentations pipelines, written in YAML by class name."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from maskcls.core.errors import unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import UnitInterval

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise importing it looks for a newer version online

registry = Registry("augmentation")
Image = npt.NDArray[np.uint8]
Augment = Callable[[Image, int], Image]
BUILT_IN = {"Normalize": "images are normalized on the device", "ToTensorV2": "the loader converts images to tensors"}


def check_transforms(transforms: dict[str, Any]) -> dict[str, Any]:
    """Return transforms after building each of them, which checks its name and arguments."""
    for name, params in transforms.items():
        build_transform(name, params or {})
    return transforms


@registry.register
def none() -> Augment | None:
    """Leave the images as they are."""
    return None


@registry.register
def albumentations_(
    *, transforms: Annotated[dict[str, Any], AfterValidator(check_transforms)], p: UnitInterval = 1.0
) -> Augment:
    """Apply albumentations transforms in order, given as {Class: {argument: value}}.

    Each call has its own seed, so that results do not depend on the number of workers.
    """
    import albumentations

    steps = [build_transform(name, params or {}) for name, params in transforms.items()]
    pipeline = albumentations.Compose(steps, p=p)

    def augment(image: Image, seed: int) -> Image:
        pipeline.set_random_seed(seed)
        return np.asarray(pipeline(image=image)["image"])

    return augment


def check_augmented(before: Image, after: npt.NDArray[Any]) -> Image:
    """Return an augmented image; raise ValueError unless it is uint8 RGB of the original size."""
    if after.dtype == np.uint8 and after.shape == before.shape:
        return after
    expected, got = (" × ".join(map(str, image.shape)) for image in (before, after))
    remedy = f"End with Resize: {{height: {before.shape[0]}, width: {before.shape[1]}}}"
    if after.ndim != 3 or after.shape[2] != 3:
        remedy = "Keep the three channels"
    if after.dtype != np.uint8:
        remedy = "Remove ToFloat (images are normalized on the device), or end with FromFloat"
    raise ValueError(f"expected uint8 pixels of {expected}, got {after.dtype} of {got}. {remedy}")


def build_transform(name: str, params: Mapping[str, Any]) -> Any:
    """Return one albumentations transform; raise ValueError for a wrong name, argument or value."""
    import albumentations

    if not isinstance(params, Mapping):
        raise ValueError(f"{name}: expected a mapping {{argument: value}}, got {params!r}")
    if name in BUILT_IN:
        raise ValueError(f"{name} is not needed, {BUILT_IN[name]}. Remove it")
    classes = {key: value for key, value in vars(albumentations).items() if inspect.isclass(value)
               and issubclass(value, albumentations.BasicTransform | albumentations.BaseCompose)}  # fmt: skip
    if name not in classes:
        raise ValueError(unknown_message("albumentations transform", name, classes))
    allowed = inspect.signature(classes[name].__init__).parameters
    if wrong := [key for key in params if key not in allowed]:
        raise ValueError(unknown_message("argument", wrong[0], set(allowed) - {"self"}, name))
    arguments = {key: build_nested(value) if key == "transforms" else value for key, value in params.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return classes[name](**arguments)
    except Exception as error:
        text = " ".join(str(error).split("For further information")[0].split())
        raise ValueError(f"{name}: {text}") from error


def build_nested(transforms: Any) -> list[Any]:
    """Return the transforms inside a OneOf, SomeOf or Sequential, given as a mapping or a list."""
    if isinstance(transforms, list):
        pairs = [item if isinstance(item, Mapping) else {str(item): {}} for item in transforms]
        return [step for pair in pairs for step in build_nested(pair)]
    if not isinstance(transforms, Mapping):
        raise ValueError(f"expected a mapping of transforms {{Class: {{argument: value}}}}, got {transforms!r}")
    return [build_transform(name, params or {}) for name, params in transforms.items()]
