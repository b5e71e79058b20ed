"""What files and tables are called never rules the terminal or the page: control characters are spelled out."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.inference.submission import write_labels
from maskcls.storage.predictions import Predictions
from maskcls.system import console
from maskcls.system.console import escape_controls, escape_value

NAMES = {  # as it is, as it is shown
    "red": ("a\x1b[31mb.jpg", r"a\x1b[31mb.jpg"),
    "title": ("\x1b]0;owned\x07.jpg", r"\x1b]0;owned\x07.jpg"),
    "start of the line": ("good\rbad.jpg", r"good\rbad.jpg"),
    "C1": ("a\x9b31mb.jpg", r"a\x9b31mb.jpg"),
    "another direction": ("a\u202egpj.exe", r"a\u202egpj.exe"),
    "no UTF-8": ("a\udcff.jpg", r"a\udcff.jpg"),
    "Korean": ("마스크 쓴 사람.jpg",) * 2,
    "decomposed Korean": ("마스크.jpg",) * 2,
    "others": ("Größe é 模 🙂👩‍👧 עברית [bold]x.jpg",) * 2,
}


def rules(text: str) -> set[str]:
    """Return the characters of a text that a terminal may obey, but for line ends."""
    return {c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2028"}


@pytest.mark.parametrize("what", NAMES)
def test_control_characters_are_spelled_out_and_letters_stay(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, shown = NAMES[what]
    out = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=out, width=500, highlight=False, emoji=False, soft_wrap=True))
    monkeypatch.setattr(console, "error_console", console.console)
    console.info(name)
    console.print_table(name, ["name"], [[name]])
    console.print_error(DataError(f"{name} cannot be read"), name)
    assert out.getvalue().count(shown) == 5 and not rules(out.getvalue())


@given(st.text())
def test_nothing_but_control_characters_changes(text: str) -> None:
    shown = escape_controls(text, keep="")
    assert not rules(shown) and "\n" not in shown and shown.encode() is not None
    assert shown == text or len(shown) > len(text)
    assert escape_controls(shown) == shown


def test_markup_of_a_page_stays() -> None:
    from markupsafe import Markup

    assert escape_value(Markup("\x1b<b>")) == "\x1b<b>" and escape_value("\x1b<b>") == r"\x1b<b>"
    assert escape_value(3) == 3 and escape_value(None) is None


@pytest.mark.parametrize("what", [what for what in NAMES if what != "no UTF-8"])
def test_a_table_of_answers_shows_no_control_characters(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, shown = NAMES[what]
    predictions = Predictions(np.array([name]), np.full((1, 18), 1 / 18, np.float32))
    write_labels(predictions, tmp_path / "photos.csv", False, MASK18)
    printed = capsys.readouterr().out
    assert shown.split("[")[0] in printed and not rules(printed)
    assert (
        pd.read_csv(tmp_path / "photos.csv", lineterminator="\n")["photo"][0] == name
    )  # a file of data has the name itself


def test_a_command_spells_out_what_a_bad_photo_is_called(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    (place / "a\x1b[31mb\u202e.jpg").write_bytes(b"no photo")
    Image.new("RGB", (8, 6)).save(place / "마스크.png")
    call = [sys.executable, "-m", "maskcls", "preview", f"source={place}", f"out={tmp_path / 'sheet.jpg'}"]
    shown = subprocess.run(call, capture_output=True, text=True, env=os.environ | {"PYTHONUTF8": "1"}, check=False)
    assert shown.returncode == 2 and not rules(shown.stdout + shown.stderr)
    assert r"a\x1b[31mb\u202e.jpg cannot be read as an image" in shown.stderr and "Traceback" not in shown.stderr
