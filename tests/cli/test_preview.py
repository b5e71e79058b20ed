"""Contact sheets of augmented images: the pixels of the pipeline, beside the image."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskcls.cli import preview
from maskcls.cli.preview import augmented_versions
from maskcls.components.augmentation import trivial


def test_a_sheet_shows_the_image_and_its_augmented_versions(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sheet.png"
    words = ["augmentation=light", "augmentation.erasing=0.9", "crop=resize", "crop.height=40", "crop.width=30"]
    arguments = [f"source={people}/train/images", "match=*/normal.*", "images=2", *words, "columns=1", "size=40", f"out={out}"]
    monkeypatch.setattr(sys, "argv", ["preview", *arguments])
    preview.main()
    sheet = cv2.imread(str(out))
    assert sheet is not None and sheet.shape[1] > 6 * 30 and sheet.shape[0] >= 2 * 40


def test_the_versions_are_those_of_the_component() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    first, *others = augmented_versions("trivial", ["augmentation.hflip=0.0"], lambda image: [image], 7)(image)
    augment = trivial(hflip=0.0)
    assert np.array_equal(first, image) and len(others) == 4
    assert all(np.array_equal(found, augment(image, 7 + i)) for i, found in enumerate(others))
    assert len(augmented_versions("none", [], lambda image: [image], 0)(image)) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("augmentation=triv", "unknown augmentation 'triv', did you mean 'trivial'?"),
        ("augmentation=trivial augmentation.hflp=0.5", "unknown parameter 'hflp' of augmentation=trivial, did you mean 'hflip'?"),
        ("match=*/no.*", "matches match=*/no.*. Change match"), ("out=no/folder.png match=*/normal.*", "cannot write no/folder.png. Check its folder"),
        ("augmentation=trivial crop.margin=1", "unknown key 'crop.margin'. Set crop, too"),
    ],
)  # fmt: skip
def test_a_wrong_augmentation_is_a_sentence(
    words: str, sentence: str, people: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["preview", f"source={people}/train/images", *words.split()])
    with pytest.raises(SystemExit) as caught:
        preview.main()
    assert caught.value.code == 2 and sentence in capfd.readouterr().err
