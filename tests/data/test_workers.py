"""Loader workers: limit by shared memory, timeouts, and exit with the parent process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, environment
from hypothesis import given
from hypothesis import strategies as st

from maskcls.components.hardware import Hardware, cpu
from maskcls.core.errors import RunError, as_user_error
from maskcls.data import loader
from maskcls.data.loader import (
    BATCHES_IN_USE,
    PREFETCH_FACTOR,
    CachedImages,
    SequentialBatchSampler,
    build_loader,
    limit_workers,
)
from maskcls.system import console, processes
from maskcls.system.processes import free_shared_memory

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 16, 12, 3), dtype=np.uint8)
ROWS = np.arange(40)
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="loader workers are forked")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    console.info_once.cache_clear()


def count_workers(free: int, hardware: Hardware, batch: int = 8) -> int:
    """Return how many workers a loader of small photos gets where so many bytes can be shared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "free_shared_memory", lambda: free)
        return limit_workers(CachedImages(PIXELS, None), SequentialBatchSampler(ROWS, batch), hardware)


@FORKS
@given(st.integers(0, 2**20), st.integers(0, 8), st.integers(1, 3), st.integers(1, 64))
def test_the_workers_batches_fit_into_what_is_free_and_one_more_worker_would_not(
    free: int, wanted: int, folds: int, batch: int
) -> None:
    count = count_workers(free, cpu(workers=wanted, folds_at_once=folds), batch)
    size = min(batch, 40) * (PIXELS[0].nbytes + 8)
    assert 0 <= count <= wanted
    assert count == 0 or (PREFETCH_FACTOR * count + BATCHES_IN_USE) * size * folds <= free
    pages = size + 2 * 4096
    assert count == wanted or (PREFETCH_FACTOR * (count + 1) + BATCHES_IN_USE) * pages > free // folds


@FORKS
def test_fewer_workers_than_wanted_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert count_workers(10**5, cpu(workers=4)) == 2
    told = capsys.readouterr().out
    assert told.count("hardware.workers=4 is lowered to 2") == 1 and "/dev/shm" in told
    assert count_workers(10**9, cpu(workers=4)) == 4 and "lowered" not in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")
def test_a_full_or_missing_shm_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SHARED", str(tmp_path / "none"))
    assert free_shared_memory() == 0
    monkeypatch.setattr(processes, "SHARED", str(tmp_path))
    assert free_shared_memory() > 0
    for free, told in ((2**20 - 1, 0), (2**20, 2**20)):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: shutil._ntuple_diskusage(2**30, 0, free))  # type: ignore[attr-defined]
        assert free_shared_memory() == told


@FORKS
def test_shared_memory_that_fills_up_on_the_way_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(part: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with pytest.raises(RuntimeError) as caught:
        list(build_loader(PIXELS, None, SequentialBatchSampler(ROWS, 8), cpu(workers=1)))
    said = as_user_error(caught.value)
    assert isinstance(said, RunError) and "/dev/shm is full" in str(said) and "hardware.workers=0" in str(said)
    assert len(list(build_loader(PIXELS, None, SequentialBatchSampler(ROWS, 8), cpu()))) == 5, (
        "without workers nothing is shared"
    )


@FORKS
@pytest.mark.slow
def test_a_batch_that_does_not_come_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(image: np.ndarray, seed: int) -> np.ndarray:
        if loader.get_worker_info():
            time.sleep(600)
        return image

    monkeypatch.setattr(loader, "TIMEOUT", 1)
    with pytest.raises(RuntimeError) as caught:
        list(build_loader(PIXELS, sleep, SequentialBatchSampler(ROWS, 8), cpu(workers=1)))
    assert "the data loader timed out" in str(as_user_error(caught.value))


LOAD = """
import multiprocessing, time, numpy as np
from maskcls.components.hardware import cpu
from maskcls.data.loader import SequentialBatchSampler, build_loader
source = build_loader(np.zeros((400, 16, 12, 3), np.uint8), None, SequentialBatchSampler(np.arange(400), 4), cpu(workers=3))
batches = iter(source)
next(batches)
print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="whether a process lives is read from /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(how: signal.Signals, tmp_path: Path) -> None:
    call = [sys.executable, "-c", LOAD]
    with subprocess.Popen(call, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(workers) == 3
        parent.send_signal(how)
        parent.wait(10)
    end = time.monotonic() + 2  # torch alone notices after up to five seconds
    while left := [pid for pid in workers if lives(pid)]:
        assert time.monotonic() < end, f"{left} go on"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    """Return True if a process runs; one that has ended and waits to be reaped does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def can_mount() -> bool:
    """Return True if this process may mount a file system of its own."""
    call = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm"]
    return bool(shutil.which("unshare")) and subprocess.run(call, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def in_small_shm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command where /dev/shm is of a given size; skip the test where nothing can be mounted."""
    if not can_mount():
        pytest.skip("a /dev/shm of 2 MB needs the right to mount (unshare --mount)")

    def call(size: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
        script = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *words],
            cwd=place, env=environment(), capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    return call


@pytest.mark.slow
@pytest.mark.parametrize(("size", "count"), [("64k", 0), ("8m", 1)])
def test_a_run_with_a_small_shm_comes_to_its_end(
    size: str, count: int, in_small_shm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = [*TINY, "epochs=1", "crop.height=256", "crop.width=160", "hardware.workers=4"]  # 2 MB a batch
    done = in_small_shm(size, tmp_path, "-m", "maskcls.run", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"hardware.workers=4 is lowered to {count}" in done.stdout and "/dev/shm" in done.stdout
    assert list(tmp_path.glob("runs/t-*/metrics.json"))


@pytest.mark.slow
def test_a_shm_that_is_full_in_spite_of_all_ends_in_a_sentence(
    in_small_shm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    script = "from maskcls import run; from maskcls.data import loader; loader.free_shared_memory = lambda: 10**9; run.main()"
    words = [*TINY, "epochs=1", "crop.height=256", "crop.width=160", "hardware.workers=2"]
    done = in_small_shm("2m", tmp_path, "-c", script, *words)
    assert done.returncode == 2 and "/dev/shm is full" in done.stderr, done.stderr[-3000:]
    assert "hardware.workers=0" in done.stderr and "Traceback" not in done.stderr
