"""Killed anywhere (kill -9), asked again: the same bytes as uninterrupted, and nothing half-written on the way."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import TINY, environment
from zygote import Zygote

from maskcls.storage.checkpoint import load_checkpoint
from maskcls.system.processes import num_cpus
from maskcls.system.safe_reading import read_json, read_npz, read_yaml

SAME = (
    "metrics.json",
    "oof.csv",
    "eval.csv",
    "data.json",
    "table.csv",
    "fold*/best.pt",
    "fold*/last.pt",
    "fold*/oof.npz",
)
READERS: dict[str, Callable[[Path], object]] = {
    ".json": read_json, ".yaml": read_yaml, ".npz": read_npz, ".pt": load_checkpoint,
    ".csv": lambda path: path.read_text().endswith("\n") or pytest.fail(f"{path} is cut off"),
    ".html": lambda path: path.read_text().rstrip().endswith("</html>") or pytest.fail(f"{path} is cut off"),
}  # fmt: skip
SEED = 20


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: its bytes, how long it took and how many changes of files it made."""

    bytes: dict[str, bytes]
    names: set[str]
    seconds: float
    changes: int


def words(drawn: Path, place: Path, folds: int, *more: str) -> list[str]:
    """Return the command line of a run in a place of its own."""
    return [*TINY, f"folds={folds}", f"data.root={drawn}", f"runs_dir={place}/runs", f"cache_dir={place}/cache", *more]


def run_of(place: Path) -> Path:
    """Return the folder of the one run in a place."""
    (found,) = (place / "runs").glob("t-*")
    return found


def kept(run: Path) -> dict[str, bytes]:
    """Return the bytes of the files that must not depend on how often a run was killed."""
    files = [file for pattern in SAME for file in sorted(run.glob(pattern))]
    return {
        str(f.relative_to(run)): numbers(load_checkpoint(f)) if f.suffix == ".pt" else f.read_bytes() for f in files
    }


def numbers(content: object) -> bytes:
    """Return the bytes of all that a checkpoint holds (the file's own bytes also tell which equal objects are one)."""
    if isinstance(content, torch.Tensor):
        return f"{content.dtype}{tuple(content.shape)}".encode() + content.contiguous().numpy().tobytes()
    if isinstance(content, dict):
        return b"".join(str(key).encode() + numbers(value) for key, value in content.items())
    return b"".join(map(numbers, content)) if isinstance(content, list) else repr(content).encode()


def names(place: Path) -> set[str]:
    """Return the names of all files of a run and its cache."""
    return {
        str(file.relative_to(place)) for top in ("runs", "cache") for file in (place / top).rglob("*") if file.is_file()
    }


@pytest.fixture(scope="session")
def whole(zygote: Zygote, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Whole]:
    """Return a function that gives the uninterrupted run of so many folds, made once."""
    made: dict[int, Whole] = {}

    def of(folds: int) -> Whole:
        if folds not in made:
            place = tmp_path_factory.mktemp(f"whole{folds}")
            begun = time.monotonic()
            zygote.finish(place, words(drawn, place, folds))
            seconds, changes = time.monotonic() - begun, int((place / "log.changes").read_text())
            made[folds] = Whole(kept(run_of(place)), names(place), seconds, changes)
        return made[folds]

    return of


def all_whole(place: Path) -> int:
    """Read each file that stands under its own name, none of which may be half-written; return how many there are."""
    files = [file for file in (place / "runs").rglob("*") if file.suffix in READERS and file.name[0] != "."]
    for file in files:
        try:
            READERS[file.suffix](file)
        except Exception:
            if file.exists():  # else another process, which goes on, has removed it since
                raise
    return len(files)


def assert_same(place: Path, one: Whole) -> None:
    """Assert that a run has ended as the uninterrupted one, file for file, and left nothing else."""
    found = kept(run_of(place))
    assert found.keys() == one.bytes.keys()
    assert [name for name in found if found[name] != one.bytes[name]] == []
    ledgers = {f"runs/{path.name}" for path in (place / "runs").glob("sweep-*.jsonl")}
    assert names(place) - ledgers - {"runs/multirun.yaml"} == one.names  # that file is Hydra's, of a sweep


def points(one: Whole, count: int) -> list[tuple[str, float]]:
    """Return moments spread over a run, drawn at random from equal parts of it: two in three by changes of files."""
    chance = random.Random(SEED)
    by_change = count - count // 3
    step = one.changes / by_change
    found: list[tuple[str, float]] = [("change", 1 + int((i + chance.random()) * step)) for i in range(by_change)]
    return found + [("time", (i + chance.random()) * one.seconds / (count // 3)) for i in range(count // 3)]


def kill(zygote: Zygote, place: Path, call: list[str], how: str, when: float) -> bool:
    """Start a run and kill it at a moment; return False where it was over before."""
    pid = zygote.start(place, call, at=int(when) if how == "change" else None)
    if how == "time":
        time.sleep(when)
        os.kill(pid, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
    return zygote.wait(pid) == -signal.SIGKILL


def survive(zygote: Zygote, drawn: Path, tmp_path: Path, one: Whole, folds: int, count: int) -> None:
    """Kill and repeat a run at so many moments; where it was over before its moment, the moment comes earlier."""
    for i, (how, when) in enumerate(points(one, count)):
        place, call = tmp_path / str(i), words(drawn, tmp_path / str(i), folds)
        while not kill(zygote, place, call, how, when):
            when *= 0.6
            shutil.rmtree(place)
        all_whole(place)
        zygote.finish(place, call)
        assert_same(place, one)


@pytest.mark.slow
def test_three_kills_change_no_byte(zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path) -> None:
    survive(zygote, drawn, tmp_path, whole(2), 2, 3)


@pytest.mark.slow
def test_thirty_kills_spread_over_a_five_fold_run_change_no_byte(
    zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path
) -> None:
    survive(zygote, drawn, tmp_path, whole(5), 5, 30)


@pytest.mark.slow
def test_one_run_killed_again_and_again_comes_to_the_same_end(
    zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path
) -> None:
    one, place, kills = whole(5), tmp_path / "again", 0
    call = words(drawn, place, 5)
    while zygote.wait(zygote.start(place, call, at=one.changes // 5 + 3 * kills)) == -signal.SIGKILL:
        kills += 1  # each a little later: what closes a run is written in one go
        all_whole(place)
        assert kills < 100, "it does not come further"
    assert kills >= 4
    assert_same(place, one)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it is over
        found += [int(folder.name)] if parent == pid else []
    return found


def lives(pid: int) -> bool:
    """Tell whether a process is not over."""
    with suppress(OSError):
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # empty: nobody has asked for its exit code
    return False


def workers(pid: int) -> list[int]:
    """Return the forked children of a process: they have its own command line (git, which it asks too, has another)."""
    found = []
    for child in children(pid):
        with suppress(OSError):
            if Path(f"/proc/{child}/cmdline").read_bytes() == Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(child)
    return found


def first_worker(pid: int) -> int:
    """Wait for a process to fork a worker and return its id."""
    end = time.monotonic() + 60
    while not (found := workers(pid)):
        assert time.monotonic() < end
        time.sleep(0.002)
    return found[0]


def kill_worker(pid: int, place: Path, delay: float) -> int:
    """Kill a loader's worker of a run some seconds after it began, and return the run's process id."""
    end = time.monotonic() + 60
    while (
        not (place / "log").exists() or "decoding" not in (place / "log").read_text()
    ):  # from here on the only children are the loader's
        assert time.monotonic() < end
        time.sleep(0.002)
    first_worker(pid)
    time.sleep(delay)
    for child in workers(pid)[:1]:
        with suppress(ProcessLookupError):  # it ended with its fold
            os.kill(child, signal.SIGKILL)
    return pid


def survive_worker(zygote: Zygote, drawn: Path, folder: Path, one: Whole, folds: int, delay: float) -> None:
    """Kill a loader's worker so many seconds after the first one began; the run ends, and is asked for again."""
    for again in range(
        8
    ):  # a run that was over before its worker was killed is tried again, with a kill twice as early
        place = folder / f"w{again}"
        call = words(drawn, place, folds, "hardware.workers=1")
        code = zygote.wait(kill_worker(zygote.start(place, call), place, delay / 2**again))
        if code:
            break
    said = (place / "log").read_text()
    assert code == 2, said
    assert "a worker process was killed" in said and "Traceback" not in said
    all_whole(place)
    zygote.finish(place, call)
    assert_same(place, one)


@pytest.mark.slow
def test_a_killed_loader_worker_ends_in_a_sentence_and_asking_again_changes_no_byte(
    zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path
) -> None:
    survive_worker(zygote, drawn, tmp_path, whole(2), 2, 0.0)


@pytest.mark.slow
def test_thirty_killed_loader_workers_of_a_run_change_no_byte(
    zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path
) -> None:
    one, chance = whole(2), random.Random(SEED)
    for i in range(30):
        (tmp_path / str(i)).mkdir()
        survive_worker(zygote, drawn, tmp_path / str(i), one, 2, (i + chance.random()) * one.seconds / 30)


@pytest.mark.slow
def test_two_multiruns_of_five_folds_on_one_directory_killed_and_asked_again_change_no_byte(
    zygote: Zygote, whole: Callable[..., Whole], drawn: Path, tmp_path: Path
) -> None:
    one, chance, kills, rounds = whole(5), random.Random(SEED), 0, 0
    with closing(Zygote()) as other:
        while kills < 30:  # what was over before its kill does not count
            rounds += 1
            assert rounds <= 60, f"only {kills} kills came before the end"
            place = tmp_path / str(rounds)
            call = ["-m", *words(drawn, place, 5), "fold=0,1,2,3,4"]
            first, second = zygote.start(place, call), other.start(place, call)
            time.sleep(chance.random() * one.seconds / 2)
            os.kill(first, signal.SIGKILL)  # the other one goes on while the first is asked for again
            kills += zygote.wait(first) == -signal.SIGKILL
            all_whole(place)
            first = zygote.start(place, call)
            time.sleep(chance.random() * one.seconds / 2)
            os.kill(second, signal.SIGKILL)
            codes = (zygote.wait(first), other.wait(second))
            kills += codes[1] == -signal.SIGKILL
            assert codes[0] == 0 and codes[1] in (0, -signal.SIGKILL), (place / "log").read_text()[-3000:]
            zygote.finish(place, call)
            assert_same(place, one)


@pytest.mark.slow
def test_killed_while_people_are_drawn_nobody_is_left_behind_and_asking_again_draws_all(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "maskcls.run", *TINY, "epochs=1", f"data.root={tmp_path}", "data.people=15"]
    process = subprocess.Popen(call, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(list(tmp_path.glob(".people-*/train/images/*/*.*"))) < 20:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # else it might come to its end before its kill
    below = [pid for child in children(process.pid) for pid in (child, *children(child))]
    process.kill()
    process.wait()
    assert len(below) >= 3 or num_cpus() == 1, "a server, a tracker, and who draws"
    while any(map(lives, below)):
        assert time.monotonic() < end, "a process waits for work for ever"
        time.sleep(0.05)
    assert not list(tmp_path.glob("people-*"))
    again = subprocess.run(
        call, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert again.returncode == 0, again.stderr
    (drawn,) = tmp_path.glob("people-*")
    assert len(list(drawn.glob("train/images/*"))) == 15 and not list(tmp_path.glob(".people-*.part"))
