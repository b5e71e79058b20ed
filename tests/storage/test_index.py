"""The index of a folder of runs: every state, nested folders, and files that are damaged, half-written or of another version."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_runs import image_table, make_run

from maskcls.core.errors import ConfigError
from maskcls.storage.index import IndexedRun, find_run_dirs, read_runs
from maskcls.storage.run import Run
from maskcls.system.locks import is_locked

TABLE = image_table(5, 2)


def read(folder: Path) -> dict[str, IndexedRun]:
    """Return the runs of a folder by name."""
    return {run.name: run for run in read_runs(folder, find_run_dirs(folder))}


@pytest.fixture
def unfinished(tmp_path: Path) -> Run:
    """Return a run that was stopped in its third fold."""
    run = make_run(tmp_path / "a-1", TABLE)
    run.metrics_path.unlink()
    for k in (2, 3, 4):
        run.fold_predictions_path(k).unlink()
    rows = [row for row in run.history() if row["fold"] < 2 or (row["fold"] == 2 and row["epoch"] < 3)]
    run.history_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_runs_are_found_in_subfolders_and_other_folders_are_not_runs(tmp_path: Path) -> None:
    for name in ("b-1", "sweep/a-1", "sweep/deeper/c-1"):
        make_run(tmp_path / name, TABLE)
    for name in ("ladders", "empty", ".hidden/d-1", "b-1/fold0/e-1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".hidden/d-1/config.yaml").touch()
    (tmp_path / "b-1/fold0/e-1/config.yaml").touch()
    (tmp_path / "ladders/team.json").write_text("{}")
    found = read(tmp_path)
    assert list(found) == ["b-1", "sweep/a-1", "sweep/deeper/c-1"]
    assert {run.state for run in found.values()} == {"finished"} and found["b-1"].seconds == 5 * 3 * 1.5
    assert len({id(run.run.table) for run in found.values()}) == 1  # read once


@pytest.mark.parametrize("stray", ["config.yaml", "table.csv", "log.jsonl"])
@pytest.mark.parametrize("kind", ["finished", "unfinished"])
def test_a_folder_of_runs_with_a_stray_file_of_a_run_is_searched(stray: str, kind: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs/week/sweep/a-1", TABLE)
    if kind == "unfinished":
        run.metrics_path.unlink()
    (tmp_path / "runs/week" / stray).write_text("{}")
    (tmp_path / "runs" / stray).write_text("{}")
    notes: list[str] = []
    assert find_run_dirs(tmp_path / "runs", notes.append) == [run.path]
    folders = (tmp_path / "runs", tmp_path / "runs/week")
    assert notes == [f"{folder} is a folder of runs; its own {stray} is skipped" for folder in folders]


def test_a_run_in_a_run_is_found_and_an_unbegun_one_is_listed(tmp_path: Path) -> None:
    outer, inner = make_run(tmp_path / "a-1", TABLE), make_run(tmp_path / "a-1/old/b-1", TABLE)
    (tmp_path / "c-1").mkdir()
    (tmp_path / "c-1/config.yaml").touch()
    notes: list[str] = []
    assert find_run_dirs(tmp_path, notes.append) == [outer.path, inner.path, tmp_path / "c-1"] and not notes


def test_links_to_runs_are_followed_and_those_to_folders_of_runs_are_named(tmp_path: Path) -> None:
    make_run(tmp_path / "other/week/a-1", TABLE)
    (tmp_path / "photos/1").mkdir(parents=True)
    (tmp_path / "runs/sub").mkdir(parents=True)
    for name, target in (("one", "other/week/a-1"), ("sub/weeks", "other"), ("photos", "photos"), ("around", ".")):
        (tmp_path / "runs" / name).symlink_to(tmp_path / target)
    notes: list[str] = []
    assert find_run_dirs(tmp_path / "runs", notes.append) == [tmp_path / "runs/one"]
    path = tmp_path / "runs/sub/weeks"
    assert notes == [f"{path} is a link to a folder of runs and is skipped. Set runs_dir={path} for its runs"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan, notes = os.scandir, []  # permissions do not bind every user

    def refuse(path: str | Path) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    run = make_run(tmp_path / "a-1", TABLE)
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    assert find_run_dirs(tmp_path, notes.append) == [run.path]
    assert notes == [f"{tmp_path}/locked is skipped: Permission denied"]


BAD_NUMBERS = ["NaN", "1e400", "-1e400", "1e308", "9" * 400]


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("key", ["seconds", "loss", "epoch"])
def test_odd_numbers_in_the_log_leave_finite_seconds(key: str, value: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a-1", TABLE)
    with run.history_path.open("a") as file:
        for epoch in (9, 10):
            row = {"fold": 0, "epoch": epoch, "loss": 1.0, "seconds": 1.0, key: "value"}
            file.write(json.dumps(row).replace('"value"', value) + "\n")
    found = read(tmp_path)["a-1"]
    is_float = key == "loss" and value != "9" * 400  # a loss may diverge
    assert found.state == "finished" and len(found.history) == 15 + 2 * is_float
    assert found.seconds == 5 * 3 * 1.5 + 2 * is_float


@pytest.mark.parametrize("name", ["missing", "a-1"])
def test_a_folder_that_cannot_hold_runs_is_an_error(name: str, tmp_path: Path) -> None:
    make_run(tmp_path / "a-1", TABLE)
    remedy = "does not exist" if name == "missing" else f"is a run, expected a folder of runs. Set runs_dir={tmp_path}"
    with pytest.raises(ConfigError, match=remedy):
        find_run_dirs(tmp_path / name)


def test_an_empty_folder_has_no_runs(tmp_path: Path) -> None:
    assert find_run_dirs(tmp_path) == []


def test_a_stopped_run_has_its_fold_and_epoch(unfinished: Run) -> None:
    run = read(unfinished.path.parent)["a-1"]
    assert (run.state, run.detail) == ("stopped", "at fold 2, epoch 2 of 3; 2 of 5 folds finished")
    assert len(run.history) == 8 and run.config["loss"]["name"] == "ce"


def test_a_run_whose_fold_is_locked_is_running_and_is_not_disturbed(unfinished: Run) -> None:
    lock = unfinished.lock_path(2)
    assert not is_locked(lock) and not lock.exists()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert read(unfinished.path.parent)["a-1"].state == "running"
    assert read(unfinished.path.parent)["a-1"].state == "stopped"


def test_a_marker_file_locks_as_long_as_its_process_lives(unfinished: Run) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    marker = unfinished.lock_path(2).with_name("lock.soft")
    marker.write_text(f"{child.pid}\n{socket.gethostname()}\n")
    assert read(unfinished.path.parent)["a-1"].state == "running"
    child.communicate(b"\n")
    assert read(unfinished.path.parent)["a-1"].state == "stopped"


def test_a_run_that_has_only_its_config_or_only_its_predictions(unfinished: Run) -> None:
    for k in (2, 3, 4):
        shutil.copy(unfinished.fold_predictions_path(0), unfinished.fold_predictions_path(k))
    assert read(unfinished.path.parent)["a-1"].detail == "before its closing metrics"
    for path in unfinished.path.iterdir():
        if path != unfinished.config_path:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert read(unfinished.path.parent)["a-1"].detail == "at fold 0; 0 of 5 folds finished"


def test_a_concluded_run_has_the_epochs_of_its_folds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a-1", TABLE)
    metrics = run.metrics() or {}
    metrics["folds"][1] |= {"concluded": True, "epochs": 1}
    run.metrics_path.write_text(json.dumps(metrics))
    assert (read(tmp_path)["a-1"].state, read(tmp_path)["a-1"].detail) == ("concluded", "fold 1 after epoch 1")


def test_a_run_of_another_version_is_named_with_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a-1", TABLE, facts={"maskcls": "9.0"})
    run.metrics_path.write_text(json.dumps({"format": 9, "out_of_fold": 0.5}))
    found = read(tmp_path)["a-1"]
    assert found.state == "unreadable" and "metrics.json" in found.detail
    assert found.detail.endswith("(written by maskcls 9.0)") and found.config["seed"] == 0


def test_a_folder_without_a_config_says_so(tmp_path: Path) -> None:
    make_run(tmp_path / "a-1", TABLE).config_path.unlink()
    found = read(tmp_path)["a-1"]
    assert found.state == "unreadable" and found.detail.startswith("no config.yaml: the run has not started")


def test_a_run_that_is_deleted_while_it_is_read_is_unreadable(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name, TABLE).path for name in ("a-1", "b-1")]
    runs = read_runs(tmp_path, paths)
    assert next(runs).state == "finished"
    shutil.rmtree(paths[1])
    assert next(runs).state == "unreadable"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "binary": lambda content: os.urandom(200),
    "list": lambda content: b"[1, 2]",
    "deep": lambda content: b'{"a":' * 90 + b"1" + b"}" * 90,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "table.csv", "about.json", "log.jsonl"])
def test_a_damaged_file_makes_a_run_unreadable_with_one_line(name: str, damage: str, tmp_path: Path) -> None:
    path = make_run(tmp_path / "a-1", TABLE).path / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    found = read(tmp_path)["a-1"]
    if name == "log.jsonl":  # its bad lines are skipped
        assert found.state == "finished"
    else:
        assert found.state == "unreadable" and name in found.detail and "\n" not in found.detail


def test_a_cut_or_changed_file_is_never_an_error(tmp_path: Path) -> None:
    draw = random.Random(0)
    run = make_run(tmp_path / "a-1", TABLE)
    for _ in range(40):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(run.path, tmp_path / "copy" / "a-1")
        path = draw.choice([file for file in sorted((tmp_path / "copy").rglob("*")) if file.is_file()])
        content = bytearray(path.read_bytes())
        place = draw.randrange(len(content))
        content[place : place + 3] = draw.randbytes(draw.randrange(6))
        path.write_bytes(content[: draw.choice([place, None])])  # type: ignore[misc]
        (found,) = read(tmp_path / "copy").values()
        assert found.state in ("finished", "stopped", "unreadable")
