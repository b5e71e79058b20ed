"""Errors and signals that come together."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest

from maskcls.cli.exit_codes import run_command
from maskcls.core.errors import WORKER_KILLED
from maskcls.system import signals
from maskcls.system.console import exit_on_error


def test_the_error_of_a_killed_worker_that_comes_last_is_the_one_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(number: int, frame: Any) -> None:  # as torch's handler of SIGCHLD
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    def break_off() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(signals, "GRACE", 5)
    before = signal.signal(signal.SIGALRM, tell)
    try:
        with pytest.raises(SystemExit) as stop:
            exit_on_error(break_off)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stop.value.code == 2 and WORKER_KILLED in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("printed", [False, True], ids=["of a killed worker", "another"])
def test_an_error_in_a_finalizer_is_printed_unless_it_is_that_of_a_killed_worker(
    printed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Batches:
        def __del__(self) -> None:
            raise RuntimeError("a bug" if printed else "DataLoader worker (pid 7) is killed by signal: Terminated. ")

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    signals.report_killed_workers_once()
    batches = Batches()
    del batches
    assert ("RuntimeError: a bug" in capsys.readouterr().err) is printed


@pytest.mark.parametrize(("sweep", "name", "code"), [(None, "SIGTERM", 143), ("s1", "SIGTERM", 0), ("s1", "SIGHUP", 129)])
def test_a_run_that_a_sweep_ends_early_has_exit_code_0(
    sweep: str | None, name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        raise signals.Stopped(getattr(signal, name))

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    if sweep:
        monkeypatch.setenv("WANDB_SWEEP_ID", sweep)
    with pytest.raises(SystemExit) as ended:
        run_command(stop)()
    assert ended.value.code == code and "run the same command to resume" in capsys.readouterr().err
