"""What is taken for an image in folders and patterns, the same at each place, and what is left out is counted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from maskcls.components import data, extra
from maskcls.components.sources.competition_layout import MASK_BY_STEM
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.imaging.image_decoding import image_endings
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.imaging.image_io import inspect_image
from maskcls.inference.photos import list_photos

ENDINGS = sorted({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
OTHERS = {".txt": 2, ".mov": 1, ".heic": 1, "without a suffix": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a photo of each usual ending, in any case, among other files, junk and links."""
    base = tmp_path / "mine"
    (base / "deep" / "deeper").mkdir(parents=True)
    (base / ".hidden").mkdir()
    for i, ending in enumerate(ENDINGS):
        place = (base, base / "deep", base / "deep" / "deeper")[i % 3]
        kind = Image.registered_extensions()[ending]
        Image.new("RGB", (8, 6), (i * 20, 0, 0)).save(place / f"3{i}_0_x{ending.upper() if i % 2 else ending}", kind)
    for name in ("a.txt", "deep/b.TXT", "c.mov", "d.heic", "noending", "._30_0_x.jpg", ".DS_Store", ".hidden/e.jpg"):
        (base / name).write_bytes(b"nothing")
    return base


def test_all_usual_formats_are_read(folder: Path) -> None:
    assert set(ENDINGS) <= image_endings() and not image_endings() & {".txt", ".eps", ".mpg", ".h5", ".wmf", ".pdf"}
    images, left_out = find_images(folder)
    assert sorted(path.suffix.lower() for path in images) == ENDINGS and images == sorted(images)
    assert left_out == Counter(OTHERS) and not any(inspect_image(str(path)).error for path in images)


def test_what_is_left_out_is_said_by_ending() -> None:
    assert describe_left_out(Counter()) == ""
    assert describe_left_out(Counter({".txt": 1})) == "left out 1 file: 1 .txt"
    words = "left out 5 files: 2 .txt, 1 .heic, 1 .mov, 1 without a suffix (HEIC needs pip install pillow-heif)"
    assert describe_left_out(Counter(OTHERS)) == words


def test_folders_patterns_and_files_are_listed_alike(folder: Path, tmp_path: Path) -> None:
    images, left_out = find_images(folder)
    assert find_images(str(folder / "**" / "*")) == (images, left_out)
    assert find_images(folder / "a.txt") == ([folder / "a.txt"], Counter())  # it is named itself
    assert find_images(tmp_path / "nowhere") == ([], Counter())
    (folder / "deep" / "link").symlink_to(tmp_path)
    (folder / "dead.jpg").symlink_to(tmp_path / "nowhere")
    assert find_images(folder) == (images, left_out + Counter({"folder links": 1}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_sentence(folder: Path) -> None:
    (folder / "deep").chmod(0)
    with pytest.raises(DataError, match="deep cannot be read: Permission denied"):
        find_images(folder)


def test_predict_and_extra_take_the_same_photos_and_count_the_rest(
    folder: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = list(map(str, find_images(folder)[0]))
    said = describe_left_out(Counter(OTHERS))
    assert list(list_photos([str(folder)], task=MASK18)["path"]) == images
    assert f"photos: {folder}: {said}" in capsys.readouterr().out
    notes: list[str] = []
    table = data.competition(lambda text: None, root=str(people), task=MASK18)
    grown = extra.folder(table, notes.append, root=str(folder), task=MASK18)
    assert list(grown["path"].iloc[len(table) :]) == images and f"extra: {folder}: {said}" in notes
    (folder / "none").mkdir()
    (folder / "none" / "a.txt").touch()
    with pytest.raises(DataError, match=r"no images found at .*none': left out 1 file: 1 .txt"):
        list_photos([str(folder / "none")], task=MASK18)


def test_the_contact_sheet_takes_them_too(folder: Path, tmp_path: Path) -> None:
    call = [sys.executable, "-m", "maskcls", "preview", f"source={folder}", f"out={tmp_path / 'sheet.jpg'}"]
    shown = subprocess.run(call, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "300"})
    assert f"{len(ENDINGS)} images written to" in shown.stdout and "left out 5 files: 2 .txt" in shown.stdout


def test_a_persons_photos_may_have_any_ending(people: Path, tmp_path: Path) -> None:
    base = tmp_path / "data"
    (base / "train" / "images" / "p").mkdir(parents=True)
    (base / "train" / "train.csv").write_text("id,gender,race,age,path\n1,male,Asian,30,p\n")
    for stem, ending in zip(MASK_BY_STEM, (".webp", ".TIF", ".jpe", ".bmp", ".gif", ".png", ".jfif"), strict=True):
        Image.new("RGB", (8, 6)).save(base / "train/images/p" / f"{stem}{ending}")
    table = data.competition(lambda text: None, root=str(base), task=MASK18)
    assert len(table) == 7
