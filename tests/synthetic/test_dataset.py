"""Holds the embedded set to the competition's layout and the drawn masks to the places they may change."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskcls.components.data import synthetic_dir
from maskcls.imaging.face_masks import STYLES, draw_mask, sample_mask
from maskcls.imaging.landmarks import Landmarks
from maskcls.synthetic.appearance import sample_identity, sample_shot
from maskcls.synthetic.dataset import DRAWING_VERSION, Person, render_person, sample_population, write
from maskcls.synthetic.portrait import apply_camera, portrait

MEANS = [144.9, 139.3, 104.0, 139.4]  # grey levels of four people in this version
STEMS = {"mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal"}


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def digest(root: Path) -> dict[str, str]:
    return {str(f.relative_to(root)): hashlib.sha1(f.read_bytes()).hexdigest() for f in root.rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("set") / "drawn"
    write(target, people=30, eval_people=8, height=64, width=48, seed=3, workers=1)
    return target


def test_train_layout(root: Path) -> None:
    rows = read(root / "train" / "train.csv")
    assert list(rows[0]) == ["id", "gender", "race", "age", "path"] and len(rows) == 30
    assert all(re.fullmatch(r"\d{6}", r["id"]) and r["race"] == "Asian" for r in rows)
    assert all(r["path"] == f"{r['id']}_{r['gender']}_Asian_{r['age']}" and 18 <= int(r["age"]) <= 60 for r in rows)
    folders = {f.name: f for f in (root / "train" / "images").iterdir()}
    assert set(folders) == {r["path"] for r in rows}
    for folder in folders.values():
        photos = [f for f in folder.iterdir() if not f.name.startswith(".")]
        assert {f.stem for f in photos} == STEMS and len(photos) == 7
        assert all(cv2.imread(str(f)).shape == (64, 48, 3) for f in photos)


def test_endings_are_mixed_and_junk_lies_among_them(root: Path) -> None:
    files = [f for f in (root / "train" / "images").rglob("*") if f.is_file()]
    endings = [f.suffix for f in files if not f.name.startswith("._")]
    assert set(endings) == {".jpg", ".png", ".jpeg"} and endings.count(".jpg") > 0.8 * len(endings)
    junk = [f for f in files if f.name.startswith("._mask1.")]
    assert junk and all(cv2.imread(str(f)) is None for f in junk)


def test_eval_layout(root: Path) -> None:
    info, labels = read(root / "eval" / "info.csv"), read(root / "eval" / "labels.csv")
    assert list(info[0]) == ["ImageID", "ans"] and {r["ans"] for r in info} == {"0"}
    assert list(labels[0]) == ["ImageID", "ans", "gender", "age", "path"]
    assert [r["ImageID"] for r in info] == [r["ImageID"] for r in labels]
    assert {f.name for f in (root / "eval" / "images").iterdir()} == {r["ImageID"] for r in info}
    assert len(info) == 56 and all(re.fullmatch(r"[0-9a-f]{40}\.jpg", r["ImageID"]) for r in info)


def test_labels_agree_with_the_people(root: Path) -> None:
    persons: dict[str, list[int]] = {}
    for row in read(root / "eval" / "labels.csv"):
        _, gender, _, age = row["path"].split("_")
        assert (row["gender"], row["age"]) == (gender, age)
        answer = int(row["ans"])
        assert answer % 6 == (gender == "female") * 3 + (int(age) >= 30) + (int(age) >= 60)
        persons.setdefault(row["path"], []).append(answer // 6)
    assert all(sorted(masks) == [0, 0, 0, 0, 0, 1, 2] for masks in persons.values())
    assert not set(persons) & {r["path"] for r in read(root / "train" / "train.csv")}


@pytest.mark.parametrize(("count", "least", "eval_least"), [(30, 5, 1), (120, 5, 2), (2700, 83, 2)])
def test_every_group_occurs(count: int, least: int, eval_least: int) -> None:
    trained, evaluated = sample_population(count, max(10, count // 3), 0)
    assert len(trained) == count
    assert min(np.bincount([p.group for p in trained], minlength=6)) >= least
    assert min(np.bincount([p.group for p in evaluated], minlength=6)) >= eval_least
    assert len({p.id for p in trained + evaluated}) == len(trained + evaluated)


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 29, 31])
def test_any_number_of_people_works(count: int) -> None:
    trained, evaluated = sample_population(count, 0, 1)
    assert len(trained) == count and not evaluated
    assert count < 6 or len({p.group for p in trained}) == 6


@pytest.mark.parametrize(("people", "others"), [(0, 3), (4, -1)])
def test_a_number_of_people_that_cannot_be_is_named(people: int, others: int) -> None:
    with pytest.raises(ValueError, match=f"expected people ≥ 1 and eval_people ≥ 0, got {people} and {others}"):
        sample_population(people, others, 1)


def test_shares_are_the_competitions() -> None:
    counts = np.bincount([p.group for p in sample_population(2700, 900, 5)[0]], minlength=6)
    assert counts.tolist() == [549, 410, 83, 732, 817, 109]


def test_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    size = {"people": 6, "eval_people": 2, "height": 64, "width": 48}
    (tmp_path / ".two.part" / "train").mkdir(parents=True)  # as a killed run leaves it
    (tmp_path / ".two.part" / "train" / "old.jpg").write_text("half a set")
    write(tmp_path / "one", workers=1, **size)
    write(tmp_path / "two", workers=2, **size)
    write(tmp_path / "other", workers=1, seed=1, **size)
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "other")
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(FileExistsError, match=r"is not empty\. Choose another folder"):
        write(tmp_path / "one", **size)


def test_a_broken_write_leaves_no_set(tmp_path: Path) -> None:
    def stop(items: object, total: int) -> list[None]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", people=2, eval_people=1, height=64, width=48, track=stop)
    assert not (tmp_path / "set").exists()
    seen: list[int] = []
    write(
        tmp_path / "set",
        people=2,
        eval_people=1,
        height=64,
        width=48,
        track=lambda items, total: (seen.append(total) or item for item in items),
    )
    assert seen == [3, 3, 3] and (tmp_path / "set" / "train" / "train.csv").exists()


def test_a_change_of_the_pixels_is_another_version() -> None:
    people = [Person("1", gender, age, (0, 1 + age)) for gender, age in ((0, 21), (1, 44), (0, 60), (1, 60))]
    means = [np.mean([image.mean() for _, image in render_person(person, 64, 48)]) for person in people]
    assert DRAWING_VERSION == 2 and means == pytest.approx(MEANS, abs=0.25)
    assert synthetic_dir("data", 30, 8, 64, 48, 3).name == "people-30+8-64x48-seed3-v2"


def sitting(seed: int) -> tuple[np.ndarray, Landmarks]:
    rng = np.random.default_rng(seed)
    who = sample_identity(rng, seed % 2, 20 + seed % 41)
    return portrait(who, sample_shot(rng, who), 128, 96)


@pytest.mark.parametrize("style", STYLES)
def test_a_mask_changes_only_what_it_should(style: str) -> None:
    for seed in range(6):
        image, at = sitting(seed)
        before, rng = image.copy(), np.random.default_rng(seed)
        masked = draw_mask(image, at, sample_mask(rng), style, rng)
        assert np.array_equal(image, before) and masked.dtype == np.uint8 and masked.shape == image.shape
        changed = (masked != image).any(2)
        eyes, chin = int(min(at.left_eye[1], at.right_eye[1])), at.chin
        assert chin is not None and not changed[: eyes - 2].any()
        assert 0.01 < changed.mean() < 0.4
        nose = changed[int(at.nose[1]), int(at.nose[0])]
        lips = changed[int((at.left_mouth[1] + at.right_mouth[1]) / 2), int((at.left_mouth[0] + at.right_mouth[0]) / 2)]
        assert (nose, lips) == {
            "worn": (True, True),
            "nose": (False, True),
            "chin": (False, False),
            "ear": (False, False),
        }[style]


def test_styles_differ_and_the_chin_is_estimated() -> None:
    image, at = sitting(1)
    five = Landmarks(at.left_eye, at.right_eye, at.nose, at.left_mouth, at.right_mouth)
    look = sample_mask(np.random.default_rng(0))
    drawn = [draw_mask(image, at, look, style, np.random.default_rng(0)) for style in STYLES]
    drawn.append(draw_mask(image, five, look, "worn", np.random.default_rng(0)))
    assert len({d.tobytes() for d in drawn}) == 5


def test_a_mask_takes_the_light_of_the_face() -> None:
    image, at = sitting(2)
    fall = np.linspace(0.4, 1.2, image.shape[1])[None, :, None]
    lit = np.clip(image * fall, 0, 255).astype(np.uint8)
    look = sample_mask(np.random.default_rng(4))
    masked = draw_mask(lit, at, look, "worn", np.random.default_rng(0)).astype(float)
    y, x = int((at.nose[1] + at.left_mouth[1]) / 2), int(at.nose[0])
    assert masked[y - 3 : y + 3, x - 16 : x - 8].mean() < 0.9 * masked[y - 3 : y + 3, x + 8 : x + 16].mean()


def test_people_differ_more_than_photos_of_one() -> None:
    def photos(seed: int) -> list[np.ndarray]:
        person = Person("000001", seed % 2, 30, (seed,))
        return [image.astype(float) for _, image in render_person(person, 64, 48)]

    sets = [photos(seed) for seed in range(6)]
    within = np.mean([np.abs(a[0] - a[6]).mean() for a in sets])
    between = np.mean([np.abs(a[0] - b[0]).mean() for a in sets for b in sets if a is not b])
    assert between > 1.3 * within > 0


def test_the_camera_leaves_size_and_type() -> None:
    rng = np.random.default_rng(0)
    who = sample_identity(rng, 1, 60)
    shot = sample_shot(rng, who)
    image, _ = portrait(who, shot, 65, 47)
    assert apply_camera(image, shot).shape == (65, 47, 3) and apply_camera(image, shot).dtype == np.uint8
