"""maskcls leaderboard in the terminal: the table, and errors before any work."""

from __future__ import annotations

import base64
import json
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import image_table, make_run
from made_tasks import MANY, STAGES, TWO
from rich.console import Console

from maskcls.cli import leaderboard
from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
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
        ("out=about.html", "out: about.html exists and is not a leaderboard. Choose another out=<name>.html"),
        ("out=notes.html", "out: notes.html exists and is not a leaderboard. Choose another out=<name>.html"),
        ("out=board.txt", "out: expected a name that ends in .html, got 'board.txt'"),
        ("out=runs", "out: expected a name that ends in .html, got 'runs'"),
        ("max_mb=0", "max_mb"), ("rows=no", "rows"), ("photo=3", "unknown key 'photo', did you mean 'photos'?"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence_and_write_nothing(argument: str, message: str, runs: Path, call: Call) -> None:
    Path("notes.html").write_text("mine")
    Path("about.html").write_text("<!doctype html><title>How to read the maskcls leaderboard</title>")
    error = call(argument, code=2)
    assert message in error and len(error.splitlines()) == 1
    assert Path("notes.html").read_text() == "mine" and "How to" in Path("about.html").read_text()
    assert not Path("leaderboard.html").exists()


def page_content() -> dict[str, Any]:
    """Return what the page shows of the runs."""
    packed = Path("leaderboard.html").read_text().split('id="data">')[1].split("<")[0]
    content: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return content


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of the first line of each run in the terminal."""
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    return [row for row in cells if row[0]]


def test_a_leak_is_neither_first_nor_the_baseline_and_other_folds_are_named(runs: Path, call: Call) -> None:
    table = image_table(25)
    leaky = make_run(runs / "z-1", table, 0.95)
    leaky.metrics_path.write_text(json.dumps((leaky.metrics() or {}) | {"people_on_both_sides": 3}))
    make_run(runs / "rows-1", image_table(24), 0.9)
    make_run(runs / "folds-1", table.assign(fold=(table["fold"] + 1) % 5), 0.3)
    text = call()
    found = rows_of(text)
    assert [row[0] for row in found] == ["rows-1", "sweep/b-1", "a-1", "folds-1", "z-1", "c-1"]
    assert [row[5] == "baseline" for row in found] == [False, True, False, False, False, False]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert " ".join(row[3] for row in cells).count("LEAK") == 1
    assert " ".join(row[5] for row in cells if row[5]).count("other folds") == 1


def test_only_leaky_runs_have_a_baseline_too(tmp_path: Path, call: Call) -> None:
    for i in range(2):
        run = make_run(tmp_path / "runs" / f"a-{i}", image_table(25), 0.5 + i / 10, seed=i)
        run.metrics_path.write_text(json.dumps((run.metrics() or {}) | {"people_on_both_sides": 3}))
    assert rows_of(call())[0][5] == "baseline"


def test_odd_numbers_and_names_do_not_prevent_the_page(runs: Path, call: Call) -> None:
    for i, value in enumerate(("NaN", "1e400", "1" * 400)):
        run = make_run(runs / f"odd-{i}", image_table(25), 0.5)
        run.history_path.write_text(f'{{"fold": 0, "epoch": 1, "seconds": {value}}}\n{{"fold": 0, "epoch": 2, "loss": {value}}}\n')
        metrics = json.dumps((run.metrics() or {}) | {"eval": {"f1": 12345.0, "accuracy": 0.5, "photos": 3}})
        run.metrics_path.write_text(metrics.replace("12345.0", "NaN"))
    name = os.fsdecode(b"caf\xe9-1")
    run = make_run(runs / name, image_table(25), 0.5)
    run.report_path.write_text("report")
    call()
    found = {run["name"]: run for run in page_content()["runs"]}
    assert len(found) == 7 and found["caf\\udce9-1"]["href"] == f"runs/caf%E9-1/{run.report_path.name}"
    assert all(found[f"odd-{i}"]["seconds"] in (None, 0.0) for i in range(3))


def test_only_runs_with_scores_are_counted_as_left_out(runs: Path, call: Call) -> None:
    call("max_mb=0.0001")
    assert page_content()["notes"][0].startswith("The last 2 runs with scores cannot be compared here: their predictions")
    call()
    assert page_content()["notes"] == []


def test_photos_without_a_recorded_digest_are_missing_with_the_reason(runs: Path, call: Call) -> None:
    call()
    (rows,) = page_content()["rows"].values()
    assert rows["missing"].startswith("175 of 175 images have no digest in table.csv") and not rows["photos"]


OTHER = Task((Attribute("colour", ("red", "blue")), Attribute("size", tuple(map(str, range(9))))), "field")


@pytest.fixture
def two_tasks(tmp_path: Path) -> Path:
    """Return a folder with two runs of another task and three of the competition's."""
    for i, (name, task) in enumerate(zip(("o-1", "o-2", "a-1", "a-2", "a-3"), (OTHER, OTHER, MASK18, MASK18, MASK18), strict=True)):
        loss = {"name": "focal", "gamma": float(i)}
        make_run(tmp_path / "runs" / name, image_table(25, task=task), 0.9 - i / 10, seed=i, loss=loss, task=task)
    return tmp_path / "runs"


def test_runs_of_other_tasks_have_a_table_and_a_baseline_of_their_own(two_tasks: Path, call: Call) -> None:
    text = call()
    assert [(row[0], row[5] == "baseline") for row in rows_of(text)] == [
        ("a-1", True), ("a-2", False), ("a-3", False), ("o-2", True), ("o-1", False),
    ]  # fmt: skip
    assert text.index("mask × gender × age") < text.index("a-1") < text.index("colour × size") < text.index("o-1")
    assert "Runs of different tasks have different classes, so they are not compared." in text
    assert "Intervals are over people or groups" in text
    content = page_content()
    assert [(one["name"], len(one["classes"]), one["baseline"]) for one in content["tasks"]] == [
        ("mask × gender × age", 18, 0), ("colour × size", 18, 0),
    ]  # fmt: skip
    assert [run["task"] for run in content["runs"]] == [0, 0, 0, 1, 1]
    assert {content["rows"][str(run["oof"]["rows"])]["task"] == run["task"] for run in content["runs"]} == {True}


@pytest.mark.parametrize("task", [MASK18, TWO, STAGES, MANY, Task(TWO.attributes[:1], None)])
def test_runs_of_any_task_are_shown(task: Task, tmp_path: Path, call: Call) -> None:
    for i in range(2):
        make_run(tmp_path / "runs" / f"a-{i}", image_table(25, 21, task=task), 0.5 + i / 10, seed=i, task=task)
    assert [row[0] for row in rows_of(call())] == ["a-1", "a-0"]
    (only,) = page_content()["tasks"]
    assert only["classes"] == list(task.classes) and only["name"] == " × ".join(task.names)


def test_a_named_baseline_is_that_of_its_task(two_tasks: Path, call: Call) -> None:
    rows = rows_of(call("baseline=o-2"))
    assert [row[0] for row in rows if row[5] == "baseline"] == ["a-1", "o-2"]


def test_a_run_whose_task_is_unknown_is_on_the_first_board(runs: Path, call: Call) -> None:
    make_run(runs / "x-1", image_table(25)).config_path.write_text("[")
    assert [row[0] for row in rows_of(call())] == ["sweep/b-1", "a-1", "c-1", "x-1"]


def test_what_is_skipped_is_named(runs: Path, call: Call) -> None:
    (runs / "sweep/config.yaml").touch()
    assert "runs/sweep is a folder of runs; its own config.yaml is skipped" in call()


def test_a_folder_without_runs_is_told(call: Call) -> None:
    Path("runs").mkdir()
    assert "runs contains no runs" in call()


def test_the_help_names_every_option(call: Call) -> None:
    text = call("--help")
    assert all(f"  {name}=" in text for name in ("runs_dir", "out", "baseline", "rows", "photos", "max_mb"))
