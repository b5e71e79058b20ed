"""Augmentation of training images: albumentations pipelines, written in YAML by class name, and automatic policies.

Each call has its own seed, so that results do not depend on the number of workers. Policies draw among 14 color and
geometric operations; none is a mirror image, so `hflip` is a parameter. No class depends on left or right, but strong
translations (RandAugment: at most 45 % of a side) can move a mask out of the image, rotations (TrivialAugment: at most
135°) do not occur in upright photos, and solarize, posterize and equalize hide hair and skin, which show the age.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, Field

from maskcls.core.errors import unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt, UnitInterval

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise importing it looks for a newer version online

registry = Registry("augmentation")
Image = npt.NDArray[np.uint8]
Augment = Callable[[Image, int], Image]
BUILT_IN = {"Normalize": "images are normalized on the device", "ToTensorV2": "the loader converts images to tensors"}
ERASING_SEED = 0x2E5A51D7  # changes a seed: with the same one, only images that the first transform changes are erased


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
    *, transforms: Annotated[dict[str, Any], AfterValidator(check_transforms)], p: UnitInterval = 1.0,
    erasing: UnitInterval = 0.0,
) -> Augment:  # fmt: skip
    """Apply albumentations transforms in order.

    Args:
        transforms: transforms in order, as {Class: {argument: value}}
        p: probability that an image is augmented
        erasing: probability that a random box of an image becomes noise
    """
    steps = [build_transform(name, params or {}) for name, params in transforms.items()]
    return with_erasing(compose_transforms(steps, p), erasing)


@registry.identity(albumentations_)
def albumentations_content(*, transforms: dict[str, Any], **params: Any) -> dict[str, Any]:
    """Return the parameters with transforms as a list: their order changes results, that of arguments does not."""
    return {**params, "transforms": list_transforms(transforms)}


def list_transforms(transforms: Any) -> list[Any]:
    """Return transforms, also those inside a OneOf, as a list of [class, arguments]."""
    if isinstance(transforms, list):
        items = [item if isinstance(item, Mapping) else {str(item): {}} for item in transforms]
        return [step for item in items for step in list_transforms(item)]
    steps = [(name, dict(params or {})) for name, params in transforms.items()]
    nested = [{"transforms": list_transforms(step["transforms"])} if "transforms" in step else {} for _, step in steps]
    return [[name, step | inner] for (name, step), inner in zip(steps, nested, strict=True)]


def compose_transforms(steps: list[Any], p: float = 1.0) -> Augment:
    """Return albumentations transforms as one seeded function."""
    import albumentations

    pipeline = albumentations.Compose(steps, p=p)

    def augment(image: Image, seed: int) -> Image:
        pipeline.set_random_seed(seed)
        return np.asarray(pipeline(image=image)["image"])

    return augment


def with_erasing(augment: Augment, erasing: float) -> Augment:
    """Add random erasing (Zhong et al. 2020) with a probability: a box of 2–33 % of the image becomes noise."""
    if not erasing:
        return augment
    erase = compose_transforms([build_transform("Erasing", {"p": erasing, "fill": "random"})])
    return lambda image, seed: erase(augment(image, seed), seed ^ ERASING_SEED)


@registry.register
def randaugment(
    *, num_ops: NonNegativeInt = 2, magnitude: Annotated[int, Field(ge=0, le=30)] = 9, hflip: UnitInterval = 0.5,
    erasing: UnitInterval = 0.0,
) -> Augment:  # fmt: skip
    """RandAugment (Cubuk et al. 2020): random operations of one strength, after a mirror image.

    Args:
        num_ops: number of operations
        magnitude: their strength, 0 to 30
        hflip: probability of a mirror image
        erasing: probability that a random box of an image becomes noise
    """
    from torchvision.transforms import v2

    return with_erasing(apply_policy(v2.RandAugment(num_ops, magnitude), hflip), erasing)


@registry.register
def trivial(*, hflip: UnitInterval = 0.5, erasing: UnitInterval = 0.0) -> Augment:
    """TrivialAugment (Müller & Hutter 2021): one random operation of random strength, after a mirror image.

    Args:
        hflip: probability of a mirror image
        erasing: probability that a random box of an image becomes noise
    """
    from torchvision.transforms import v2

    return with_erasing(apply_policy(v2.TrivialAugmentWide(), hflip), erasing)


@registry.register
def autoaugment(
    *, policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet", hflip: UnitInterval = 0.5,
    erasing: UnitInterval = 0.0,
) -> Augment:  # fmt: skip
    """AutoAugment (Cubuk et al. 2019): a pair of operations of a learned policy, after a mirror image.

    Args:
        policy: data set on which the policy was learned
        hflip: probability of a mirror image
        erasing: probability that a random box of an image becomes noise
    """
    from torchvision.transforms import v2

    return with_erasing(apply_policy(v2.AutoAugment(v2.AutoAugmentPolicy(policy)), hflip), erasing)


def apply_policy(policy: Callable[[Any], Any], hflip: float) -> Augment:
    """Return a policy of torchvision as a seeded function; PIL images are processed faster than tensors."""
    from PIL import Image as PILImage

    def augment(image: Image, seed: int) -> Image:
        with seeded_torch(seed):
            flipped = image[:, ::-1] if float(torch.rand(())) < hflip else image
            return np.array(policy(PILImage.fromarray(np.ascontiguousarray(flipped))))

    return augment


@contextlib.contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Context manager that seeds torch's CPU generator, and afterwards restores it for the training step.

    torch.manual_seed also seeds the accelerators, which takes longer than the policy.
    """
    generator = torch.default_generator
    state = generator.get_state()
    try:
        generator.manual_seed(seed)
        yield
    finally:
        generator.set_state(state)


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
        raise ValueError(f"{name} is not needed. Remove it: {BUILT_IN[name]}")
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
