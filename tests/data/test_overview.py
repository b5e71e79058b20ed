"""The overview of a data set: counts that are right, doubles, unusable images, and the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from audited_people import audited_groups
from made_tasks import each_task

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.data import image_facts, overview
from maskcls.data.overview import (
    Overview,
    count_classes,
    count_numbers,
    count_parts,
    describe_counts,
    find_doubles,
    survey,
)


def photo(path: Path, seed: int, *options: int, size: tuple[int, int] = (20, 16)) -> None:
    """Write a photo of noise; `options` are those of cv2.imwrite."""
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels, options)


ROWS = [
    ("a.png", "p", "worn", "male", 20, "train"), ("b.png", "p", "none", "male", 20, "train"),
    ("same_bytes.png", "q", "worn", "male", 21, "train"), ("same_pixels.png", "q", "worn", "male", 21, "train"),
    ("other.jpg", "r", "incorrect", "female", 64, "train"), ("png.jpg", "r", "none", "female", 64, "train"),
    ("evaluated.png", "s", "none", "male", 20, "eval"), ("broken.png", "s", "none", "male", 20, "eval"), ("lost.png", "s", "none", "male", 20, "eval"),
]  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Return a CSV of nine photos: a twice in bytes and once more in pixels, b also in the evaluation set, two unusable."""
    photo(tmp_path / "a.png", 0)
    photo(tmp_path / "b.png", 1)
    photo(tmp_path / "other.jpg", 2, size=(30, 16))
    photo(tmp_path / "png.png", 3)
    (tmp_path / "png.png").rename(tmp_path / "png.jpg")
    shutil.copy(tmp_path / "a.png", tmp_path / "same_bytes.png")
    photo(tmp_path / "same_pixels.png", 0, cv2.IMWRITE_PNG_COMPRESSION, 9)
    assert (tmp_path / "same_pixels.png").read_bytes() != (tmp_path / "a.png").read_bytes()
    shutil.copy(tmp_path / "b.png", tmp_path / "evaluated.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    pd.DataFrame(ROWS, columns=["path", "person", "mask", "gender", "age", "part"]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def words(file: Path) -> list[str]:
    return ["name=t", "data=table", f"data.file={file}", f"cache_dir={file.parent}/cache"]


@pytest.fixture
def seen(mine: Path) -> Overview:
    return survey(validate(compose(*words(mine))), lambda text: None)


def test_counts_are_those_of_the_table(seen: Overview) -> None:
    usable = seen.usable
    assert count_parts(usable) == [["training", "6", "3", "2"], ["evaluation", "1", "1", "1"]]
    counts = count_classes(usable, MASK18)
    assert counts["train"].sum() == 6 and counts["eval"].tolist() == [0] * 12 + [1] + [0] * 5
    assert {name: n for name, n in zip(MASK18.classes, counts["train"], strict=True) if n} == {
        "worn male <30": 3, "none male <30": 1, "incorrect female >=60": 1, "none female >=60": 1
    }  # fmt: skip
    assert counts["people"][0] == 2 and counts["share"][0] == 0.5
    ages = count_numbers(usable, MASK18)
    assert ages[0] == ("20–24", 2) and ages[-1] == ("60–64", 1) and sum(count for _, count in ages) == 3
    assert overview.describe_sizes(usable) == "20 × 16 (6), 30 × 16 (1)"
    assert overview.describe_formats(usable) == "PNG (6), JPEG (1); 1 have the suffix of another format, such as png.jpg"


def test_doubles_are_found_by_bytes_and_by_pixels(seen: Overview) -> None:
    (first, one), (second, other) = sorted(find_doubles(seen.usable), key=lambda pair: len(pair[1]), reverse=True)
    assert first == "same pixels, 2 people" and one["id"].tolist() == ["a.png", "same_bytes.png", "same_pixels.png"]
    assert second == "same bytes, 2 people, in training and evaluation" and set(other["id"]) == {"b.png", "evaluated.png"}


def test_unusable_and_missing_photos_are_listed(seen: Overview) -> None:
    (bad,) = seen.rows[seen.rows["error"].notna()].to_dict("records")
    assert bad["id"] == "broken.png" and "truncated" in bad["error"]
    (message,) = seen.missing
    assert "line 10: file " in message and message.endswith("lost.png does not exist")


def test_photos_are_read_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = validate(compose(*words(mine)))
    first = survey(cfg, lambda text: None).rows
    read = []
    plain = image_facts.read_facts
    monkeypatch.setattr(image_facts, "read_facts", lambda path: (read.append(Path(path).name), plain(path))[1])
    photo(mine.parent / "b.png", 7)
    second = survey(cfg, lambda text: None).rows
    assert sorted(read) == ["b.png", "broken.png"]
    assert second["pixels"].tolist() != first["pixels"].tolist() and second["height"].tolist() == first["height"].tolist()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [([7, 7], "7"), ([7, 7, 1], "7 (2 people), 1 (1 people)"), ([1, 2, 3, 4, 9], "1 to 9, median 3")],
)
def test_images_per_person_are_told_in_short(sizes: list[int], text: str) -> None:
    assert describe_counts(pd.Series(sizes)) == text


@each_task
def test_classes_and_numbers_of_any_task_are_counted(task: Task) -> None:
    table, _ = audited_groups(task, 30)
    rows = table.assign(part="train")
    counts = count_classes(rows, task)
    assert counts["train"].sum() == 150 and counts["people"].sum() == 30 and counts["name"].tolist() == list(task.classes)
    numbers = count_numbers(rows, task)
    assert (numbers == []) == (task.number is None) and sum(count for _, count in numbers) in (0, 30)


@pytest.mark.parametrize(
    ("borders", "numbers", "bins"),
    [((30, 60), [18, 29, 45], ["15–19", "20–24", "25–29", "30–34", "35–39", "40–44", "45–49"]), ((0.3, 0.6), [0.31, 0.42], ["0.3 to < 0.35", "0.35 to < 0.4", "0.4 to < 0.45"]),
     ((10,), [7.0, 7.0], ["6–7"]), ((-30, 30), [-15, -2], ["-20 to < -10", "-10 to < 0"]), ((6, 12), [3, 4], ["3", "4"])],
)  # fmt: skip
def test_bins_are_as_wide_as_the_borders_ask_for(borders: tuple[float, ...], numbers: list[float], bins: list[str]) -> None:
    task = Task((Attribute("a", tuple("abc"[: len(borders) + 1]), "n", borders, borders),))
    rows = pd.DataFrame({"part": "train", "person": range(len(numbers)), "n": numbers})
    assert [name for name, _ in count_numbers(rows, task)] == bins


def test_a_number_far_off_makes_no_thousands_of_bins() -> None:
    rows = pd.DataFrame({"part": "train", "person": range(3), "age": [20, 30, 1e9]})
    assert len(count_numbers(rows, MASK18)) <= overview.MAX_BINS + 1
