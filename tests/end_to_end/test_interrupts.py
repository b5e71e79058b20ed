"""SIGTERM, SIGHUP and Ctrl-C stop a command with one sentence, the exit code of the signal and whole epochs on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import environment

from maskcls.storage.checkpoint import load_checkpoint
from maskcls.storage.run_files import read_history
from maskcls.system import signals
from maskcls.system.signals import Stopped, exit_code, stop_on_signals

SENTENCE = "interrupted; run the same command to resume from the last completed epoch\n"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def start(
    tmp_path: Path, words: list[str], before: tuple[str, ...] = (), nohup: bool = False, folds: int = 1
) -> subprocess.Popen[str]:
    """Start a run in a process group of its own and return it once so many folds have kept an epoch."""

    def reset() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)

    child = subprocess.Popen(
        [sys.executable, *before, "-m", "maskcls.run", *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, text=True, start_new_session=True, preexec_fn=reset,
    )  # fmt: skip
    while child.poll() is None and len([*tmp_path.glob("runs/*/fold*/last.pt")]) < folds:
        time.sleep(0.05)
    return child


def assert_whole(tmp_path: Path) -> None:
    """Assert that each last epoch was kept whole."""
    assert [load_checkpoint(file) for file in tmp_path.glob("runs/t-*/fold*/last.pt")]
    assert all(read_history(run / "log.jsonl") for run in (tmp_path / "runs").glob("t-*"))


@pytest.mark.parametrize(
    ("name", "code"),
    [("SIGTERM", 143), *(pytest.param(*other, marks=pytest.mark.slow) for other in [("SIGHUP", 129), ("SIGINT", 130)])],
)
def test_a_signal_says_how_to_go_on(name: str, code: int, tiny: list[str], tmp_path: Path) -> None:
    child = start(tmp_path, [*tiny, "epochs=500"])
    os.kill(child.pid, getattr(signal, name))
    _, text = child.communicate(timeout=60)
    assert (child.returncode, text) == (code, SENTENCE)
    assert_whole(tmp_path)


KINDS = {
    "workers": ["hardware.workers=2"],
    "folds at once": ["hardware.folds_at_once=2", "hardware.workers=2"],
    "a sweep": ["-m", "loss=ce,focal"],
    "a sweep by joblib": ["-m", "loss=ce,focal", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True], ids=["the process", "its group"])
@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_ends_all_that_belongs_to_the_command(kind: str, group: bool, tiny: list[str], tmp_path: Path) -> None:
    child = start(tmp_path, [*tiny, "epochs=500", *KINDS[kind]], folds=2 if "joblib" in kind or "once" in kind else 1)
    (os.killpg if group else os.kill)(child.pid, signal.SIGTERM)
    _, text = child.communicate(timeout=60)
    assert (child.returncode, text) == (143, SENTENCE)
    assert_whole(tmp_path)
    assert len([*(tmp_path / "runs").glob("t-*")]) == (2 if "joblib" in kind else 1), "the sweep went on"
    deadline = time.monotonic() + 20
    while is_alive(child.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(child.pid), "a process of the command outlived it"


def is_alive(group: int) -> bool:
    """Return True if a process of a process group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_the_ranks_of_torchrun_say_it_once(tiny: list[str], tmp_path: Path) -> None:
    child = start(tmp_path, [*tiny, "epochs=500"], tuple(TORCHRUN))
    os.kill(child.pid, signal.SIGTERM)
    _, text = child.communicate(timeout=60)
    ours = text.partition("Traceback")[0]  # torchrun itself ends with a trace of its own
    assert child.returncode and text.count(SENTENCE) == ours.count(SENTENCE) == 1
    assert "maskcls" not in text.partition("Traceback")[2].replace(str(Path(sys.prefix)), "")
    assert_whole(tmp_path)


@pytest.mark.slow
def test_nohup_is_respected(tiny: list[str], tmp_path: Path) -> None:
    child = start(tmp_path, [*tiny, "epochs=3"], nohup=True)
    os.kill(child.pid, signal.SIGHUP)
    _, text = child.communicate(timeout=60)
    assert (child.returncode, text) == (0, "")


def test_the_first_signal_unwinds_and_a_second_one_does_not_disturb() -> None:
    with pytest.raises(Stopped) as caught, stop_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert exit_code(caught.value) == 143 and exit_code(KeyboardInterrupt()) == 130


def test_a_later_signal_stops_again_where_the_first_exception_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "UNWINDING", 0.05)

    class Finalizer:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)  # what its handler raises is reported and dropped by Python

    monkeypatch.setattr(sys, "unraisablehook", lambda unraised: None)
    with pytest.raises(Stopped), stop_on_signals():
        Finalizer()
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_handlers_are_those_of_before_afterwards_and_threads_have_none() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    seen: list[object] = []

    def enter() -> None:
        with stop_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_forked_process_ends_as_without_a_handler() -> None:
    with stop_on_signals():
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
