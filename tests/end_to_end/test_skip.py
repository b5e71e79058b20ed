"""on_error: unreadable images stop a run with one report, or are left out and counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from maskcls.components import data
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.config import Config
from maskcls.core.errors import DataError, MaskclsError, PhotoError
from maskcls.core.table import count_split_people, table_digest
from maskcls.data import pixel_cache
from maskcls.data.assemble import NUM_LISTED, assemble_table
from maskcls.data.image_check import inspect_images
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.runner import run
from maskcls.imaging.image_decoding import Image
from maskcls.imaging.image_io import read_pixels


@pytest.fixture
def mine(people: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny set, to be broken."""
    return Path(shutil.copytree(people, tmp_path / "mine"))


@pytest.fixture
def words(tiny: list[str], mine: Path, tmp_path: Path) -> list[str]:
    """Return the overrides of a run over that copy, with a cache of its own."""
    kept = [word for word in tiny if not word.startswith(("data.", "cache_dir="))]
    return [*kept, "data=competition", f"data.root={mine}", f"cache_dir={tmp_path}/cache", "epochs=1"]


def broken(mine: Path) -> list[str]:
    """Break three training photos and an evaluation photo, each in a way of its own, and return their ids."""
    trained = sorted(path for path in mine.glob("train/images/*/mask*") if path.name[0] != ".")[::9][:3]
    spoiled = [*trained, sorted(mine.glob("eval/images/*"))[2]]
    spoiled[0].write_bytes(b"")
    spoiled[1].write_bytes(spoiled[1].read_bytes()[:-40])
    spoiled[2].unlink()
    spoiled[2].mkdir()
    spoiled[3].write_text("no photo")
    return [path.relative_to(mine).as_posix() for path in spoiled]


def test_all_bad_photos_are_told_in_one_report_before_any_work(words: list[str], mine: Path, tmp_path: Path) -> None:
    ids = broken(mine)
    with pytest.raises(DataError) as caught:
        run(compose(*words))
    *each, last = caught.value.messages
    assert [sentence.split()[0] for sentence in each] == [str(mine / name) for name in ids]
    assert last.startswith("4 of ") and last.endswith("images are unreadable. Set on_error=skip to exclude them")
    assert not list(tmp_path.rglob("pixels.*")) and not list((tmp_path / "runs").iterdir())


def test_more_bad_photos_than_a_report_names_are_listed_in_a_file(words: list[str], mine: Path, tmp_path: Path) -> None:
    spoiled = sorted(path for path in mine.glob("train/images/*/mask*") if path.name[0] != ".")[:25]
    for path in spoiled:
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        run(compose(*words))
    file = tmp_path / "cache" / "unusable.txt"
    assert len(caught.value.messages) == NUM_LISTED + 1 < len(spoiled)
    assert str(caught.value.messages[-1]).endswith(f"All errors are listed in {file}")
    assert [line.split()[0] for line in file.read_text().splitlines()] == list(map(str, spoiled))


def test_bad_photos_are_left_out_counted_and_left_out_again(words: list[str], mine: Path, tmp_path: Path) -> None:
    ids = broken(mine)
    first = run(compose(*words, "on_error=skip"))
    (place,) = (tmp_path / "runs").iterdir()
    done = json.loads((place / "metrics.json").read_text())
    (note,) = [note for note in done["notes"] if note.startswith("on_error")]
    assert (
        "4 of " in note and "1 of them in the evaluation set, without a prediction" in note and "; … and 1 more" in note
    )
    assert all(name in note for name in ids[:3]) and str(mine) not in note
    assert "4 of " in (place / "report.html").read_text()
    for file in ("table.csv", "oof.csv", "eval.csv"):
        assert not set(pd.read_csv(place / file)["id"]) & set(ids)
    assert run(compose(*words, "on_error=skip")) == first
    shutil.rmtree(tmp_path / "cache")  # looked at anew: the same table, so the finished run answers
    assert run(compose(*words, "on_error=skip")) == first
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == [place.name]
    with pytest.raises(DataError, match="on_error=skip"):
        run(compose(*words))


def assembled(*words: str) -> tuple[Config, pd.DataFrame, list[str]]:
    cfg, told = validate(compose(*words)), []
    return cfg, assemble_table(cfg, told.append), told


def test_pixels_ids_and_folds_agree_without_the_bad_photos(words: list[str], mine: Path) -> None:
    ids = broken(mine)
    words = [word for word in words if not word.startswith("crop.")]
    cfg, table, _ = assembled(*words, "on_error=skip", "crop=none")
    photos = load_pixels(table, cfg.crop, Path(cfg.cache_dir))
    assert not set(table["id"]) & set(ids) and count_split_people(table) == 0 and len(photos) == len(table)
    for at in (0, len(table) // 2, -1):
        assert np.array_equal(photos[at], cv2.imread(table["path"].iloc[at])[..., ::-1])


def test_where_all_is_well_both_words_are_one_run(words: list[str]) -> None:
    tables = [assembled(*words, f"on_error={word}") for word in ("stop", "skip")]
    assert table_digest(tables[0][1], task=MASK18) == table_digest(tables[1][1], task=MASK18) and tables[0][2] == tables[1][2]
    assert tables[0][0].hashed_items() == tables[1][0].hashed_items()


def test_a_photo_smaller_than_the_cut_is_bad_before_anything_is_decoded(
    words: list[str], mine: Path, tmp_path: Path
) -> None:
    small = sorted(mine.glob("train/images/*/normal.*"))[3]
    assert cv2.imwrite(str(small), np.zeros((40, 20, 3), np.uint8))
    cut = [*[w for w in words if not w.startswith("crop.")], "crop=center", "crop.height=32", "crop.width=24"]
    with pytest.raises(
        DataError, match=r"is too small: crop.height × crop.width = 32 × 24 exceeds the image size 40 × 20"
    ):
        run(compose(*cut))
    assert not list(tmp_path.rglob("pixels.*"))
    _, table, (note,) = assembled(*cut, "on_error=skip")
    assert small.relative_to(mine).as_posix() not in set(table["id"]) and "1 of " in note


def test_photos_of_two_sizes_need_a_crop_before_anything_is_decoded(
    words: list[str], mine: Path, tmp_path: Path
) -> None:
    odd = sorted(mine.glob("train/images/*/normal.*"))[3]
    assert cv2.imwrite(str(odd), np.zeros((64, 50, 3), np.uint8))
    with pytest.raises(DataError, match=r"needs images of one size, got .* Use crop=resize or crop=center") as caught:
        run(compose(*[word for word in words if not word.startswith("crop.")], "crop=none"))
    assert str(odd) in str(caught.value) and not list(tmp_path.rglob("pixels.*"))


def test_a_set_of_bad_photos_alone_leaves_none(words: list[str], mine: Path) -> None:
    for photo in [*mine.glob("train/images/*/*"), *mine.glob("eval/images/*")]:
        photo.write_bytes(b"")
    for word in ("stop", "skip"):
        with pytest.raises(DataError) as caught:
            run(compose(*words, f"on_error={word}"))
        assert len(caught.value.messages) == NUM_LISTED + 1


LINKS: dict[str, Callable[[Path], str]] = {
    "a photo": lambda mine: next(
        path for path in mine.glob("train/images/*/mask1.*") if path.name[0] != "."
    ).as_posix(),
    "a person": lambda mine: sorted((mine / "train/images").iterdir())[0].as_posix(),
    "all photos": lambda mine: (mine / "train/images").as_posix(),
}


@pytest.mark.parametrize("what", LINKS)
def test_a_link_out_of_the_root_is_refused_unless_allowed(
    what: str, words: list[str], mine: Path, tmp_path: Path
) -> None:
    inner = Path(LINKS[what](mine))
    shutil.move(inner, tmp_path / f"outside{inner.suffix}")
    inner.symlink_to(tmp_path / f"outside{inner.suffix}")
    with pytest.raises(MaskclsError, match=r"links to outside .* Set links=true") as caught:
        assembled(*words)
    assert str(inner) in str(caught.value)
    assert len(assembled(*words, "data.links=true")[1]) > 90
    assert validate(compose(*words)).hashed_items() == validate(compose(*words, "data.links=true")).hashed_items()


def taken_away(mine: Path, what: str) -> list[str]:
    """Remove files that rows speak of, and return what the sentences about them name."""
    person, other = sorted(path for path in (mine / "train/images").iterdir() if path.name[0] != ".")[:2]
    one, two = sorted((mine / "eval/images").glob("[!.]*"))[1:3]
    gone = {"a person": [person], "evaluation photos": [one, two], "both": [person, other, one]}[what]
    for path in gone:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path.name for path in gone]


@pytest.mark.parametrize("what", ["a person", "evaluation photos", "both"])
def test_rows_without_a_file_stop_a_run_or_are_left_out_and_counted(what: str, words: list[str], mine: Path) -> None:
    names = taken_away(mine, what)
    with pytest.raises(DataError, match=r"(file|folder) .* does not exist") as caught:
        assembled(*words)
    assert all(any(name in told for told in caught.value.messages) for name in names[:1])
    _, table, notes = assembled(*words, "on_error=skip")
    (note,) = [note for note in notes if note.startswith(f"on_error: {len(names)} rows were left out")]
    assert all(name in note for name in names) and not any(name in path for path in table["path"] for name in names)
    assert all(Path(path).is_file() for path in table["path"])


def test_a_run_without_some_rows_is_the_run_of_a_table_without_them(words: list[str], mine: Path) -> None:
    whole = assembled(*words)[1]
    names = taken_away(mine, "both")
    less = assembled(*words, "on_error=skip")[1]
    for file, column in (("train/train.csv", "path"), ("eval/info.csv", "ImageID"), ("eval/labels.csv", "ImageID")):
        if (mine / file).exists():
            table = pd.read_csv(mine / file, dtype=str)
            table[~table[column].isin(names)].to_csv(mine / file, index=False)
    assert table_digest(assembled(*words)[1], task=MASK18) == table_digest(less, task=MASK18) != table_digest(whole, task=MASK18)


def test_rows_of_a_csv_and_of_extra_photos_may_lack_their_files(words: list[str], mine: Path, tmp_path: Path) -> None:
    table = data.competition(lambda text: None, root=str(mine), task=MASK18)
    train = table[table["part"] == "train"].assign(path=lambda rows: rows["id"])[
        ["path", "person", "label"]
    ]
    train.to_csv(mine / "all.csv", index=False)
    (mine / train["path"].iloc[5]).unlink()
    mask = [w for w in words if not w.startswith("data")]
    asked = [*mask, "data=table", f"data.file={mine}/all.csv", "on_error=skip"]
    _, found, notes = assembled(*asked)
    assert len(found) == len(train) - 1
    assert any(
        n.startswith(f"on_error: 1 rows were left out, their files are missing: {mine}/all.csv line 7: file ")
        for n in notes
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    cv2.imwrite(str(outside / "a.png"), np.full((64, 48, 3), 7, np.uint8))
    (outside / "more.csv").write_text("path,mask,gender,age\na.png,none,male,30\nb.png,none,male,30\n")
    more = [*words, "extra=table", f"extra.file={outside}/more.csv"]
    with pytest.raises(DataError, match=r"more.csv line 3: file .* does not exist"):
        assembled(*more)
    _, grown, notes = assembled(*more, "on_error=skip")
    assert (grown["part"] == "extra").sum() == 1 and any("more.csv line 3: file " in n for n in notes)


def test_a_table_whose_files_are_all_missing_leaves_none(words: list[str], mine: Path) -> None:
    (mine / "few.csv").write_text("path,mask,gender,age\na.png,none,male,30\n")
    asked = [*[w for w in words if not w.startswith("data")], "data=table", f"data.file={mine}/few.csv"]
    with pytest.raises(DataError, match="contains no images"):
        assembled(*asked, "on_error=skip")


def spoil_late(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> None:
    """Make photos that pass the look fail when their pixels are wanted."""
    read = read_pixels

    def fail(path: str) -> Image:
        if Path(path).name in names:
            raise PhotoError(f"{path} cannot be read as an image: out of luck")
        return read(path)

    monkeypatch.setattr(pixel_cache, "read_pixels", fail)


def test_photos_that_fail_late_are_left_out_too(
    words: list[str], mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = sorted((mine / "eval/images").glob("[!.]*"))[:2]
    spoil_late(monkeypatch, [path.name for path in lost])
    with pytest.raises(DataError, match="out of luck"):
        run(compose(*words))
    assert not list((tmp_path / "runs").iterdir())
    shutil.rmtree(tmp_path / "cache")
    score = run(compose(*words, "on_error=skip"))
    (place,) = (tmp_path / "runs").iterdir()
    ids = [path.relative_to(mine).as_posix() for path in lost]
    assert not set(pd.read_csv(place / "table.csv")["id"]) & set(ids)
    notes = json.loads((place / "metrics.json").read_text())["notes"]
    (note,) = [note for note in notes if note.startswith("on_error")]
    assert note.startswith("on_error: 2 of ") and all(name in note for name in ids) and "out of luck" in note
    assert run(compose(*words, "on_error=skip")) == score  # it answers, of the same table
    lost[0].write_bytes(lost[1].read_bytes())
    looks = inspect_images(map(str, lost), tmp_path / "cache")
    assert looks[0].error is None and "out of luck" in str(looks[1].error)  # what has changed is looked at anew


def test_a_late_fault_that_cannot_be_kept_stops_the_run(
    words: list[str], mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_late(monkeypatch, [sorted((mine / "eval/images").glob("[!.]*"))[0].name])
    monkeypatch.setattr(pixel_cache, "store_decode_errors", lambda faults, root: None)
    with pytest.raises(PhotoError, match="out of luck"):
        run(compose(*words, "on_error=skip"))
