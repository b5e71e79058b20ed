"""A tiny embedded set, drawn once for all tests, and the two ways to drive a run: in this process and as a command."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # here and in commands: their numbers are compared to the bit
os.environ["WANDB_MODE"] = "offline"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # no test depends on a network, nor waits for one
os.environ.pop("MASKCLS_DATA", None)

SIZE = {"people": 14, "eval_people": 4, "height": 64, "width": 48}
TINY = (
    "name=t", "epochs=2", "folds=2", "batch_size=16", "crop.height=32", "crop.width=24", "model=timm",
    "model.arch=test_efficientnet", "model.pretrained=false", "logger=none", "hardware=cpu", *[f"data.{key}={value}" for key, value in SIZE.items()],
)  # fmt: skip


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a slow test that would begin after SLOW_TESTS_UNTIL (seconds since 1970): a check has a limited time."""
    until = os.environ.get("SLOW_TESTS_UNTIL")
    if until and item.get_closest_marker("slow") and time.time() > float(until):
        pytest.skip("NOT RUN, for want of time")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the timeouts with which an unreachable hub is asked; nothing is cached."""
    asked: list[Any] = []

    def refuse(address: Any, timeout: Any = None, *rest: Any, **more: Any) -> None:
        asked.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", refuse)
    set_hub(tmp_path, monkeypatch)
    return asked


@pytest.fixture
def reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub answer; nothing is cached."""
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: socket.socket())
    set_hub(tmp_path, monkeypatch)


def set_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub be asked, without a proxy, and with a cache of this test's own."""
    from huggingface_hub import constants

    from maskcls.storage import hub

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "first_connection_error", functools.cache(hub.connection_error))


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder (data.root) in which the tiny set lies; the command finds it there and draws nothing."""
    from maskcls.components.data import synthetic
    from maskcls.core.competition import MASK18

    root = tmp_path_factory.mktemp("data")
    synthetic(lambda note: None, root=str(root), seed=0, **SIZE, task=MASK18)
    return root


@pytest.fixture(scope="session")
def people(drawn: Path) -> Path:
    """Return the tiny set's own folder, in the competition's layout."""
    (place,) = drawn.glob("people-*")
    return place


@pytest.fixture
def tiny(drawn: Path, tmp_path: Path) -> list[str]:
    """Return the overrides of a run of seconds, with folders of its own."""
    return [*TINY, f"data.root={drawn}", f"runs_dir={tmp_path}/runs", f"cache_dir={drawn}/cache"]


@pytest.fixture(scope="session")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Return the words and the folder of a finished run of one epoch; to be copied, never changed."""
    from maskcls.config.compose import compose
    from maskcls.engine.runner import run

    folder = tmp_path_factory.mktemp("finished")
    words = [*TINY, "epochs=1", f"data.root={drawn}", f"cache_dir={drawn}/cache"]
    run(compose(*words, f"runs_dir={folder}/runs"))
    (place,) = (folder / "runs").glob("t-*")
    return words, place


@pytest.fixture
def linked(finished: tuple[list[str], Path], tmp_path: Path) -> tuple[list[str], Path]:
    """Return the words of a finished run and its folder, made of hard links: a file is replaced, never written to."""
    words, place = finished
    shutil.copytree(place, tmp_path / "runs" / place.name, copy_function=os.link)
    return [*words, f"runs_dir={tmp_path}/runs"], tmp_path / "runs" / place.name


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `python -m maskcls.<name> …` in an empty folder."""

    def call(*arguments: str, name: str = "run", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *(["maskcls.run"] if name == "run" else ["maskcls", name]), *arguments], cwd=tmp_path, env=environment(**variables),
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
        )  # fmt: skip

    return call


def environment(**variables: str) -> dict[str, str]:
    """Return this environment with the package importable from any folder, and one thread."""
    source = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
