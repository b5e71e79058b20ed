"""Run: name, config, data digest, provenance, history, and the file functions below it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import yaml

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import RunError
from maskcls.storage import run as run_module
from maskcls.storage.run import Run, run_content
from maskcls.system.files import atomic_write, content_hash, file_lock, write_json, write_npz, write_text
from maskcls.system.safe_reading import read_npz


def test_a_fingerprint_is_of_content_and_not_of_order() -> None:
    one = content_hash({"a": 1, "b": {"c": [1, 2], "d": None}})
    assert len(one) == 8 and int(one, 16) >= 0
    assert one == content_hash({"b": {"d": None, "c": [1, 2]}, "a": 1})
    others = [{"a": 2, "b": {"c": [1, 2], "d": None}}, {"a": 1, "b": {"c": [2, 1], "d": None}}, {"a": 1}, {"a": "1"}]
    assert len({one, *map(content_hash, others)}) == 5


def test_a_fingerprint_stays_the_same_for_ever() -> None:
    assert content_hash({"loss": {"name": "ce"}, "seed": 0, "clip": None, "lr": 1e-3}) == "564f16bc"


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "größe\n")
    assert path.read_text(encoding="utf-8") == "größe\n" and os.listdir(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644
    write_text(path, "new")
    assert path.read_text() == "new"


def test_where_filling_fails_the_old_file_stays_and_no_part_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fill(file: IO[bytes]) -> None:
        file.write(b"half of the ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(path, fill)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_where_filling_a_new_file_fails_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "a.txt", lambda file: file.write(bytes(1 // 0)))
    assert os.listdir(tmp_path) == []


def test_nan_is_no_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"f1": 0.5})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"f1": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"f1": 0.5} and os.listdir(tmp_path) == ["a.json"]


def test_arrays_come_back_and_are_never_unpickled(tmp_path: Path) -> None:
    arrays = {"ids": np.array(["a/ö.jpg", "b.jpg"]), "probs": np.eye(2, 18, dtype=np.float32)}
    write_npz(tmp_path / "a.npz", **arrays)
    back = read_npz(tmp_path / "a.npz")
    assert set(back) == {"ids", "probs"}
    assert all(np.array_equal(back[k], v) and back[k].dtype == v.dtype for k, v in arrays.items())
    write_npz(tmp_path / "b.npz", evil=np.array([Path("x")], dtype=object))
    with pytest.raises(RunError, match=r"cannot read .*b\.npz \("):
        read_npz(tmp_path / "b.npz")


def test_the_directory_is_named_by_its_content(tmp_path: Path) -> None:
    def run_of(*overrides: str) -> Run:
        return Run.of(validate(compose(f"runs_dir={tmp_path}", *overrides)))

    run, cfg = run_of("name=t"), validate(compose("name=t"))
    assert run.path == tmp_path / f"t-{content_hash(run_content(cfg))}" and run.id == run.path.name
    assert run_of("name=t", "seed=9").path != run.path != run_of("name=u").path
    assert run.fold_dir(3) == run.path / "fold3" and run.checkpoint_path(3) == run.path / "fold3" / "best.pt"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "t-0")


def test_opening_writes_the_config_anew(run: Run) -> None:
    run.create({"b": 1, "a": {"name": "ü"}})
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"b": 1, "a": {"name": "ü"}}
    run.create({"other": 2})
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"other": 2}


def test_a_run_is_done_once_its_metrics_stand_and_a_fold_once_its_predictions_do(run: Run) -> None:
    run.create({"name": "t"})
    assert run.metrics() is None and not run.fold_is_done(1)
    write_npz(run.fold_dir(1) / "oof.npz", probs=np.zeros((1, 18)))
    assert run.fold_is_done(1) and not run.fold_is_done(0)
    scores = dict.fromkeys(("f1", "accuracy", "mask_f1", "gender_f1", "age_f1"), 0.5) | {"photos": 3}
    done = {"folds": [scores | {"fold": 0}], "oof": scores, "eval": None, "people_on_both_sides": 0}
    write_json(run.path / "metrics.json", done)
    assert run.metrics() == done


def test_a_run_refuses_to_go_on_over_other_data(run: Run) -> None:
    run.bind_data("abcd1234", 70)
    run.bind_data("abcd1234", 70)
    for data, photos in (("ffff0000", 70), ("abcd1234", 71)):
        with pytest.raises(RunError) as caught:
            run.bind_data(data, photos)
        assert str(run.path) in str(caught.value) and "70 images, hash abcd1234" in str(caught.value)
        assert f"now {photos}, hash {data}" in str(caught.value)
    run.bind_data("abcd1234", 70)


def test_facts_are_added_to_those_that_stand(run: Run) -> None:
    run.add_provenance(host="a", calls=1)
    run.add_provenance(calls=2)
    assert json.loads((run.path / "about.json").read_text()) == {"host": "a", "calls": 2}


def test_the_log_keeps_the_latest_of_a_repeated_epoch_in_order(run: Run) -> None:
    assert run.history() == []
    for fold, epoch, f1 in ((1, 1, 0.1), (0, 1, 0.2), (0, 2, 0.3), (0, 2, 0.4), (0, 10, 0.5)):
        run.append_epoch({"fold": fold, "epoch": epoch, "f1": f1})
    assert [(row["fold"], row["epoch"], row["f1"]) for row in run.history()] == [
        (0, 1, 0.2), (0, 2, 0.4), (0, 10, 0.5), (1, 1, 0.1),
    ]  # fmt: skip


def test_a_line_that_a_killed_process_left_is_skipped(run: Run) -> None:
    run.append_epoch({"fold": 0, "epoch": 1})
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"fold": 0, "epo')
    assert run.history() == [{"fold": 0, "epoch": 1}]


@pytest.mark.parametrize("half", ['{"fold": 0, "epo', '{"fold": 0, "epoch": 2}'])
def test_what_is_appended_after_half_a_line_is_kept(run: Run, half: str) -> None:
    run.append_epoch({"fold": 0, "epoch": 1})
    with (run.path / "log.jsonl").open("a") as file:
        file.write(half)
    run.append_epoch({"fold": 0, "epoch": 2})
    run.append_epoch({"fold": 0, "epoch": 3})
    assert [row["epoch"] for row in run.history()] == [1, 2, 3]


HOLD = """
import sys
from pathlib import Path
from maskcls.system.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_lock_is_waited_for_and_dies_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / ".lock"
    command = [sys.executable, "-c", HOLD, str(lock)]
    top = str(Path(run_module.__file__).parents[2])
    with subprocess.Popen(
        command, cwd=top, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:  # fmt: skip
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        told: list[str] = []

        def waiting() -> None:
            told.append("waiting")
            other.kill()

        with file_lock(lock, waiting):
            assert told == ["waiting"] and other.wait(30) != 0
    with file_lock(lock, lambda: told.append("again")):
        assert told == ["waiting"]
