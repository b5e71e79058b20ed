"""Augmentation: albumentations by class name, one seed per image, equal to the first team's pipeline."""

from __future__ import annotations

from collections import Counter
from typing import Any

import albumentations
import cv2
import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from torchvision.transforms import v2

from maskcls.components import augmentation, model
from maskcls.components.augmentation import albumentations_
from maskcls.components.crop import center
from maskcls.config.config_folders import resource_dir
from maskcls.core.registry import Component
from maskcls.inference.forward import channel_stats, normalize

FILES = sorted((resource_dir("conf") / "augmentation").glob("*.yaml"))
MEAN, STD = (0.548, 0.504, 0.479), (0.237, 0.247, 0.246)


def image(height: int = 64, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def conf(name: str) -> Component:
    faults: list[str] = []
    word = augmentation.registry.check(
        yaml.safe_load((resource_dir("conf") / "augmentation" / f"{name}.yaml").read_text()), faults
    )
    assert word is not None and not faults
    return word


def test_team_on_cropped_pixels_equals_the_first_teams_pipeline() -> None:
    photo = image(512, 384)
    net = model.timm_(18, 400, 200, arch="test_resnet", normalize="competition")
    plain = albumentations.Compose(
        [
            albumentations.CenterCrop(400, 200),
            albumentations.RandomBrightnessContrast(brightness_limit=(-0.1, 0.1), contrast_limit=(-0.1, 0.1), p=0.5),
            albumentations.Normalize(mean=MEAN, std=STD, p=1.0),
        ]
    )
    augment, cropped, touched = conf("team").build(), center(height=400, width=200)(photo), 0
    for seed in range(8):
        plain.set_random_seed(seed)
        expected = plain(image=photo)["image"].transpose(2, 0, 1)
        pixels = augment(cropped, seed)
        got = normalize(torch.from_numpy(pixels.copy())[None], channel_stats(net, torch.device("cpu")))[0].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-5)
        touched += not np.array_equal(pixels, cropped)
    assert 0 < touched < 8  # p = 0.5: the comparison holds photos of both kinds


def test_validation_equals_the_first_teams_too() -> None:
    photo = image(512, 384)
    net = model.timm_(18, 400, 200, arch="test_resnet", normalize="competition")
    plain = albumentations.Compose([albumentations.CenterCrop(400, 200), albumentations.Normalize(mean=MEAN, std=STD)])
    got = normalize(torch.from_numpy(center()(photo).copy())[None], channel_stats(net, torch.device("cpu")))
    np.testing.assert_allclose(got[0].numpy(), plain(image=photo)["image"].transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_each_pipeline_of_conf_keeps_size_and_type_and_follows_its_seed(name: str) -> None:
    augment = conf(name).build()
    if name == "none":
        assert augment is None
        return
    photo = image()
    seen = [augment(photo, seed) for seed in range(12)]
    assert all(result.shape == (64, 48, 3) and result.dtype == np.uint8 for result in seen)
    assert all(np.array_equal(result, augment(photo, seed)) for seed, result in reversed(list(enumerate(seen))))
    assert np.array_equal(photo, image()), "the photo itself is left alone"
    assert sum(not np.array_equal(result, photo) for result in seen) >= 3
    assert len({result.tobytes() for result in seen}) >= 3


def test_pipelines_of_the_same_words_agree() -> None:
    first, second = conf("heavy").build(), conf("heavy").build()
    first(image(), 3)
    assert all(np.array_equal(first(image(), seed), second(image(), seed)) for seed in (9, 1, 9))


POLICIES = {
    "randaugment": lambda: v2.RandAugment(2, 9), "trivial": v2.TrivialAugmentWide, "autoaugment": v2.AutoAugment,
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_each_policy_equals_torchvisions_after_a_mirror_image(name: str) -> None:
    augment, policy, mirrored = conf(name).build(), POLICIES[name](), 0
    for seed in range(40):
        torch.manual_seed(seed)
        flip = bool(torch.rand(()) < 0.5)
        expected = np.asarray(policy(PIL.Image.fromarray(image()[:, ::-1].copy() if flip else image())))
        assert np.array_equal(augment(image(), seed), expected)
        mirrored += flip
    assert 10 < mirrored < 30


def built(name: str, **options: Any) -> Any:
    errors: list[str] = []
    component = augmentation.registry.check({"name": name, **options}, errors)
    assert component is not None, errors
    return component.build()


def test_a_policy_follows_its_parameters() -> None:
    def num_changed(name: str, **options: Any) -> int:
        augment = built(name, **options)
        return sum(not np.array_equal(augment(image(), seed), image()) for seed in range(30))

    assert num_changed("randaugment", num_ops=0, hflip=0.0) == 0
    assert num_changed("randaugment", num_ops=0, hflip=1.0) == 30
    assert num_changed("randaugment", num_ops=4, magnitude=30, hflip=0.0) > num_changed("randaugment", num_ops=1, hflip=0.0)
    sheets = {name: built("autoaugment", policy=name)(image(), 1).tobytes() for name in ("imagenet", "cifar10", "svhn")}
    assert len({*sheets.values()}) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "randaugment", "magnitude": 31}, "augmentation.magnitude (randaugment) must be at most 30, got 31"),
        ({"name": "randaugment", "num_ops": 1.5}, "augmentation.num_ops (randaugment): expected int, got 1.5"),
        ({"name": "autoaugment", "policy": "imagnet"}, "did you mean 'imagenet'?"),
        ({"name": "trivial", "magnitude": 3}, "unknown parameter 'magnitude' of augmentation=trivial"),
    ],
)
def test_a_wrong_parameter_of_a_policy_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    errors: list[str] = []
    assert augmentation.registry.check(options, errors) is None
    assert len(errors) == 1 and sentence in errors[0]


@pytest.mark.parametrize("name", ["albumentations", *POLICIES])
def test_random_erasing_fills_one_box_with_noise_in_its_share_of_the_images(name: str) -> None:
    options = {"transforms": {}} if name == "albumentations" else {"hflip": 0.0}
    with_it, without = built(name, erasing=0.5, **options), built(name, **options)
    plain, erased = np.full((64, 48, 3), 90, np.uint8), 0
    for seed in range(40):
        changed = (with_it(plain, seed) != without(plain, seed)).any(2)
        assert np.array_equal(with_it(plain, seed), with_it(plain, seed))
        rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
        if len(rows):
            box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.mean() > 0.95 and 0.01 < box.size / changed.size < 0.36
            erased += 1
    assert 10 < erased < 30


@pytest.mark.parametrize("name", POLICIES)
def test_the_training_steps_random_numbers_do_not_move(name: str) -> None:
    augment, state = built(name), torch.get_rng_state()
    augment(image(), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_global_random_states_neither_matter_nor_move() -> None:
    augment = conf("heavy").build()
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first = augment(image(), 5)
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(1)
    assert np.array_equal(first, augment(image(), 5))


def test_transforms_can_be_nested_and_are_applied_in_order() -> None:
    both = {"Transpose": {"p": 1}, "HorizontalFlip": {"p": 1}}
    expected = cv2.flip(cv2.transpose(image()), 1)
    assert np.array_equal(albumentations_(transforms=both)(image(), 0), expected)
    nested = albumentations_(transforms={"Sequential": {"transforms": both, "p": 1}})
    assert np.array_equal(nested(image(), 0), expected)
    assert np.array_equal(albumentations_(transforms={"HorizontalFlip": {"p": 1}}, p=0.0)(image(), 0), image())


@pytest.mark.parametrize(
    ("transforms", "sentence"),
    [
        ({"HorizontalFlp": {}}, "unknown albumentations transform 'HorizontalFlp', did you mean 'HorizontalFlip'?"),
        ({"HorizontalFlip": {"pp": 1}}, "unknown argument 'pp' of HorizontalFlip, did you mean 'p'?"),
        (
            {"RandomBrightnessContrast": {"brightness_limt": 0.1}},
            "unknown argument 'brightness_limt' of RandomBrightnessContrast, did you mean 'brightness_limit'?",
        ),
        ({"HorizontalFlip": {"p": 2}}, "HorizontalFlip: "),
        ({"RandomBrightnessContrast": {"brightness_limit": "high"}}, "RandomBrightnessContrast: "),
        ({"GaussianBlur": {"blur_limit": [3, "x"]}}, "GaussianBlur: "),
        ({"OneOf": {"transforms": {"Blurr": {}}}}, "unknown albumentations transform 'Blurr', did you mean 'Blur'?"),
        ({"OneOf": {"p": 0.5}}, "OneOf: "),
        ({"Normalize": {"mean": [0, 0, 0]}}, "Normalize is not needed. Remove it: images are normalized on the device"),
        ({"ToTensorV2": None}, "ToTensorV2 is not needed. Remove it: the loader converts images to tensors"),
        ({"OneOf": {"transforms": {"Normalize": {}}}}, "Normalize is not needed"),
        ({"HorizontalFlip": 0.5}, "HorizontalFlip"),
        ({"HorizontalFlip": ["p"]}, "HorizontalFlip"),
        ({"OneOf": {"transforms": "HorizontalFlip"}}, "expected a mapping of transforms"),
    ],
)  # fmt: skip
def test_a_wrong_name_argument_or_value_is_a_sentence(transforms: dict[str, Any], sentence: str) -> None:
    faults: list[str] = []
    assert augmentation.registry.check({"name": "albumentations", "transforms": transforms}, faults) is None
    (found,) = faults
    assert found.startswith("augmentation.transforms (albumentations): ") and sentence in found


def test_a_transform_without_arguments_may_stand_alone() -> None:
    faults: list[str] = []
    word = augmentation.registry.check({"name": "albumentations", "transforms": {"VerticalFlip": None}}, faults)
    assert word is not None and not faults
    assert {word.build()(image(), seed).tobytes() for seed in range(20)} == {
        image().tobytes(),
        cv2.flip(image(), 0).tobytes(),
    }


@pytest.mark.parametrize("p", [-0.1, 1.5, "high"])
def test_the_pipelines_own_p_is_a_probability(p: Any) -> None:
    faults: list[str] = []
    assert augmentation.registry.check({"name": "albumentations", "transforms": {}, "p": p}, faults) is None
    assert len(faults) == 1 and faults[0].startswith("augmentation.p (albumentations)")


def test_random_erasing_does_not_depend_on_the_mirror_image() -> None:
    augment = built("albumentations", erasing=0.5, transforms={"HorizontalFlip": {"p": 0.5}})
    image = np.zeros((64, 48, 3), np.uint8)
    image[:, 24:] = 255
    groups = Counter()
    for seed in range(80):
        after = augment(image, seed)
        is_erased = bool(np.any((after != 0) & (after != 255)))
        groups[bool(after[:, 24:].mean() < after[:, :24].mean()), is_erased] += 1
    assert min(groups[is_mirrored, is_erased] for is_mirrored in (True, False) for is_erased in (True, False)) > 8
