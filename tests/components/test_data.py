"""Data sources: the competition's layout, CSV tables, and an error message for each invalid row."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import SIZE

from maskcls.components.data import competition, synthetic, table
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.core.table import table_columns

STEMS = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")
PEOPLE = [
    ("000001", "female", "45", "000001_female_Asian_45", (".jpg",) * 7),
    ("003397", "male", "20", "003397_male_Asian_20", (".jpeg",) * 7),
    ("003397", "male", "19", "003397_male_Asian_19", (".jpg", ".png", ".jpeg", ".png", ".jpg", ".png", ".jpeg")),
    ("001498-1", "female", "60", "001498-1_female_Asian_60", (".png",) * 7),
]


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 6, 3), len(path.name) * 5, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = ["id,gender,race,age,path"]
    for id_, gender, age, folder, endings in PEOPLE:
        lines.append(f"{id_},{gender},Asian,{age},{folder}")
        for stem, ending in zip(STEMS, endings, strict=True):
            photo(tmp_path / "train" / "images" / folder / f"{stem}{ending}")
            (tmp_path / "train" / "images" / folder / f"._{stem}.jpg").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "train" / "train.csv").write_text("\n".join(lines) + "\n")
    for name in ("b.jpg", "a.jpg", "00ff.jpg"):
        photo(tmp_path / "eval" / "images" / name)
    (tmp_path / "eval" / "info.csv").write_text("ImageID,ans\nb.jpg,0\na.jpg,0\n00ff.jpg,0\n")
    return tmp_path


def notes(root: Path) -> tuple[pd.DataFrame, list[str]]:
    told: list[str] = []
    return competition(told.append, root=str(root), task=MASK18), told


def fault(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        competition(lambda note: None, root=str(root), task=MASK18)
    return str(caught.value)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_layout_is_read_to_the_letter(root: Path) -> None:
    rows, told = notes(root)
    assert list(rows.columns) == table_columns(MASK18) and not told
    train = rows[rows["part"] == "train"]
    assert len(train) == 28 and (rows["part"] == "eval").sum() == 3
    assert train["person"].unique().tolist() == [person[3] for person in PEOPLE]
    expected = [
        (f"train/images/{folder}/{stem}{ending}", [0, 0, 0, 0, 0, 1, 2][i], int(gender == "female"), float(age))
        for _, gender, age, folder, endings in PEOPLE
        for i, (stem, ending) in enumerate(zip(STEMS, endings, strict=True))
    ]
    assert list(train[["id", "mask", "gender", "age"]].itertuples(index=False, name=None)) == expected
    assert all(str(root / id_) == path for id_, path in zip(rows["id"], rows["path"], strict=True))
    assert (train["label"] == MASK18.encode(train["mask"], train["gender"], MASK18["age"].bin(train["age"]))).all()
    assert rows["id"].is_unique and rows.index.tolist() == list(range(31))


def test_ids_keep_their_zeros_and_the_folder_is_the_person(root: Path) -> None:
    rows, _ = notes(root)
    assert rows["id"][0] == "train/images/000001_female_Asian_45/mask1.jpg"
    assert rows.loc[rows["person"].str.startswith("003397"), "person"].nunique() == 2


def test_evaluation_without_labels_is_unlabelled_and_in_the_order_of_info(root: Path) -> None:
    rows, _ = notes(root)
    last = rows[rows["part"] == "eval"]
    assert last["id"].tolist() == [f"eval/images/{name}" for name in ("b.jpg", "a.jpg", "00ff.jpg")]
    assert (last[["mask", "gender", "label"]] == -1).all(axis=None) and last["age"].isna().all()
    assert last["person"].nunique() == 3


def labels(root: Path, *lines: str) -> None:
    (root / "eval" / "labels.csv").write_text("\n".join(["ImageID,ans,gender,age,path", *lines]) + "\n")


def test_evaluation_labels_are_read_where_they_stand(root: Path) -> None:
    labels(root, "00ff.jpg,17,female,60,p2", "b.jpg,0,male,29,p1", "a.jpg,10,female,59,p2")
    last = notes(root)[0].query("part == 'eval'")
    assert last["label"].tolist() == [0, 10, 17]
    assert last["mask"].tolist() == [0, 1, 2] and last["person"].tolist() == ["p1", "p2", "p2"]


def test_some_evaluation_labels_may_be_unknown(root: Path) -> None:
    labels(root, "a.jpg,10,female,59,p2")
    assert notes(root)[0].query("part == 'eval'")["label"].tolist() == [-1, 10, -1]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("a.jpg,10,femal,59,p2", "female"),
        ("a.jpg,ten,female,59,p2", "ten"),
        ("a.jpg,18,female,59,p2", "18"),
        ("a.jpg,10,female,old,p2", "old"),
        ("a.jpg,10,female,nan,p2", "nan"),
    ],
)
def test_a_broken_evaluation_label_names_file_and_line(root: Path, line: str, word: str) -> None:
    labels(root, "b.jpg,0,male,29,p1", line)
    text = fault(root)
    assert f"{root}/eval/labels.csv line 3" in text and word in text


def test_a_missing_photo_is_counted_in_a_note(root: Path) -> None:
    (root / "train" / "images" / PEOPLE[0][3] / "mask2.jpg").unlink()
    (root / "train" / "images" / PEOPLE[3][3] / "normal.png").unlink()
    rows, (note,) = notes(root)
    assert (rows["part"] == "train").sum() == 26
    assert note.startswith("2 images are missing")


def test_a_photo_that_only_a_dotfile_stands_for_is_missing(root: Path) -> None:
    place = root / "train" / "images" / PEOPLE[0][3]
    (place / "normal.jpg").unlink()
    photo(place / ".normal.jpg")
    rows, (note, spare) = notes(root)
    assert note.startswith("1 images are missing") and not rows["id"].str.contains(r"/\.").any()
    assert spare.endswith("are not used: 000001_female_Asian_45/.normal.jpg")


def test_other_files_of_a_folder_are_no_photos(root: Path) -> None:
    place = root / "train" / "images" / PEOPLE[0][3]
    (place / "mask1.txt").write_text("x")
    photo(place / "mask6.jpg")
    assert len(notes(root)[0]) == 31


def test_a_set_without_evaluation_is_read(root: Path) -> None:
    shutil.rmtree(root / "eval")
    assert len(notes(root)[0]) == 28


def test_evaluation_ids_alone_are_enough(root: Path) -> None:
    (root / "eval" / "info.csv").write_text("ImageID\nb.jpg\na.jpg\n")
    assert notes(root)[0].query("part == 'eval'")["id"].tolist() == ["eval/images/b.jpg", "eval/images/a.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("01,female", "01,femal", 2, "unknown gender 'femal', did you mean 'female'?"),
        ("01,female", "01,", 2, "unknown gender ''"),
        ("Asian,20,", "Asian,-4,", 3, "age must be a number of years from 0 to 120, got '-4'"),
        ("Asian,20,", "Asian,200,", 3, "age must be a number of years from 0 to 120, got '200'"),
        ("Asian,20,", "Asian,nan,", 3, "age must be a number of years from 0 to 120, got 'nan'"),
        ("Asian,20,", "Asian,inf,", 3, "age must be a number of years from 0 to 120, got 'inf'"),
        ("Asian,20,", "Asian,,", 3, "age must be a number of years from 0 to 120, got ''"),
        ("Asian,20,", "Asian,old,", 3, "age must be a number of years from 0 to 120, got 'old'"),
        (PEOPLE[2][3], "003397_nobody", 4, "003397_nobody"),
        (PEOPLE[2][3], "../images/" + PEOPLE[2][3], 4, "is outside"),
        (PEOPLE[2][3], "/tmp", 4, "is absolute. Make it relative to"),
        (PEOPLE[2][3], "", 4, "does not exist"),
        (PEOPLE[2][3], PEOPLE[1][3], 4, f"duplicate path '{PEOPLE[1][3]}'"),
    ],
)
def test_a_broken_row_names_file_and_line(root: Path, old: str, new: str, line: int, words: str) -> None:
    edit(root / "train" / "train.csv", old, new)
    text = fault(root)
    assert f"{root}/train/train.csv line {line}: " in text and words in text


def test_all_broken_rows_are_told_at_once_and_counted_beyond_ten(root: Path) -> None:
    csv = root / "train" / "train.csv"
    csv.write_text(csv.read_text() + "".join(f"9,male,Asian,x,nobody{i}\n" for i in range(6)))
    with pytest.raises(DataError) as caught:
        notes(root)
    assert len(caught.value.messages) == 11 and caught.value.messages[-1] == "… and 2 more"


def test_a_missing_column_names_the_nearest(root: Path) -> None:
    edit(root / "train" / "train.csv", "gender", "gendr")
    assert (
        fault(root)
        == f"{root}/train/train.csv: missing column 'gender', got id, gendr, race, age, path. Rename 'gendr'"
    )


@pytest.mark.parametrize("name", ["train/train.csv", "train/images"])
def test_a_missing_file_is_named(root: Path, name: str) -> None:
    place = root / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert str(place) in fault(root)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xff\xfe\x00\x01", b'id,gender,race,age,path\n"1,male,Asian,2,x\n']
)
def test_a_file_that_is_no_csv_is_named(root: Path, content: bytes) -> None:
    (root / "train" / "train.csv").write_bytes(content)
    assert f"{root}/train/train.csv" in fault(root)


def test_an_evaluation_photo_that_is_not_there_is_named(root: Path) -> None:
    edit(root / "eval" / "info.csv", "a.jpg", "lost.jpg")
    text = fault(root)
    assert "eval/info.csv line" in text and "lost.jpg" in text and str(root / "eval" / "images") in text


def test_an_evaluation_id_cannot_climb_out(root: Path) -> None:
    edit(root / "eval" / "info.csv", "a.jpg", f"../../train/images/{PEOPLE[0][3]}/mask1.jpg")
    text = fault(root)
    assert "eval/info.csv line 3: " in text and "is outside" in text


def test_a_set_of_no_photos_is_a_fault(root: Path) -> None:
    shutil.rmtree(root / "eval")
    (root / "train" / "train.csv").write_text("id,gender,race,age,path\n")
    assert fault(root) == f"{root} contains no images"


def test_the_embedded_set_is_read_as_such(people: Path) -> None:
    rows, told = notes(people)
    train, rest = rows[rows["part"] == "train"], rows[rows["part"] == "eval"]
    assert train["person"].nunique() == 14 and rest["person"].nunique() == 4
    assert len(train) + sum(int(note.split()[0]) for note in told) == 14 * 7
    assert (rows["label"] >= 0).all() and not set(train["person"]) & set(rest["person"])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "sub/b.png", "c.jpg"):
        photo(tmp_path / name)
    return tmp_path


def read(base: Path, content: str | bytes, **more: Any) -> pd.DataFrame:
    file = base / "my.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table(lambda note: None, task=MASK18, file=str(file), **more)


def told(base: Path, content: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(base, content)
    return str(caught.value)


PLAIN = "path,mask,gender,age\na.jpg,worn,male,29\nsub/b.png,incorrect,female,60\nc.jpg,none,female,30.5\n"


def test_mask_gender_and_age_make_the_label(photos: Path) -> None:
    rows = read(photos, PLAIN)
    assert list(rows.columns) == table_columns(MASK18)
    assert rows["id"].tolist() == ["a.jpg", "sub/b.png", "c.jpg"] and rows["path"].tolist()[1] == f"{photos}/sub/b.png"
    assert rows["label"].tolist() == [0, 11, 16] and rows["age"].tolist() == [29, 60, 30.5]
    assert rows["person"].tolist() == rows["id"].tolist() and set(rows["part"]) == {"train"}


VARIANTS = {
    "a byte-order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "semicolons": PLAIN.replace(",", ";").encode(),
    "tabs": PLAIN.replace(",", "\t").encode(),
    "CRLF": PLAIN.replace("\n", "\r\n").encode(),
    "all that Excel does": b"\xef\xbb\xbf" + PLAIN.replace(",", ";").replace("\n", "\r\n").encode(),
    "quotes": ("\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.split())).encode(),
    "no last newline": PLAIN.rstrip().encode(),
    "capitals": PLAIN.replace("male", "Male").replace("worn", "WORN").encode(),
    "spaces in the header": PLAIN.replace("mask,", "mask , ", 1).encode(),
    "words of other data sets": b"Image Path,Mask_Status,SEX,Age\na.jpg,with_mask,M,29\nsub/b.png,mask_weared_incorrect,F,60\nc.jpg,without_mask,Woman,30.5\n",
    "Korean words": "filename,마스크,성별,나이\na.jpg,착용,남,29\nsub/b.png,잘못 착용,여자,60\nc.jpg,미착용,여,30.5\n".encode(),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_csv_is_read_however_it_was_written(photos: Path, variant: str) -> None:
    pd.testing.assert_frame_equal(read(photos, VARIANTS[variant]), read(photos, PLAIN))


def reading(base: Path, content: str, **more: Any) -> tuple[pd.DataFrame, list[str]]:
    """Return the table and its notes, without the one on missing people."""
    told: list[str] = []
    (base / "my.csv").write_text(content)
    rows = table(told.append, task=MASK18, file=str(base / "my.csv"), **more)
    return rows, [note.removeprefix(f"{base}/") for note in told if not note.startswith("LEAK")]


def test_other_names_are_told_in_one_line(photos: Path) -> None:
    head = "Filename,sex,status,Age\n"
    _, told = reading(photos, head + "a.jpg,M,worn,29\nc.jpg,F,no mask,40\n", columns={"mask": "status"})
    words = "'Filename' as path, 'sex' as gender ('M' as male, 'F' as female), 'status' as mask ('no mask' as none)"
    (line,) = told
    assert line.startswith("my.csv: read column ") and all(part in line for part in [*words.split("), "), "'Age' as age"])


def test_columns_and_values_can_be_given(photos: Path) -> None:
    rows, _ = reading(photos, "where,g,m,age,path\na.jpg,1,0,29,x\nc.jpg,2,1,40,y\n", columns={"path": "where", "gender": "G", "mask": "m"},
                      values={"gender": {"1": "male", "2": "female"}, "mask": {"0": "none", "1": "worn"}})  # fmt: skip
    assert rows["id"].tolist() == ["a.jpg", "c.jpg"] and rows["gender"].tolist() == [0, 1] and rows["mask"].tolist() == [2, 0]
    rows, _ = reading(photos, "path,label,person\na.jpg,3,p\nc.jpg,4,p\n", columns={"person": None})
    assert rows["person"].tolist() == rows["id"].tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,filename,label\na.jpg,c.jpg,3\n", "columns 'image' and 'filename' all match 'path'. Set data.columns={path: image}"),
        ("path,mask,gender,age\na.jpg,1,F,30\n", "column 'mask' holds numbers that could mean anything. Say which is worn, incorrect or none: data.values={mask: {1: …}}"),
        ("path,mask,sex,age\na.jpg,worn,1,30\nc.jpg,worn,0.0,30\n", "column 'sex' holds numbers that could mean anything. Say which is male or female: data.values={gender: {0.0: …, 1: …}}"),
        ("path,mask,gender,age\na.jpg,worn,F,0\nc.jpg,worn,F,2\n", "column 'age': expected years, got only numbers up to 2"),
        ("path,ans\na.jpg,0\nc.jpg,2\n", "column 'ans' holds only numbers up to 2: classes from 0 to 17, or one attribute? Set data.columns={label: ans}"),
        ("path,class,sex,age\na.jpg,with_mask,M,40\n", "column 'class': expected classes, got words for mask. Set data.columns={mask: class}"),
        ("path,mask,gender\na.jpg,worn,M\n", "missing age. If it has other names for them, set data.columns={age: …}"),
        ("bild,label\na.jpg,3\n", "missing column 'path', got bild, label. Name it with data.columns={path: <column>}"),
    ],
)  # fmt: skip
def test_what_could_mean_two_things_is_asked_and_never_guessed(photos: Path, content: str, words: str) -> None:
    assert words in told(photos, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\na.jpg,0\nc.jpg,2\n", "column 'label' holds only classes up to 2, so all images have mask worn"),
        ("path,label,gender\na.jpg,0,M\nc.jpg,2,M\n", ""),
        ("path,label\na.jpg,0\nc.jpg,6\n", ""),
        ("path,mask,gender,years\na.jpg,worn,M,3\nc.jpg,worn,M,7\n", "column 'years' holds only numbers up to 7, read as years, not as classes of age"),
    ],
)  # fmt: skip
def test_numbers_that_may_be_no_classes_or_years_are_told(photos: Path, content: str, words: str) -> None:
    _, told = reading(photos, content)
    assert any(words in note for note in told) if words else not any("holds only" in note for note in told)


def test_numbers_beside_a_label_are_checked_by_it(photos: Path) -> None:
    assert read(photos, "path,label,mask,gender\na.jpg,3,0,1\n")["label"].tolist() == [3]
    assert "label 3 conflicts with gender '0'" in told(photos, "path,label,mask,gender\na.jpg,3,0,0\n")


def test_a_given_column_that_is_not_there_is_named(photos: Path) -> None:
    with pytest.raises(DataError, match=r"data\.columns: unknown column 'sx' of .*my\.csv, did you mean 'sex'"):
        read(photos, "path,mask,sex,age\na.jpg,worn,M,30\n", columns={"gender": "sx"})


def test_an_id_is_a_person_only_if_it_repeats(photos: Path) -> None:
    told: list[str] = []
    for ids, leaks in (("77", False), ("78", True)):
        (photos / "my.csv").write_text(f"id,path,label\n{ids[0]},a.jpg,3\n{ids[1]},c.jpg,4\n")
        rows = table(told.append, task=MASK18, file=str(photos / "my.csv"))
        assert rows["person"].tolist() == list(ids)
        assert any(note.startswith("LEAK possible: ") and "column 'id' differs in every row" in note for note in told) == leaks


def test_paths_may_be_absolute_and_relative_to_either_folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other, root = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("root")
    for path in (other / "x" / "d.jpg", other / "y" / "a.jpg", root / "r.jpg", root / "a.jpg"):
        photo(path)
    lines = ["path,label", f"{other}/x/d.jpg,1", f"{other}/y/a.jpg,2", "r.jpg,3", "c.jpg,4", f"{photos}/sub/b.png,5", "a.jpg,6"]
    rows, told = reading(photos, "\n".join(lines), root=str(root))
    assert rows["id"].tolist() == ["x/d.jpg", "y/a.jpg", "r.jpg", "c.jpg", "sub/b.png", "a.jpg"]
    assert rows["path"].tolist()[2:] == [f"{root}/r.jpg", f"{photos}/c.jpg", f"{photos}/sub/b.png", f"{root}/a.jpg"]
    assert told == [f"my.csv: 2 of 6 images lie outside {root} and {photos}: {other}/x/d.jpg and 1 more"]
    rows, _ = reading(photos / "sub", "path,label\n../a.jpg,1\nb.png,2\n")
    assert rows["id"].tolist() == ["a.jpg", "b.png"] and Path(rows["path"][0]).samefile(photos / "a.jpg")


def test_one_image_by_two_paths_is_named(photos: Path) -> None:
    assert "line 3: duplicate path" in told(photos, f"path,label\na.jpg,1\n{photos}/a.jpg,2\n")
    assert "line 3: duplicate path" in told(photos, "path,label\na.jpg,1\nsub/../a.jpg,2\n")


def test_images_outside_keep_their_names_apart(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    photo(other / "a.jpg")
    rows, _ = reading(photos, f"path,label\na.jpg,1\n{other}/a.jpg,2\n")
    assert rows["id"].tolist() == ["a.jpg", f"{other}/a.jpg"[1:]]


def test_a_link_out_of_the_folder_is_refused_and_a_path_out_of_it_is_not(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    photo(other / "d.jpg")
    (photos / "d.jpg").symlink_to(other / "d.jpg")
    (photos / "gate").symlink_to(other)
    assert "links to outside" in told(photos, "path,label\nd.jpg,1\n")
    assert "links to outside" in told(photos, "path,label\ngate/d.jpg,1\n")
    assert read(photos, f"path,label\n{other}/d.jpg,1\n")["id"].tolist() == ["d.jpg"]


def test_a_path_that_holds_from_here_says_so(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert f"It is in the current folder: set root={photos}" in told(photos / "sub", "path,label\nsub/b.png,1\n")


def test_labels_stand_for_themselves(photos: Path) -> None:
    rows = read(photos, "path,label,person,part\na.jpg,0,x,train\nsub/b.png,11,x,train\nc.jpg,16,y,eval\n")
    assert rows["label"].tolist() == [0, 11, 16] and rows["mask"].tolist() == [0, 1, 2]
    assert rows["gender"].tolist() == [0, 1, 1] and rows["age"].isna().all()
    assert rows["person"].tolist() == ["x", "x", "y"] and rows["part"].tolist() == ["train", "train", "eval"]


def test_a_label_may_stand_beside_an_age_of_its_class_only(photos: Path) -> None:
    rows = read(photos, "path,label,age\na.jpg,2,60\nc.jpg,1,\n")
    assert rows["label"].tolist() == [2, 1] and rows["age"][0] == 60 and np.isnan(rows["age"][1])
    with pytest.raises(DataError, match="line 2: label 2 conflicts with age 59"):
        read(photos, "path,label,age\na.jpg,2,59\n")


def test_a_root_may_lie_elsewhere(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("csv")
    rows = read(elsewhere, PLAIN, root=str(photos))
    assert rows["path"].tolist()[0] == f"{photos}/a.jpg" and rows["id"].tolist()[0] == "a.jpg"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("worn", "won", 2, "unknown mask 'won', did you mean 'worn'?"),
        ("female", "femal", 3, "unknown gender 'femal', did you mean 'female'?"),
        (",60", ",600", 3, "age must be a number of years from 0 to 120, got '600'"),
        (",60", ",nan", 3, "age must be a number of years from 0 to 120, got 'nan'"),
        ("c.jpg", "d.jpg", 4, "d.jpg"),
        ("c.jpg", "../d.jpg", 4, "d.jpg does not exist"),
        ("c.jpg", "/nowhere/c.jpg", 4, "file /nowhere/c.jpg does not exist"),
        ("c.jpg", "sub", 4, "does not exist"),
        ("c.jpg", "", 4, "does not exist"),
    ],
)
def test_a_broken_row_of_a_table_names_file_and_line(photos: Path, old: str, new: str, line: int, words: str) -> None:
    photo(photos.parent / "c.jpg")
    text = told(photos, PLAIN.replace(old, new, 1))
    assert f"{photos}/my.csv line {line}: " in text and words in text


@pytest.mark.parametrize("label", ["18", "-1", "x", "1.0"])
def test_a_label_that_is_no_class_is_named(photos: Path, label: str) -> None:
    text = told(photos, f"path,label\na.jpg,3\nc.jpg,{label}\n")
    assert text == f"{photos}/my.csv line 3: label must be a class from 0 to 17, got '{label}'"


def test_an_empty_cell_is_a_missing_label(photos: Path) -> None:
    rows = read(photos, "path,mask,gender,age,part\na.jpg,,male,29,train\nsub/b.png,none,,,\nc.jpg,,,,eval\n")
    assert rows["label"].tolist() == [-1, -1, -1]
    assert rows["mask"].tolist() == [-1, 2, -1] and rows["gender"].tolist() == [0, -1, -1]
    assert rows["age"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,mask,gender,age\na.jpg,none,,\nc.jpg,,,\n", "line 3: no label: mask and gender and age are empty"),
        ("path,label\na.jpg,3\nc.jpg,\n", "line 3: no label: label is empty"),
        ("path,label,gender\na.jpg,3,female\nc.jpg,,\n", "line 3: no label: label and gender are empty"),
    ],
)
def test_a_training_row_without_any_label_is_named(photos: Path, content: str, words: str) -> None:
    assert told(photos, content) == f"{photos}/my.csv {words}"
    assert read(photos, with_part(content))["label"].tolist()[1] == -1


def with_part(content: str) -> str:
    """Return a CSV of two rows with a column part, the second of the evaluation set."""
    header, first, second = content.split()
    return f"{header},part\n{first},train\n{second},eval\n"


def test_an_unknown_part_is_named(photos: Path) -> None:
    assert "line 2: unknown part 'evl', did you mean 'eval'?" in told(photos, "path,label,part\na.jpg,3,evl\n")


def test_a_path_that_stands_twice_is_named(photos: Path) -> None:
    assert "duplicate path 'a.jpg'" in told(photos, "path,label\na.jpg,3\na.jpg,4\n")


def test_columns_that_are_missing_are_named(photos: Path) -> None:
    assert told(photos, "paht,label\na.jpg,3\n").endswith("missing column 'path', got paht, label. Rename 'paht'")
    text = told(photos, "path,mask\na.jpg,worn\n")
    assert "needs a column label, or mask, gender and age: missing age, gender" in text


def test_a_lone_column_is_read_whole(photos: Path) -> None:
    assert "needs a column label, or mask, gender and age: missing age, gender, mask" in told(photos, "path\na.jpg\n")


def test_a_row_with_a_cell_too_many_does_not_shift_the_others(photos: Path) -> None:
    trailing = "\n".join(line + ("," if i else "") for i, line in enumerate(PLAIN.split())) + "\n"
    try:
        rows = read(photos, trailing)
    except DataError as error:
        assert "does not exist" not in str(error) and "my.csv" in str(error)
    else:
        pd.testing.assert_frame_equal(rows, read(photos, PLAIN))


def test_spaces_around_a_value_do_not_matter(photos: Path) -> None:
    assert read(photos, "path,label\na.jpg, 3\n")["label"].tolist() == [3]


def test_planted_errors_are_those_of_the_labels_alone_and_never_of_the_evaluation_set(drawn: Path) -> None:
    """The true labels are those of errors=0: with them a test can tell which labels are wrong."""
    notes: list[str] = []
    truth, wrong, again = (synthetic(notes.append, root=str(drawn), errors=share, **SIZE, task=MASK18) for share in (0.0, 0.2, 0.2))
    pd.testing.assert_frame_equal(wrong, again)
    assert notes[-1] == "data.errors: planted 3 errors of mask, 3 errors of gender, 3 errors of age"
    differs = (truth[["mask", "gender", "age", "label"]] != wrong[["mask", "gender", "age", "label"]]).any(axis=1)
    assert set(truth.loc[differs, "part"]) == {"train"} and 3 <= truth.loc[differs, "person"].nunique() <= 9
    for kind in ("gender", "age"):
        assert (truth[kind] != wrong[kind]).sum() == 3 * 7
    assert (truth["mask"] != wrong["mask"]).sum() == 6 and truth["path"].equals(wrong["path"])
    other = synthetic(notes.append, root=str(drawn), errors=0.4, **SIZE, task=MASK18)
    assert (truth["label"] != other["label"]).sum() > differs.sum()


def test_data_without_planted_errors_has_the_id_of_earlier_versions() -> None:
    plain, wrong = (validate(compose("name=t", *words)) for words in ((), ("data.errors=0.1",)))
    assert "errors" not in plain.hashed_items()["data"] and wrong.hashed_items()["data"]["errors"] == 0.1
