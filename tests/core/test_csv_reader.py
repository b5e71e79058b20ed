"""CSV tables: error messages with file, row or column, and property tests of any content."""

from __future__ import annotations

import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image

from maskcls.components.data import competition, table
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError, MaskclsError
from maskcls.core.table import column_indices, table_columns

HANGS = timedelta(seconds=20)
QUICK = settings(max_examples=80, deadline=HANGS, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=1500, deadline=HANGS, suppress_health_check=list(HealthCheck))
PLAIN = "path,mask,gender,age\na.jpg,worn,male,29\nsub/b.png,incorrect,female,60\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three photos, and a person of the competition's layout."""
    base = tmp_path_factory.mktemp("base")
    person = "train/images/000001_female_Asian_45"
    for name in ("a.jpg", "sub/b.png", "Größe.jpg", f"{person}/mask1.jpg", f"{person}/normal.jpg"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 8)).save(base / name)
    (base.parent / "outside.jpg").write_bytes((base / "a.jpg").read_bytes())
    return base


def read(base: Path, content: bytes, **more: Any) -> pd.DataFrame:
    (base / "my.csv").write_bytes(content)
    return table(lambda note: None, task=MASK18, file=str(base / "my.csv"), **more)


BAD: dict[str, tuple[str | bytes, str]] = {
    "a path of no file outside": (PLAIN.replace("a.jpg", "../nothing.jpg"), "line 2: file "),
    "a path of no file from the root": (PLAIN.replace("a.jpg", "/etc/nothing"), "my.csv line 2: file /etc/nothing does not exist"),
    "a path that is a folder": (PLAIN.replace("a.jpg", "sub"), "does not exist"),
    "a path of no file": (PLAIN.replace("a.jpg", "c.jpg"), "does not exist"),
    "no path": (PLAIN.replace("a.jpg", ""), "does not exist"),
    "a path that is too long": (PLAIN.replace("a.jpg", "x" * 5000), "does not exist"),
    "a path with a zero byte": (PLAIN.replace("a.jpg", "a\0.jpg"), "my.csv"),
    "one path twice": (PLAIN + "./a.jpg,worn,male,29\n", "line 4: duplicate path './a.jpg'"),
    "a word for mask": (PLAIN.replace("worn", "wron"), "line 2: unknown mask 'wron', did you mean 'worn'?"),
    "a word for gender": (PLAIN.replace(",male", ",mael"), "line 2: unknown gender 'mael', did you mean 'male'?"),
    "an age that is NaN": (PLAIN.replace("29", "NaN"), "line 2: age must be a number of years from 0 to 120, got 'NaN'"),
    "an age below 0": (PLAIN.replace("29", "-1"), "line 2: age must be a number of years from 0 to 120, got '-1'"),
    "an absurd age": (PLAIN.replace("29", "1e9"), "line 2: age must be a number of years from 0 to 120, got '1e9'"),
    "an infinite age": (PLAIN.replace("29", "inf"), "line 2: age must be a number of years from 0 to 120, got 'inf'"),
    "an age with an underscore": (PLAIN.replace("29", "2_9"), "line 2: age must be a number of years from 0 to 120, got '2_9'"),
    "a year of birth": (PLAIN.replace("29", "1990"), "line 2: age must be a number of years from 0 to 120, got '1990'"),
    "a label that is no class": ("path,label\na.jpg,18\n", "line 2: label must be a class from 0 to 17, got '18'"),
    "a label of many digits": ("path,label\na.jpg," + "9" * 5000 + "\n", "label must be a class from 0 to 17, got '99"),
    "a part": ("path,label,part\na.jpg,3,trian\n", "line 2: unknown part 'trian', did you mean 'train'?"),
    "two columns of one name": (PLAIN.replace("gender", "mask"), "my.csv: duplicate column 'mask'"),
    "a column misspelt": (PLAIN.replace("path", "pth"), "my.csv: missing column 'path', got pth, mask, gender, age. Rename 'pth'"),
    "a column missing": ("path,mask\na.jpg,worn\n", "missing age, gender"),
    "a row of too many cells": (PLAIN.replace("29", "29,x"), "line 2: expected 4 cells, got 5"),
    "a row of too few cells": (PLAIN.replace(",29", ""), "line 2: expected 4 cells, got 3"),
    "a quote that never ends": (PLAIN.replace("worn", '"worn'), "my.csv line"),
    "no row": ("path,label\n", "my.csv has a header but no rows"),
    "nothing": ("", "my.csv is empty"),
    "UTF-16": (PLAIN.encode("utf-16"), "my.csv: not UTF-8 text. Save it as CSV in UTF-8"),
    "Latin-1": (PLAIN.replace("a.jpg", "Größe.jpg").encode("latin-1"), "my.csv: not UTF-8 text"),
    "a photo": (b"\xff\xd8\xff\xe0\0\x10JFIF", "my.csv: not UTF-8 text"),
    "a cell of a megabyte": (PLAIN.replace("worn", "w" * 10**6), "my.csv"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_table_has_its_sentence(what: str, base: Path) -> None:
    content, words = BAD[what]
    with pytest.raises(DataError) as caught:
        read(base, content if isinstance(content, bytes) else content.encode())
    assert words in str(caught.value) and str(base) in str(caught.value)
    assert len(caught.value.messages) == 1 or "quote" in what


@pytest.mark.parametrize("root", ["nowhere", "a.jpg", "x" * 300])
def test_a_root_that_is_no_folder_is_named(root: str, base: Path) -> None:
    (base / "my.csv").write_text(PLAIN)
    with pytest.raises((DataError, ValueError), match=r"expected an existing folder"):
        table(lambda note: None, task=MASK18, file=str(base / "my.csv"), root=str(base / root))


def test_a_name_that_is_no_utf8_is_told(base: Path, tmp_path: Path) -> None:
    from maskcls.components.extra import folder

    shutil.copy(base / "a.jpg", bytes(tmp_path) + b"/30_0_\xff.jpg")
    with pytest.raises(DataError, match=r"the file name is not valid UTF-8\. Rename it"):
        folder(pd.DataFrame(), lambda note: None, root=str(tmp_path), task=MASK18)


CELLS = some.sampled_from(
    ["a.jpg", "./a.jpg", "sub/b.png", "Größe.jpg", "../outside.jpg", "/etc/passwd", "sub", "", "worn", "incorrect", "none",
     "male", "female", "femal", "29", "60", "-1", "nan", "1e999", "0", "17", "18", "train", "eval", "000001_female_Asian_45"]
) | some.text(max_size=12)  # fmt: skip
HEADERS = some.lists(
    some.sampled_from(["path", "mask", "gender", "age", "label", "person", "part", "id", "pth", ""]) | some.text(max_size=5),
    min_size=1, max_size=8,
)  # fmt: skip
FULL = some.sampled_from([["path", "mask", "gender", "age"], ["path", "label"], ["path", "label", "age", "part", "person"],
                          ["id", "gender", "race", "age", "path"]])  # fmt: skip


@some.composite
def sheets(draw: some.DrawFn) -> bytes:
    """Draw a CSV, mostly one that is almost right, as the bytes of a file."""
    if draw(some.integers(0, 9)) == 0:
        return draw(some.binary(max_size=200))
    header = draw(FULL | HEADERS)
    width = some.just(len(header)) | some.integers(0, 9)
    rows = [
        header,
        *[draw(some.lists(CELLS, min_size=(n := draw(width)), max_size=n)) for _ in range(draw(some.integers(0, 5)))],
    ]
    comma, end = draw(some.sampled_from(",;\t|")), draw(some.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    mark = draw(some.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + end.join(comma.join(row) for row in rows).encode("utf-8", "surrogatepass")


def right_or_told(base: Path, file: Path, content: bytes) -> None:
    """Read a table: either it has the columns and no wrong row, or sentences name what is wrong."""
    file.write_bytes(content)
    try:
        if file.name == "my.csv":
            rows = table(lambda note: None, task=MASK18, file=str(file))
        else:
            rows = competition(lambda note: None, root=str(base), task=MASK18)
    except MaskclsError as error:
        assert error.messages
        named = [sentence for sentence in error.messages if str(base) in sentence or sentence.startswith("…")]
        assert len(named) == len(error.messages), error.messages
        return
    assert list(rows.columns) == table_columns(MASK18) and len(rows)
    assert rows["label"].between(-1, 17).all() and (column_indices(rows, MASK18) >= 0).any(1)[rows["part"] == "train"].all() and rows["id"].is_unique
    named = ("../outside.jpg", "/etc/passwd")  # a path of a table may leave its folder, a link may not
    assert all(Path(path).resolve().is_relative_to(base) or path.endswith(tuple(n[2:] for n in named)) for path in rows["path"])


@pytest.mark.parametrize("value", ["val", "dev set", "한"])
@pytest.mark.parametrize(("column", "old"), [("mask", "worn"), ("gender", "male"), ("part", "train")])
def test_the_remedy_for_an_unknown_value_reads_it(base: Path, column: str, old: str, value: str) -> None:
    header = "path,mask,gender,part,age\n"
    for i, name in enumerate(("a.jpg", "sub/b.png")):
        header += f"{name},worn,male,train,29\n".replace(f",{old},", f",{value if i == 0 else old},")
    with pytest.raises(DataError) as caught:
        read(base, header.encode())
    (text,) = caught.value.messages
    remedy = re.search(r"(?:set |: )'?(data\.values=.+?)'?$", text)
    assert remedy, text
    word = re.sub(r"(?<=: )[^ {}]+(?=\}\})", old, remedy[1])
    params = validate(compose("data=table", f"data.file={base / 'my.csv'}", word)).data.params
    assert table(lambda note: None, task=MASK18, **params)["label"].tolist() == [0, 0]


@QUICK
@given(content=sheets())
def test_any_table_is_read_or_told(base: Path, content: bytes) -> None:
    right_or_told(base, base / "my.csv", content)


@QUICK
@given(content=sheets())
def test_any_list_of_people_is_read_or_told(base: Path, content: bytes) -> None:
    right_or_told(base, base / "train" / "train.csv", content)


@pytest.mark.slow
@LONG
@given(content=sheets(), people=some.booleans())
def test_any_of_many_tables_is_read_or_told(base: Path, content: bytes, people: bool) -> None:
    right_or_told(base, base / ("train/train.csv" if people else "my.csv"), content)
