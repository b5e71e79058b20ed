"""Folds side by side: the numbers of one by one; a fault comes back as its sentence; no child outlives its parent."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import environment

import maskcls

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_folds_at_once_give_the_numbers_of_one_by_one(tiny: list[str], tmp_path: Path, command: Command) -> None:
    for count in (1, 2):
        done = command(*tiny, "epochs=1", f"hardware.folds_at_once={count}", f"runs_dir={tmp_path}/{count}")
        assert done.returncode == 0, done.stderr
    (one,), (two,) = (list((tmp_path / str(count)).glob("t-*")) for count in (1, 2))
    for name in ("metrics.json", "oof.csv", "eval.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert len((two / "log.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_the_fault_of_a_fold_comes_back_as_its_sentence(tiny: list[str], command: Command) -> None:
    result = command(*tiny, "optimizer=sgd", "optimizer.lr=1e30", "hardware.folds_at_once=2")
    assert result.returncode == 2 and "epoch 1: non-finite loss" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc")
def test_no_child_outlives_a_killed_parent(tiny: list[str], tmp_path: Path) -> None:
    call = [sys.executable, "-m", "maskcls.run", *tiny, "epochs=500", "hardware.folds_at_once=2"]
    parent = subprocess.Popen(
        call, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list((tmp_path / "runs").glob("*/log.jsonl")):
        assert parent.poll() is None
        time.sleep(0.1)
    children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
    assert len(children) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        left = [pid for pid in children if alive(pid)]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"{left} go on")


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("load", "own", "expected"),
    [
        (999.0, {}, "passive"), (0.0, {}, None), (999.0, {"OMP_WAIT_POLICY": "active"}, "active"),
        (999.0, {"GOMP_SPINCOUNT": "1000"}, None),
    ],
)  # fmt: skip
def test_waiting_threads_sleep_on_a_busy_machine_unless_the_environment_sets_it(
    load: float, own: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    for key in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(key, own.get(key, ""))
        if key not in own:
            monkeypatch.delenv(key)
    importlib.reload(maskcls)
    assert os.environ.get("OMP_WAIT_POLICY") == expected
