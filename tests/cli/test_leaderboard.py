"""maskcls leaderboard in the terminal: the table, and errors before any work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import image_table, make_run
from rich.console import Console

from maskcls.cli import leaderboard
from maskcls.system import console

Call = Callable[..., str]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder of three runs, one of them unfinished and one in a subfolder."""
    table = image_table(25)
    for i, name in enumerate(("a-1", "sweep/b-1", "c-1")):
        make_run(tmp_path / "runs" / name, table, 0.5 + i / 10, seed=i, loss={"name": "focal", "gamma": float(i)})
    (tmp_path / "runs/c-1/metrics.json").unlink()
    return tmp_path / "runs"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs the command in an empty folder and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "console", Console(highlight=False, emoji=False, soft_wrap=True, width=160))

    def output(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["maskcls leaderboard", *arguments])
        if code:
            with pytest.raises(SystemExit) as stop:
                leaderboard.main()
            assert stop.value.code == code
        else:
            leaderboard.main()
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return output


def test_the_terminal_shows_the_table_best_first(runs: Path, call: Call) -> None:
    lines = call().splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    first = [row for row in cells if row[0]]
    assert [row[0] for row in first] == ["sweep/b-1", "a-1", "c-1"]
    assert [row[1] for row in first] == ["sweep", "", ""] and first[0][5] == "baseline"
    assert first[1][5].startswith("-0.") and first[2][2].startswith("stopped") and "loss.gamma=1.0" in first[0][8]
    assert lines[-1].startswith("leaderboard.html: 3 runs, 0.")
    assert Path("leaderboard.html").stat().st_size < 150_000


def test_rows_and_baseline(runs: Path, call: Call) -> None:
    text = call("rows=1", "baseline=a-1", "out=x.html")
    assert "… and 2 more runs, on the page" in text and "baseline" not in text.split("evaluation F1")[1].split("sweep/b-1")[0][:5]
    assert not Path("leaderboard.html").exists() and Path("x.html").exists()
    call("out=x.html")  # an earlier page is replaced


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("runs_dir=run", "runs_dir: folder run does not exist"),
        ("runs_dir=runs/a-1", "runs_dir: runs/a-1 is a run, expected a folder of runs. Set runs_dir=runs"),
        ("baseline=a-2", "baseline: unknown run 'a-2', did you mean 'a-1'?"),
        ("baseline=c-1", "baseline: run c-1 has no scores (stopped before its closing metrics)"),
        ("out=notes.html", "out: notes.html exists and is not a leaderboard. Choose another out=<name>.html"),
        ("out=board.txt", "out: expected a name that ends in .html, got 'board.txt'"),
        ("out=runs", "out: expected a name that ends in .html, got 'runs'"),
        ("max_mb=0", "max_mb"), ("rows=no", "rows"), ("photo=3", "unknown key 'photo', did you mean 'photos'?"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence_and_write_nothing(argument: str, message: str, runs: Path, call: Call) -> None:
    Path("notes.html").write_text("mine")
    error = call(argument, code=2)
    assert message in error and len(error.splitlines()) == 1
    assert Path("notes.html").read_text() == "mine" and not Path("leaderboard.html").exists()


def test_a_folder_without_runs_is_told(call: Call) -> None:
    Path("runs").mkdir()
    assert "runs contains no runs" in call()


def test_the_help_names_every_option(call: Call) -> None:
    text = call("--help")
    assert all(f"  {name}=" in text for name in ("runs_dir", "out", "baseline", "rows", "photos", "max_mb"))
