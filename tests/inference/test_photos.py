"""The images of photos=: each once, however it is named, and with its label wherever that is written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.inference.photos import list_photos


def test_an_image_named_twice_is_one_row_with_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        cv2.imwrite(name, np.zeros((8, 6, 3), np.uint8))
    Path("labels.csv").write_text("path,label,person\nb.jpg,4,p\n")
    table = list_photos([".", str(tmp_path), "labels.csv"], MASK18)
    assert sorted(zip(table["path"].map(lambda path: Path(path).name), table["label"], strict=True)) == [
        ("a.jpg", -1), ("b.jpg", 4), ("c.jpg", -1),
    ]  # fmt: skip
    assert table["id"].is_unique and table.set_index("id").loc["b.jpg", "person"] == "p"
    assert list_photos(["labels.csv", "b.jpg", "a.jpg"], MASK18)["id"].tolist() == ["b.jpg", "a.jpg"], "in their order"


LABELLED = {
    "a class": ("path,label", "a.jpg,4"),
    "attributes": ("path,mask,gender,age", "a.jpg,worn,F,30"),
    "a part of its own": ("path,label,part", "a.jpg,4,val"),
    "a split of its own": ("path,label,split", "a.jpg,4,val"),
    "a person": ("path,label,person", "a.jpg,4,p"),
    "an id of each image": ("path,label,id", "a.jpg,4,7"),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_are_read_without_remarks_on_training(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("elsewhere").mkdir()
    cv2.imwrite("elsewhere/a.jpg", np.zeros((8, 6, 3), np.uint8))
    Path("mine").mkdir()
    Path("mine/a.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    Path("mine/labels.csv").write_text("\n".join(LABELLED[kind]))
    assert list_photos(["mine/labels.csv"], MASK18)["label"].tolist() == [4]
    shown = capsys.readouterr().out
    assert not any(word in shown for word in ("LEAK", "leak", "fold", "training", "outside")), shown


@pytest.mark.parametrize(
    ("header", "cells"),
    [("path,mask,gender,age", "a.jpg,0,male,30"), ("path,mask,gender,age", "a.jpg,xyz,male,30"), ("path,target", "a.jpg,1"),
     ("path,mask,gender,age", "a.jpg,worn,xyz,30"), ("path,label", "a.jpg,worn"), ("path,mask,sex,gender,age", "a.jpg,worn,F,x,3")],
)  # fmt: skip
def test_an_error_names_no_option_that_predict_lacks(
    header: str, cells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.jpg", np.zeros((8, 6, 3), np.uint8))
    Path("labels.csv").write_text(f"{header}\n{cells}\n")
    with pytest.raises(DataError) as caught:
        list_photos(["labels.csv"], MASK18)
    assert ".columns" not in str(caught.value) and ".values" not in str(caught.value)
