"""Locks where the file system has none: marker files keep other processes out, and a killed process's is removed."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY, environment

from maskcls.system import console
from maskcls.system.files import file_lock, open_part_file, remove_stale_parts, write_text
from maskcls.system.locks import ABSENT, has_ended, part_file_prefix, read_writer

ABSENCE = """
import errno, fcntl, sys
from pathlib import Path
def refuse(file, how):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = refuse
"""
HOLD = (
    ABSENCE
    + """
from maskcls.system.files import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
)
COUNT = (
    ABSENCE
    + """
from maskcls.system.files import file_lock
total = Path(sys.argv[1])
for _ in range(25):
    with file_lock(total.with_name("lock")):
        total.write_text(str(int(total.read_text()) + 1))
"""
)
RUN = ABSENCE + "from maskcls import run; run.main()"


@pytest.fixture(params=sorted(ABSENT), ids=errno.errorcode.get)
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Emulate a file system without locks."""

    def refuse(file: object, how: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    console.info_once.cache_clear()
    yield
    console.info_once.cache_clear()


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Return a process that runs a script without file locks."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended_process() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        return process.pid


def test_without_flock_a_lock_is_a_marker_and_that_is_told_once(
    no_flock: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        with file_lock(tmp_path / "lock", lambda: pytest.fail("nobody holds it")):
            assert (tmp_path / "lock.soft").exists()
        assert not (tmp_path / "lock.soft").exists()
    told = capsys.readouterr().out
    assert told.count("no file locks") == 1 and "marker files" in told
    write_text(tmp_path / "a.txt", "whole")
    assert {file.name for file in tmp_path.iterdir()} == {"lock", "a.txt"}


def test_without_fcntl_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with file_lock(tmp_path / "lock"):
        assert (tmp_path / "lock.soft").exists()


def test_another_fault_of_flock_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output"), file_lock(tmp_path / "lock"):
        pass


def test_a_killed_process_leaves_a_marker_that_the_next_one_removes(
    no_flock: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock, told = tmp_path / "lock", []
    with start(HOLD, str(lock)) as other:
        assert other.stdout and other.stdout.readline().startswith("this file system has no file locks")
        assert other.stdout.readline() == "held\n"

        def waiting() -> None:
            told.append("waiting")
            other.kill()
            other.wait()

        with file_lock(lock, waiting):
            assert told == ["waiting"] and (tmp_path / "lock.soft").exists()
    assert f"lock.soft, left by process {other.pid}, which has ended" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_the_marker_of_another_host_is_waited_for_and_named(
    no_flock: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "lock.soft"
    marker.write_text(f"{ended_process()}\nelsewhere\n")
    with start(f"import time, os; time.sleep(1); os.remove({str(marker)!r})"):
        begun = time.monotonic()
        with file_lock(tmp_path / "lock"):
            assert time.monotonic() - begun > 0.2
    assert "locked by process" in (told := capsys.readouterr().out) and "of elsewhere" in told


def test_a_lock_is_not_held_twice(tmp_path: Path) -> None:
    total = tmp_path / "total"
    total.write_text("0")
    processes = [start(COUNT, str(total)) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=60) and process.returncode == 0
    assert total.read_text() == "100"


def test_without_flock_what_is_being_written_is_not_swept(no_flock: None, tmp_path: Path) -> None:
    file, part = open_part_file(tmp_path / "a.txt")
    dead = tmp_path / f".b.txt.{ended_process()}@{socket.gethostname()}.0000.part"
    others = [tmp_path / f".b.txt.{ended_process()}@elsewhere.0000.part", tmp_path / ".b.txt.0000.part"]
    for path in (dead, *others):
        path.write_text("half")
    remove_stale_parts(tmp_path)
    assert part.exists() and not dead.exists() and all(path.exists() for path in others)
    file.close()


@pytest.mark.parametrize("name", ["a.txt", "7@b.c.json", ".x", "a b@1.part"])
def test_a_parts_name_holds_its_writer(name: str, tmp_path: Path) -> None:
    file, part = open_part_file(tmp_path / name)
    file.close()
    assert read_writer(part) == (str(os.getpid()), socket.gethostname()) and part.name.startswith(part_file_prefix(name))


def test_only_a_process_of_this_host_is_known_to_have_ended() -> None:
    host, dead = socket.gethostname(), str(ended_process())
    assert has_ended(dead, host) and not has_ended(dead, "elsewhere") and not has_ended(str(os.getpid()), host)
    assert not any(has_ended(pid, host) for pid in ("", "x", "-1", "9" * 40, "1"))


@pytest.mark.slow
def test_a_run_without_flock_killed_and_asked_again_comes_to_its_end(drawn: Path, tmp_path: Path) -> None:
    words = [*TINY, f"data.root={drawn}", f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", "folds=2"]
    call = [sys.executable, "-c", RUN, *words]
    with subprocess.Popen(call, env=environment(), stdout=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("runs/*/fold0/lock.soft")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "no file locks" in again.stdout and f"left by process {process.pid}" in again.stdout
    assert list(tmp_path.glob("runs/*/metrics.json")) and not list(tmp_path.rglob("*.soft"))
    assert not list(tmp_path.rglob("*.part"))
