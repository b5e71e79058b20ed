"""What may stand in the place of a file, and a watch: for the tests of run folders from others."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some

from maskcls.core.errors import MaskclsError, RunError

Harm = Callable[[Path], None]
SECONDS = 20  # for a reader, on a busy machine
LETTERS = 1500  # of what is said
FEW = settings(max_examples=60, deadline=timedelta(seconds=SECONDS), suppress_health_check=list(HealthCheck))


class Late(BaseException):
    """A reader that waits; no reader catches it."""


@contextlib.contextmanager
def hurried(seconds: float = SECONDS) -> Iterator[None]:
    """Interrupt what takes longer than this."""

    def ring(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def replaced(file: Path, content: bytes | str) -> Path:
    """Write a file that was a hard link."""
    file.unlink(missing_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def said_of(reader: Callable[[], Any]) -> str:
    """Return the one sentence with which a reader refuses."""
    with hurried(), pytest.raises(RunError) as caught:
        reader()
    assert len(str(caught.value)) < LETTERS and len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def rewritten(file: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a checkpoint's content."""
    content = torch.load(file, weights_only=True)
    content = change(content) or content
    file.unlink()
    torch.save(content, file)
    return file


def pipe(file: Path) -> None:
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.mkdir()


def zeros(file: Path) -> None:
    file.symlink_to("/dev/zero")


def loop(file: Path) -> None:
    file.symlink_to(file.name)


def door(file: Path) -> None:
    here = os.getcwd()
    os.chdir(file.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
    finally:
        os.chdir(here)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def noise(file: Path) -> None:
    file.write_bytes(np.random.default_rng(0).bytes(4096))


def huge(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(2**40)


def deep(file: Path) -> None:
    file.write_bytes(b"[" * 100_000)


def deeper(file: Path) -> None:
    file.write_bytes(b'{"a": ' * 5000 + b"1" + b"}" * 5000)


def listed(file: Path) -> None:
    file.write_text("[1, 2]")


def laughs(file: Path) -> None:
    file.write_text("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)))


def merges(file: Path) -> None:
    lines = [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30)]
    file.write_text("a0: &a0 {x: 1}\n" + "".join(lines))


TEXT = some.text(max_size=12) | some.sampled_from(
    ["\x1b]0;x\x07", "a\0b", "../x", "/etc/passwd", "${oc.env:HOME}", "<b>", "=1+1", "\n"]
)
LEAF = (
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | TEXT
    | some.sampled_from([10**400, 2**63, -1, 1e308])
)
VALUE = some.recursive(
    LEAF, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@some.composite
def changed(draw: some.DrawFn, content: Any) -> Any:
    """Draw a value within some content, and put another one in its place."""
    if isinstance(content, dict) and content and draw(some.integers(0, 5)):
        key = draw(some.sampled_from(sorted(content)))
        return content | {key: draw(changed(content[key]))}
    if isinstance(content, list) and content and draw(some.integers(0, 5)):
        i = draw(some.integers(0, len(content) - 1))
        return [*content[:i], draw(changed(content[i])), *content[i + 1 :]]
    return draw(VALUE)


def passes_or_says(reader: Callable[[], Any]) -> None:
    """Call a reader: it returns, or raises one sentence."""
    with hurried():
        try:
            reader()
        except MaskclsError as error:
            assert str(error) and len(str(error)) < LETTERS
