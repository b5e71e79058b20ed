"""Mask overlay: person, labels and caching of images with drawn masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from maskcls.components import data, overlay
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, DataError
from maskcls.imaging.face_detection import detectors
from maskcls.imaging.face_masks import MaskAppearance, draw_mask, sample_mask
from maskcls.imaging.landmarks import Landmarks


@pytest.fixture
def table(people: Path) -> pd.DataFrame:
    """Return the tiny set's table as it is after the split, with a column of a plug-in."""
    table = data.competition(lambda text: None, root=str(people), task=MASK18).head(35)
    return table.assign(fold=np.arange(35) // 7 % 2, scored=True, trained=True, mine="x")


def test_a_bare_face_gets_rows_with_masks(table: pd.DataFrame, tmp_path: Path) -> None:
    notes: list[str] = []
    got = overlay.masks(table, notes.append, tmp_path, of="train", worn=2, incorrect=1, task=MASK18)
    pd.testing.assert_frame_equal(got.head(35), table)
    new, bare = got.iloc[35:], table[table["mask"] == 2]
    assert len(bare) == 5 and len(new) == 15 and notes == [
        "overlay: 15 images were drawn from 5 bare faces; mtcnn found no face in 0 images"
    ]  # fmt: skip
    assert list(new["mask"]) == [0] * 10 + [1] * 5 and list(new["label"]) == [
        label - 12 + 6 * mask for mask, label in zip(new["mask"], [*bare["label"]] * 3, strict=True)
    ]  # fmt: skip
    assert set(new["part"]) == {"extra"} and not new["scored"].any() and got["scored"].dtype == bool
    for column in ("person", "gender", "age", "fold", "trained", "mine"):
        assert list(new[column]) == [*bare[column]] * 3
    assert new["id"].is_unique and new["id"].iloc[0] == f"overlay/{bare['id'].iloc[0]}/worn0"
    for path, source in zip(new["path"], [*bare["path"]] * 3, strict=True):
        drawn, plain = (cv2.imread(name).astype(int) for name in (path, source))
        assert drawn.shape == plain.shape and 0.02 < (np.abs(drawn - plain).max(2) > 40).mean() < 0.6


def test_bare_versions_are_no_masks(table: pd.DataFrame, tmp_path: Path) -> None:
    got = overlay.masks(table, print, tmp_path, of="train", worn=0, incorrect=1, bare=2, task=MASK18).iloc[35:]
    assert list(got["mask"]) == [1] * 5 + [2] * 10 and not got["scored"].any()
    assert list(got["label"].iloc[5:]) == [*table.loc[table["mask"] == 2, "label"]] * 2


def test_drawn_masks_replace_those_of_the_data_in_training_only(table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[table.index[table["mask"] == 2][0], "trained"] = False  # as labels leave out an age
    got = overlay.masks(table, print, tmp_path, of="train", replace=True, task=MASK18)
    own, drawn = got.head(35), got.iloc[35:]
    assert (own["trained"] == ((table["mask"] == 2) & table["trained"])).all() and own["trained"].sum() == 4
    pd.testing.assert_frame_equal(own.drop(columns="trained"), table.drop(columns="trained"))
    assert len(drawn) == 10 and drawn["trained"].sum() == 8


def test_masks_are_drawn_once_and_are_the_same_when_drawn_again(table: pd.DataFrame, tmp_path: Path) -> None:
    one, again, other, seed = (
        overlay.masks(table, print, tmp_path / place, of="train", seed=seed, task=MASK18)
        for place, seed in (("a", 0), ("a", 0), ("b", 0), ("b", 1))
    )
    pd.testing.assert_frame_equal(one, again)
    bytes_ = [[Path(path).read_bytes() for path in got["path"].iloc[35:]] for got in (one, other, seed)]
    assert bytes_[0] == bytes_[1] != bytes_[2]
    assert len(list((tmp_path / "a" / "overlays").glob("[!.]*"))) == 1


def test_the_second_call_draws_nothing(table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = overlay.masks(table, print, tmp_path, of="train", task=MASK18)
    monkeypatch.setattr(overlay, "draw_masks", None)
    pd.testing.assert_frame_equal(overlay.masks(table, print, tmp_path, of="train", task=MASK18), got)


def test_photos_without_a_face_are_left_out_and_counted(table: pd.DataFrame, tmp_path: Path) -> None:
    for i, row in enumerate(table.index[table["mask"] == 2]):
        if i in (1, 2):
            table.loc[row, "path"] = str(tmp_path / f"{i}.png")
            cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((60, 60, 3), 90, np.uint8))
    notes: list[str] = []
    got = overlay.masks(table, notes.append, tmp_path, of="train", detector="retinaface", task=MASK18)
    assert len(got) == 35 + 2 * 3
    assert notes == ["overlay: 6 images were drawn from 3 bare faces; retinaface found no face in 2 images"]


def test_nothing_half_drawn_is_left_for_the_next_call(table: pd.DataFrame, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    table.loc[table.index[table["mask"] == 2][-1], "path"] = str(broken)
    with pytest.raises(DataError, match=r"broken.jpg cannot be read"):
        overlay.masks(table, print, tmp_path, of="train", task=MASK18)
    assert not [path for path in (tmp_path / "overlays").glob("[!.]*") if not path.name.endswith(".part")]


def test_of_extra_takes_outside_faces_only(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"overlay\.of=extra"):
        overlay.masks(table, print, tmp_path, task=MASK18)
    table.loc[table.index[table["mask"] == 2][:2], "part"] = "extra"
    assert len(overlay.masks(table, print, tmp_path, task=MASK18)) == 35 + 4
    assert overlay.none(table, print, tmp_path) is table


def test_a_mask_covers_mouth_and_nose_as_its_style_says() -> None:
    at = Landmarks((70, 80), (130, 80), (100, 115), (78, 145), (122, 145))
    photo = np.full((256, 200, 3), 120, np.uint8)
    for seed in range(20):
        for style in ("worn", "nose", "chin"):
            rng = np.random.default_rng(seed)
            look = MaskAppearance("surgical", (250, 250, 250), "plain", (0, 0, 0), (0, 0, 0))
            changed = np.abs(draw_mask(photo, at, look, style, rng).astype(int) - 120).max(2) > 30
            assert changed[115, 100] == (style == "worn") and changed[145, 100] == (style != "chin")
            assert changed[172, 100] and not changed[80, 70:130].any()


def test_a_mask_on_an_ear_can_be_seen() -> None:
    photo = np.full((200, 200, 3), 120, np.uint8)
    at = Landmarks((55, 70), (145, 70), (100, 120), (66, 150), (134, 150))  # fills the photo
    for seed in range(20):
        rng = np.random.default_rng(seed)
        changed = np.abs(draw_mask(photo, at, sample_mask(rng), "ear", rng).astype(int) - 120).max(2) > 8
        assert changed.mean() > 0.05 and not changed[150, 90:110].any()


def test_a_wrong_detector_is_told() -> None:
    faults: list[str] = []
    overlay.registry.check({"name": "masks", "detector": "retina"}, faults, task=MASK18)
    assert faults == ["overlay.detector (masks): unknown detector 'retina', did you mean 'retinaface'?"]
    assert set(detectors.builders) == {"mtcnn", "retinaface"}
