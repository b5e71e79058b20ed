"""The image table: spellings of columns, ids and paths, order of rows, duplicates, labels and notes."""

from __future__ import annotations

import dataclasses
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SIZE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from labelled_people import competition as competition_people
from PIL import Image

from maskcls.cli.preview import select_images
from maskcls.components import data, extra, labels, split
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.image_rows import to_table
from maskcls.core.person_ids import note_doubtful_ids, note_duplicate_images, unify_ids
from maskcls.core.registry import Component
from maskcls.data import assemble
from maskcls.data.assemble import assemble_table
from maskcls.data.selection import stratified_order
from maskcls.reporting.summary import print_summary
from maskcls.storage.run import Run

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
PEOPLE = 6


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of photos, each with a content of its own; two have names that are not ASCII."""
    base = tmp_path_factory.mktemp("base")
    for i in range(2 * PEOPLE):
        Image.new("RGB", (6, 8), (i * 9, 0, 0)).save(base / f"{i}.png")
    return base


def read(base: Path, header: str, *lines: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of a CSV, and what was told."""
    told: list[str] = []
    (base / "my.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return data.table(told.append, file=str(base / "my.csv"), task=MASK18), told


def read_people(base: Path, column: str, ids: list[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Return a table of two photos for each of six people, in a column of some name."""
    ids = ids or [f"p{i}" for i in range(PEOPLE) for _ in (0, 1)]
    return read(base, f"path,label,{column}", *[f"{i}.png,{i % 18},{name}" for i, name in enumerate(ids)])


@pytest.mark.parametrize(
    "column",
    ["Person", "PERSON", "person ", "person_id", "Person ID", "subject", "Subject-ID", "\u200bperson", "ｐｅｒｓｏｎ"],
)
def test_a_spelling_of_a_column_is_read_and_told(base: Path, column: str) -> None:
    table, told = read_people(base, column)
    assert table["person"].nunique() == PEOPLE
    assert told == (
        [] if column.strip() == "person" else [f"{base}/my.csv: read column '{column.strip()}' as person"]
    )


@pytest.mark.parametrize("column", ["persn", "prson", "persons", "person_name", "the_person"])
def test_a_slip_of_a_column_is_refused_with_the_right_word(base: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"unknown column '{column}', did you mean 'person'"):
        read_people(base, column)


@QUICK
@given(some.data())
def test_no_misspelt_person_column_makes_other_people(base: Path, data: some.DataObject) -> None:
    """Any one or two slips in the name: the people are read, or a sentence says that they are not."""
    name = list("person")
    for _ in range(data.draw(some.integers(0, 2))):
        at = data.draw(some.integers(0, len(name) - 1))
        sign = data.draw(some.sampled_from(" _-PERSONpersonx1"))
        name[at : at + data.draw(some.integers(0, 1))] = [sign] * data.draw(some.integers(0, 1)) or [name[at]]
    try:
        table, told = read_people(base, "".join(name))
    except DataError as error:
        assert "person" in str(error)
        return
    assert table["person"].nunique() == PEOPLE or any("no column 'person'" in note for note in told)


def test_columns_that_are_not_read_are_named(base: Path) -> None:
    table, told = read(base, "path,label,Split,colour,,person", "0.png,3,EVAL,red,x,a", "1.png,14,,blue,,")
    assert table["part"].tolist() == ["eval", "train"] and table["person"].tolist() == ["a", "1.png"]
    assert told == [
        f"{base}/my.csv: read column 'Split' as part",
        f"{base}/my.csv: columns not used: colour, (no name)",
        f"{base}/my.csv line 3: 1 of 2 rows have an empty person; each counts as one person",
        f"{base}/my.csv line 3: 1 of 2 rows have an empty part; they are training rows",
    ]


def test_a_table_without_people_says_that_scores_may_leak(base: Path) -> None:
    _, (told,) = read(base, "path,label", "0.png,3")
    assert "no column 'person', so each image counts as one person. Out-of-fold scores leak" in told


def test_two_columns_for_one_are_refused_and_the_exact_name_wins(base: Path) -> None:
    with pytest.raises(DataError, match="columns 'Person' and 'subject' all match 'person'"):
        read(base, "path,label,Person,subject", "0.png,3,a,b")
    table, told = read(base, "path,label,Person,person", "0.png,3,a,b")
    assert table["person"].tolist() == ["b"] and told == [f"{base}/my.csv: columns not used: Person"]


@pytest.mark.parametrize(("column", "value"), [("mask", "none"), ("gender", "female"), ("age", "70"), ("age", "old")])
def test_what_stands_beside_a_label_must_agree_with_it(base: Path, column: str, value: str) -> None:
    with pytest.raises(DataError, match=f"line 2: .*{column}"):
        read(base, f"path,label,{column}", f"0.png,0,{value}")


SAME: list[Callable[[str], str]] = [
    str,
    lambda name: unicodedata.normalize("NFD", name),
    lambda name: f"\u00a0{name} ",
    lambda name: name.replace(" ", "  "),
]


@QUICK
@given(
    some.lists(some.sampled_from(["José Á", "김 하나", "ÅB", "001498-1", "001498", "x 1"]), min_size=6, max_size=6),
    some.data(),
)
def test_spellings_that_are_surely_one_are_one(base: Path, names: list[str], data: some.DataObject) -> None:
    ids = [data.draw(some.sampled_from(SAME))(name) for name in [*names, *names]]
    table, _ = read_people(base, "person", ids)
    assert table["person"].tolist() == [unicodedata.normalize("NFC", name) for name in [*names, *names]]


@QUICK
@given(some.lists(some.integers(-9, 20), min_size=1, max_size=12), some.data())
def test_whole_numbers_with_a_point_are_the_same_numbers(numbers: list[int], data: some.DataObject) -> None:
    spelled = [f"{number}{data.draw(some.sampled_from(['', '.0', '.00', '.', ',0', ',']))}" for number in numbers]
    assert unify_ids(pd.Series(spelled)).tolist() == [str(number) for number in numbers]


def test_ids_from_names_of_files_are_composed_too() -> None:
    assert unify_ids(pd.Series([unicodedata.normalize("NFD", "José"), "José"])).unique().tolist() == ["José"]


def test_ids_that_are_no_whole_numbers_keep_their_points_and_zeros() -> None:
    for ids in (["7", "7.0", "A"], ["1.1", "1.10"], ["007", "7"], ["001498-1", "001498"]):
        assert unify_ids(pd.Series(ids)).tolist() == ids


@pytest.mark.parametrize(("one", "other"), [("A", "a"), ("007", "7"), ("KimA", "Kim A"), ("Ｋ", "K"), ("7.0", "7")])
def test_doubtful_ids_stay_apart_and_are_named(base: Path, one: str, other: str) -> None:
    table, _ = read_people(base, "person", [one, other, "Zoe"])
    assert table["person"].nunique() == 3
    told: list[str] = []
    note_doubtful_ids(table, told.append)
    (note,) = told
    assert note.startswith("people: 1 ids have several spellings") and repr(one) in note and repr(other) in note


def test_other_ids_raise_no_doubt(base: Path) -> None:
    told: list[str] = []
    note_doubtful_ids(read_people(base, "person", ["001498-1", "001498", "1-11", "11-1", "0", "10"])[0], told.append)
    note_doubtful_ids(read(base, "path,label", "0.png,3", "1.png,3")[0], told.append)
    assert not told


@pytest.mark.parametrize(("file", "cell"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_path_is_found_in_the_other_unicode_form(tmp_path: Path, file: str, cell: str) -> None:
    name = "포토/é.png"
    path = tmp_path / unicodedata.normalize(file, name)  # type: ignore[arg-type]
    path.parent.mkdir()
    Image.new("RGB", (6, 8)).save(path)
    table, _ = read(tmp_path, "path,label", unicodedata.normalize(cell, name) + ",3")  # type: ignore[arg-type]
    assert table["path"].tolist() == [str(path)] and table["id"].tolist() == [unicodedata.normalize("NFC", name)]


@pytest.mark.parametrize(("file", "cell"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_the_competitions_layout_is_found_in_the_other_unicode_form(tmp_path: Path, file: Any, cell: Any) -> None:
    person = unicodedata.normalize(file, "1_é")
    for name in (f"train/images/{person}/mask1.png", "eval/images/" + unicodedata.normalize(file, "é.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 8)).save(tmp_path / name)
    texts = {"train/train.csv": "gender,age,path\nmale,30,1_é", "eval/info.csv": "ImageID\né.png",
             "eval/labels.csv": "ImageID,ans,gender,age,path\né.png,1,male,30,2_é"}  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(unicodedata.normalize(cell, text), encoding="utf-8")
    table = data.competition(lambda note: None, root=str(tmp_path), task=MASK18)
    assert table["person"].tolist() == ["1_é", "2_é"] and table["label"].tolist() == [1, 1]


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "30_0_é.png") for form in ("NFC", "NFD")]  # type: ignore[arg-type]
    rows = [
        {"path": tmp_path / name, "person": "", "mask": 2, "gender": 0, "age": 30.0, "part": "extra"} for name in names
    ]
    with pytest.raises(DataError, match="several files are named"):
        to_table(rows, tmp_path, task=MASK18)


def test_files_and_rows_that_are_not_used_are_counted(people: Path, tmp_path: Path) -> None:
    root = shutil.copytree(people, tmp_path / "data")
    folder = sorted((root / "train" / "images").iterdir())[0]
    (first,) = folder.glob("mask1.*")
    (lost,) = folder.glob("normal.*")
    shutil.copy(first, folder / f"mask6{first.suffix}")
    shutil.copytree(folder, root / "train" / "images" / "nobody")
    shutil.copy(first, root / "eval" / "images" / "new.png")
    lost.unlink()
    with (root / "eval" / "labels.csv").open("a") as file:
        file.write("other.jpg,0,male,20,x\n")
    told: list[str] = []
    data.competition(told.append, root=str(root), task=MASK18)
    assert [note.partition(":")[0] for note in told] == [
        "1 rows of eval/labels.csv are not used",
        f"1 images are missing from train/images and were left out, of people {folder.name}",
        f"9 files below {root}/train/images are not used",
        f"1 files below {root}/eval/images are not used",
    ]
    (root / "eval" / "info.csv").unlink()
    data.competition(told.append, root=str(root), task=MASK18)
    assert f"{root}/eval is not used: it has no info.csv" in told


def test_a_set_that_is_drawn_says_that_it_reads_no_variable(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    data.synthetic(told.append, root=str(drawn), seed=0, **SIZE, task=MASK18)
    assert not told
    monkeypatch.setenv("MASKCLS_DATA", "/mine")
    data.synthetic(told.append, root=str(drawn), seed=0, **SIZE, task=MASK18)
    assert told == ["data=synthetic does not read MASKCLS_DATA, which is set. data=competition does"]


@pytest.mark.parametrize(("crop", "add"), [("400,200", "512 data.width=384"), ("380,380", "512 data.width=384"),
                                           ("600,200", "600 data.width=384")])  # fmt: skip
def test_a_crop_larger_than_the_drawn_images_says_what_to_add_and_draws_nothing(tmp_path: Path, crop: str, add: str) -> None:
    height, width = crop.split(",")
    words = ("crop=center", f"crop.height={height}", f"crop.width={width}", "data.people=6", f"data.root={tmp_path}/drawn")
    with pytest.raises(ConfigError) as caught:
        assemble_table(validate(compose(*words)), print)
    assert str(caught.value) == (
        f"crop.height × crop.width = {height} × {width} exceeds the image size 256 × 192 of data=synthetic. Add data.height={add}"
    )
    assert not list(tmp_path.iterdir())


def test_outside_photos_of_other_ages_and_parts_are_counted(base: Path, tmp_path: Path) -> None:
    table, _ = read(base, "path,label", "0.png,3")
    for i, age in enumerate((20, 61, 99)):
        shutil.copy(base / f"{i + 1}.png", tmp_path / f"{age}_1_x.png")
    told: list[str] = []
    extra.folder(table, told.append, root=str(tmp_path), ages=[60, 70], task=MASK18)
    assert "extra.ages: 2 images with ages outside 60 to 70 were left out" in told
    lines = ["path,label,part,person", "99_1_x.png,3,train,a", "61_1_x.png,3,eval,b"]
    (tmp_path / "more.csv").write_text("\n".join(lines))
    grown = extra.table_(table, told.append, file=str(tmp_path / "more.csv"), task=MASK18)
    assert grown["id"].tolist() == ["0.png", "extra/61_1_x.png", "extra/99_1_x.png"]
    assert f"extra: 1 images of {tmp_path}/more.csv have part eval but are trained on" in told


def test_words_of_labels_without_effect_are_named() -> None:
    told: list[str] = []
    table = persons(3, 0).assign(age=[20.0] * 6 + [np.nan] * 6)
    labels.plain(table, told.append, drop=[[10, 30], [70, 80]], task=MASK18)
    assert told == [
        "labels.drop: no image has an age from 70 to 80",
        "labels: border, soft and drop do not apply to 6 training images without an age in years",
    ]
    labels.plain(table, told.append, task=MASK18)
    assert len(told) == 2


def test_a_leak_is_shown_at_the_end_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = ["LEAK: split x puts 2 people on both sides", "LEAK: 1 images belong to several people", "labels: 0 photos"]
    oof = {"f1": 0.5, "accuracy": 0.5, "photos": 1} | dict.fromkeys(MASK18.score_names, 0.5)
    closing = {"folds": [], "eval": None, "oof": oof, "people_on_both_sides": 2, "notes": notes}
    run = Run(tmp_path / "t-0")
    run.create({"hardware": "cpu"})  # of an older version, without a task
    print_summary(run, closing)
    shown = "".join(capsys.readouterr())
    assert shown.count("LEAK: ") == 2 and notes[1] in shown


def test_a_sheet_of_photos_finds_the_other_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / unicodedata.normalize("NFD", "é.png")
    Image.new("RGB", (6, 8)).save(path)
    (tmp_path / "my.csv").write_text(unicodedata.normalize("NFD", "path\né.png\n"), encoding="utf-8")
    assert select_images(tmp_path / "my.csv", "*", 5) == [str(path)]


def persons(count: int, seed: int) -> pd.DataFrame:
    """Return a table of people with several photos each; the labels of some disagree."""
    random = np.random.default_rng(seed)
    made = [
        (f"p{i}", mask, random.integers(0, 2), random.integers(0, 3)) for i in range(count) for mask in (0, 0, 1, 2)
    ]
    table = pd.DataFrame(made, columns=["person", "mask", "gender", "band"])
    steady = random.random(len(table)) < 0.8
    table["gender"] = np.where(steady, table.groupby("person")["gender"].transform("first"), table["gender"])
    table["label"] = MASK18.encode(table["mask"], table["gender"], table.pop("band"))
    table["id"] = table["path"] = [f"{row.person}/{i}" for i, row in enumerate(table.itertuples())]
    return table.assign(part="train", age=np.nan)


SPLITS = [split.by_person, split.holdout, split.holdout_images, split.stratified_label, split.stratified_age]


@QUICK
@given(some.sampled_from(SPLITS), some.integers(10, 40), some.integers(0, 99), some.integers(0, 99))
def test_folds_do_not_depend_on_the_order_of_rows(build: Any, count: int, seed: int, order: int) -> None:
    table = persons(count, seed)
    shuffled = table.sample(frac=1, random_state=order)
    mine, other = build(table, 3, 0, MASK18), build(shuffled, 3, 0, MASK18)
    pd.testing.assert_series_equal(other.loc[table.index], mine)
    assert other.index.equals(shuffled.index)
    assert stratified_order(shuffled, 0, task=MASK18) == stratified_order(table, 0, task=MASK18)


@pytest.fixture(scope="module")
def plain() -> Config:
    return validate(compose("name=t", "model=timm", "model.arch=test_resnet", "batch_size=4"))


def config(base: Config, table: pd.DataFrame, build: Any = split.by_person, **values: Any) -> Config:
    """Return a config whose data is a table."""
    mine = Component("data", "mine", {}, lambda note: table.copy(), task=MASK18)
    return dataclasses.replace(base, data=mine, split=Component("split", build.__name__, {}, build, task=MASK18), **values)


@pytest.mark.parametrize("build", SPLITS)
def test_the_table_of_a_run_does_not_depend_on_the_order_of_training_rows(
    plain: Config, build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "drop_unreadable", lambda cfg, table, note: table)
    table = persons(30, 0)
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    for more in ({}, {"people": 20}, {"eval_fraction": 0.3}):
        mine, other = (assemble_table(config(plain, t, build, **more), lambda note: None) for t in (table, shuffled))
        pd.testing.assert_frame_equal(mine, other)


@pytest.mark.parametrize("more", [{}, {"people": 9}, {"eval_fraction": 0.5}, {"people": 30, "eval_fraction": 0.5}])
def test_patches_mend_whoever_is_chosen(plain: Config, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "drop_unreadable", lambda cfg, table, note: table)
    given = competition_people()
    word = Component("labels", "plain", {**plain.labels.params, "patches": "extended"}, labels.plain, task=MASK18)
    told: list[str] = []
    made = assemble_table(config(plain, given, labels=word, folds=2, **more), told.append).set_index("id")
    whole = labels.plain(given, lambda note: None, patches="extended", task=MASK18).set_index("id")
    columns = ["mask", "gender", "age", "label"]
    pd.testing.assert_frame_equal(made[columns], whole.loc[made.index, columns])
    assert (made["trained"] == (whole.loc[made.index, "trained"] & (made["part"] == "train"))).all()
    assert len([note for note in told if note.startswith("labels: ")]) == 1
    assert made["part"].eq("eval").any() == ("eval_fraction" in more)


def test_patches_without_effect_say_why() -> None:
    told: list[str] = []
    labels.plain(persons(3, 0), told.append, patches="core", task=MASK18)
    assert "this data lacks 000020, 001498-1" in told[0]


def doubled(**second: Any) -> list[str]:
    """Return what is told of a table in which one photo stands twice, the second time with other values."""
    row = {"id": "a", "person": "p", "part": "train", "fold": 0, "scored": True, "label": 3, "content": "x"}
    others = [row | {"id": f"o{i}", "content": f"o{i}", "person": f"o{i}"} for i in range(3)]
    told: list[str] = []
    note_duplicate_images(pd.DataFrame([row, *others, row | {"id": "b"} | second]), told.append)
    return told


@pytest.mark.parametrize(
    ("second", "begin"),
    [
        ({"person": "q", "fold": 1}, "LEAK: 1 images belong to several people in several folds"),
        ({"person": "q"}, "1 images belong to several people"),
        (
            {"person": "q", "part": "eval", "fold": -1},
            "LEAK: 1 images are in both training and the labelled evaluation set",
        ),
        (
            {"person": "q", "part": "eval", "fold": -1, "scored": False},
            "1 images are in both training and the evaluation set",
        ),
        ({"label": 4}, "1 images have several labels"),
        ({"part": "eval", "scored": True}, "LEAK: 1 images are in both training and the labelled evaluation set"),
    ],
)
def test_a_photo_that_stands_twice_is_named(second: dict[str, Any], begin: str) -> None:
    (note,) = doubled(**second)
    assert note.startswith(begin) and note.endswith(f"a (p) = b ({second.get('person', 'p')})")


def test_copies_of_one_person_and_pseudo_labels_are_no_conflict() -> None:
    assert doubled() == [] == doubled(id="pseudo/b", part="extra", person="q")
    rest = pd.DataFrame([{"id": name, "person": name, "part": "eval", "fold": -1, "scored": False, "label": -1, "content": "x"}
                         for name in "ab"])  # fmt: skip
    note_duplicate_images(rest, pytest.fail)


@pytest.mark.parametrize("place", ["train", "eval"])
def test_a_run_over_a_photo_of_two_people_says_leak(place: str, people: Path, tmp_path: Path, tiny: list[str]) -> None:
    root = shutil.copytree(people, tmp_path / "data")
    faces = sorted((root / "train" / "images").glob("*/mask1.*"))
    folds = assemble_table(validate(compose(*tiny)), lambda note: None).set_index("id")["fold"]
    of = {face: folds[face.relative_to(root).as_posix()] for face in faces}
    first = faces[0]
    other = next(face for face in faces if of[face] != of[first] and face.suffix == first.suffix)
    shutil.copy(first, other if place == "train" else next((root / "eval" / "images").iterdir()))
    own = [word for word in tiny if not word.startswith(("data.", "cache_dir"))]
    told: list[str] = []
    assemble_table(
        validate(compose(*own, "data=competition", f"data.root={root}", f"cache_dir={tmp_path}")), told.append
    )
    (leak,) = [note for note in told if note.startswith("LEAK: 1 images")]
    assert f"{first.parent.name}/{first.name}" in leak


def test_a_variable_that_is_not_set_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASKCLS_OUTSIDE", raising=False)
    with pytest.raises(ConfigError) as caught:
        validate(compose("tried=outside"))
    assert caught.value.messages == (
        "extra.root: environment variable MASKCLS_OUTSIDE is not set. Set it or extra.root=…",
    )
