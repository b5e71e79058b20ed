"""Extra training data: rows from file names or a table, without duplicates, never scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from maskcls.components import data, extra
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError

NAMES = [
    "25_0_2_1.jpg",
    "61_1_0_2.jpg",
    "60_f_3.jpg",
    "x_0_1.jpg",
    "70_9_1.jpg",
    "130_0_1.jpg",
    "58_1_1.png",
    "._58_1_1.png",
]


def image(path: Path, value: int) -> None:
    """Write a photo that no other one equals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 6, 3), value, np.uint8))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder of photos with names of UTKFace's form, good and bad."""
    for i, name in enumerate(NAMES):
        image(tmp_path / "faces" / ("deep" if i % 2 else "") / name, 10 * i)
    return tmp_path / "faces"


@pytest.fixture
def table(people: Path) -> pd.DataFrame:
    """Return the tiny set's table."""
    return data.competition(lambda text: None, root=str(people), task=MASK18)


def test_a_folder_is_read_by_the_names_of_its_files(outside: Path, table: pd.DataFrame) -> None:
    notes: list[str] = []
    got = extra.folder(table, notes.append, root=str(outside), task=MASK18)
    new = got.iloc[len(table) :].set_index("id")
    assert list(new.index) == ["extra/25_0_2_1.jpg", "extra/58_1_1.png", "extra/deep/61_1_0_2.jpg"]
    assert list(new["label"]) == [12, 16, 17] and list(new["age"]) == [25, 58, 61]
    assert set(new["part"]) == {"extra"} and (new["person"] == new.index).all()
    assert notes == [
        f"extra: 4 images below {outside} do not match '{{age}}_{{gender}}_*' and were left out",
        f"extra: 3 images of {outside} were added; 0 copies of other images were left out",
    ]
    pd.testing.assert_frame_equal(got.iloc[: len(table)], table)


def test_ages_genders_mask_and_person_are_as_asked(outside: Path, table: pd.DataFrame) -> None:
    words = {"0": "female", "1": "male", "f": "female"}
    new = extra.folder(
        table, print, root=str(outside), genders=words, mask="worn", ages=[58, 60.5], pattern="{age}_{gender}_{person}", task=MASK18,
    ).iloc[len(table) :]
    assert (
        list(new["age"]) == [58, 60] and list(new["label"]) == [1, 5] and list(new["person"]) == ["extra/1", "extra/3"]
    )
    with pytest.raises(DataError, match=r"none of the 7 images in .* matches extra\.pattern and extra\.ages\. Change one"):
        extra.folder(table, print, root=str(outside), ages=[90, 99], task=MASK18)


def test_copies_are_left_out_and_counted(outside: Path, table: pd.DataFrame) -> None:
    shutil.copy(table["path"][0], outside / "30_0_copy.jpg")  # of a training photo
    shutil.copy(table.loc[table["part"] == "eval", "path"].iloc[0], outside / "30_1_copy.jpg")  # of an evaluation photo
    shutil.copy(outside / "25_0_2_1.jpg", outside / "26_0_twice.jpg")  # of one another
    notes: list[str] = []
    new = extra.folder(table, notes.append, root=str(outside), task=MASK18).iloc[len(table) :]
    assert len(new) == 3 and notes[-1].endswith(
        f"3 images of {outside} were added; 3 copies of other images were left out"
    )


def test_a_table_is_read_and_all_of_it_is_extra(outside: Path, table: pd.DataFrame) -> None:
    lines = [
        "path,mask,gender,age,part",
        "25_0_2_1.jpg,none,male,25,train",
        "deep/61_1_0_2.jpg,incorrect,female,61,eval",
    ]
    (outside / "more.csv").write_text("\n".join(lines))
    new = extra.table_(table, print, file=str(outside / "more.csv"), task=MASK18).iloc[len(table) :]
    assert list(new["label"]) == [12, 11] and set(new["part"]) == {"extra"}
    other = shutil.copytree(outside, outside.parent / "other")
    for name in ("25_0_2_1.jpg", "deep/61_1_0_2.jpg"):
        image(other / name, 200 + len(name))
    with pytest.raises(DataError, match=r"'extra/25_0_2_1\.jpg' is already in the data"):
        extra.table_(pd.concat([table, new]), print, file=str(other / "more.csv"), task=MASK18)


def test_nothing_is_added_by_none(table: pd.DataFrame) -> None:
    assert extra.none(table, print) is table


def test_wrong_values_are_told(tmp_path: Path) -> None:
    faults: list[str] = []
    root = str(tmp_path)
    extra.registry.check({"name": "folder", "root": root, "pattern": "{age}_*"}, faults, task=MASK18)
    extra.registry.check({"name": "folder", "root": root, "pattern": "{age}_{sex}_*"}, faults, task=MASK18)
    extra.registry.check({"name": "folder", "root": root, "ages": [60, 50]}, faults, task=MASK18)
    extra.registry.check({"name": "folder", "root": root + "/no"}, faults, task=MASK18)
    extra.registry.check({"name": "folder", "root": root, "genders": {"0": "mal"}}, faults, task=MASK18)
    extra.registry.check({"name": "table", "file": root}, faults, task=MASK18)
    assert faults == [
        "extra.pattern (folder): expected a pattern with {age} and {gender} once each, got '{age}_*'",
        "extra.pattern (folder): unknown field 'sex', expected one of age, gender, person",
        "extra.ages (folder): expected [youngest, oldest], got [60, 50]",
        f"extra.root (folder): expected an existing folder, got '{root}/no'",
        "extra.genders (folder): unknown value 'mal', did you mean 'male'?",
        f"extra.file (table): expected an existing file, got '{root}'",
    ]
    assert extra.registry.check({"name": "folder", "root": root, "ages": [55, 60]}, faults, task=MASK18) is not None
