"""Images as a caller passes them: what is accepted is one array, what is not has its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskcls.core.errors import DataError
from maskcls.inference.image_inputs import as_image, list_inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)


def test_one_image_a_batch_and_any_iterable_are_lists_of_images() -> None:
    batch = np.stack([PIXELS, PIXELS[::-1]])
    for images in (batch, list(batch), iter(batch), torch.from_numpy(batch)):
        assert [as_image(image, 0).tolist() for image in list_inputs(images)] == batch.tolist()
    for image in (PIXELS, Image.fromarray(PIXELS)):
        (only,) = list_inputs(image)
        np.testing.assert_array_equal(as_image(only, 0), PIXELS)
    assert list_inputs("a.jpg") == ["a.jpg"] and list_inputs([]) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_a_pil_image_is_what_its_file_is_read_as(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(file)
    np.testing.assert_array_equal(as_image(image, 0), as_image(file, 0))


def test_a_pil_image_is_turned_upright_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    upright = as_image(Image.open(tmp_path / "a.png"), 0)
    assert upright.shape == (5, 6, 3)
    np.testing.assert_array_equal(upright, as_image(tmp_path / "a.png", 0))


WRONG: dict[str, tuple[Any, str]] = {
    "float": (PIXELS / 255, "got float64 of shape (6, 5, 3). Scale it to 0 … 255 and convert: image.astype('uint8')"),
    "channels first": (PIXELS.transpose(2, 0, 1), "shape (3, 6, 5). Move the channels: image.transpose(1, 2, 0)"),
    "gray": (PIXELS[:, :, 0], "shape (6, 5). Repeat gray values: np.stack([image] * 3, axis=2)"),
    "alpha": (np.zeros((6, 4, 4), np.uint8), "Remove the alpha channel: image[..., :3]"),
    "batch": (PIXELS[None], "Pass a batch by itself, not in a list"),
    "empty": (PIXELS[:0], "got uint8 of shape (0, 5, 3)"),
    "none": (None, "expected a path, a PIL image or a uint8 RGB array (H, W, 3), got NoneType"),
    "number": (3, "got int"),
    "missing": ("nowhere.jpg", "nowhere.jpg does not exist"),
    "folder": (".", "is a folder. Pass its files"),
    "16 bits": (Image.fromarray(PIXELS[:, :, 0].astype(np.uint16)), "PIL image of mode I;16. Convert it"),
}


@pytest.mark.parametrize("what", WRONG)
def test_any_other_value_is_named_with_its_position_and_remedy(what: str) -> None:
    image, sentence = WRONG[what]
    with pytest.raises(DataError) as caught:
        as_image(image, 7)
    assert str(caught.value).startswith("image 7: ") and sentence in str(caught.value)


@pytest.mark.parametrize("images", [3, None, 1.5])
def test_what_is_not_a_list_is_refused(images: Any) -> None:
    with pytest.raises(DataError, match="expected a list of images, got"):
        list_inputs(images)


def test_a_broken_pil_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.tile(PIXELS, (40, 40, 1))).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2000])
    with Image.open(tmp_path / "a.jpg") as image, pytest.raises(DataError, match=r"image 0: cannot be decoded"):
        as_image(image, 0)
