"""`maskcls data`: what it prints and its page, for each source of data."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskcls.cli import data
from maskcls.core.competition import MASK18


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["maskcls data", *arguments])
    data.main()


def test_the_tiny_set_and_extra_photos_are_shown(
    drawn: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more").mkdir()
    cv2.imwrite(str(tmp_path / "more" / "61_1_x.png"), np.full((64, 48, 3), 9, np.uint8))
    call(monkeypatch, *tiny, "extra=folder", f"extra.root={tmp_path}/more", f"out={tmp_path}/d.html", "examples=1")
    shown = capsys.readouterr().out
    lines = {line.split("│")[1].strip(): line.split("│") for line in shown.splitlines() if line.startswith("│")}
    assert [cell.strip() for cell in lines["training"][2:5]] == ["98", "14", "7"]
    assert [lines[part][2].strip() for part in ("evaluation", "extra")] == ["28", "1"]
    assert sum(int(lines[str(i)][3]) for i in range(18)) == 98 and "64 × 48 (127)" in shown
    page = (tmp_path / "d.html").read_text()
    assert all(name.replace("<", "&lt;").replace(">", "&gt;") in page for name in MASK18.classes)
    assert page.count("data:image/jpeg") == sum(int(lines[str(i)][3]) > 0 for i in range(18))


@pytest.mark.parametrize("labels", [[0, 5, 5], list(range(1, 18)), list(range(18))])
def test_each_class_without_an_image_is_counted(
    labels: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(len(labels)):
        cv2.imwrite(f"{i}.png", np.full((8, 6, 3), 10 * i, np.uint8))
    rows = [f"{i}.png,{label},p{i}" for i, label in enumerate(labels)]
    Path("t.csv").write_text("\n".join(["path,label,person", *rows]))
    call(monkeypatch, "data=table", "data.file=t.csv", f"cache_dir={tmp_path}/cache")
    count = len(set(range(18)) - set(labels))
    assert f"Classes without a training image: {count or 'none'}\n" in capsys.readouterr().out


OWN = "task.attributes=[{name: colour, values: [red, \"짙은 풀색\"]}, {name: glasses, values: [yes, no]}, {name: stage, column: days, borders: [10], unit: days}]"


@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_task_of_ones_own_is_shown_in_its_words(
    num: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        cv2.imwrite(f"{i}.png", np.full((8, 6, 3), 10 * i, np.uint8))
    Path("t.csv").write_text("path,colour,glasses,days,field\n0.png,red,yes,3,a\n1.png,red,no,12,a\n2.png,짙은 풀색,yes,9,b\n3.png,red,yes,4,c\n")
    task = OWN if num == 3 else "}, ".join(OWN.split("}, ")[:num]) + "}]"
    call(monkeypatch, task, "task.group=field", "data=table", "data.file=t.csv", f"cache_dir={tmp_path}/cache")
    shown, page = capsys.readouterr().out, Path("data.html").read_text()
    assert ("Days of the" in shown) == (num == 3) == ("12 days" in page) and "years" not in shown + page
    assert "짙은 풀색" in shown and "mask" not in shown.replace("maskcls", "") and ("colour glasses" in shown) == (num > 1)
    assert f"Classes without a training image: {['none', 1, 5][num - 1]}" in shown


def test_help_tells_columns_words_and_the_order_of_classes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "-h")
    shown = capsys.readouterr().out
    assert "mask · 6 + gender · 3 + age class" in shown and "out=data.html" in shown
    assert all(word in shown for values in MASK18.values.values() for word in values)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["out=x.png"], "out: expected a name that ends in .html, got 'x.png'"), (["data=tabel"], "unknown data 'tabel', did you mean 'table'?"),
     (["data=table", "data.file=no.csv"], "data.file (table): expected an existing file, got 'no.csv'"), (["exampels=3"], "did you mean 'examples'?")],
)  # fmt: skip
def test_a_wrong_word_is_told(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(monkeypatch, *arguments)
    assert caught.value.code == 2 and words in capsys.readouterr().err
