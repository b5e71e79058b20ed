"""What is the same is known by content: changed data, weights and source runs are another run, or a sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskcls import cache, contents
from maskcls.contents import file_digests
from maskcls.errors import DataError
from maskcls.parts import crop
from maskcls.registry import Word

RESIZE = Word("crop", "resize", {"height": 8, "width": 6}, crop.resize)
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files that were read for their digest; files of this second are remembered as older ones are."""
    monkeypatch.setattr(contents, "RECENT", -1.0)
    read, seen = contents.read_digest, []
    monkeypatch.setattr(contents, "read_digest", lambda path: (seen.append(path), read(path))[1])
    return seen


def same_size_and_time(path: Path, content: bytes) -> None:
    """Overwrite a file with a content of the same size, and give it back its time of change."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, remembered: list[str]) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    for path in paths:
        Path(path).write_bytes(path.encode())
    first = file_digests(paths, tmp_path / "cache")
    assert len(set(first)) == 3 and len(remembered) == 3
    assert file_digests([*paths, paths[0]], tmp_path / "cache") == [*first, first[0]] and len(remembered) == 3
    same_size_and_time(Path(paths[1]), b"?" * len(paths[1]))
    assert file_digests(paths, tmp_path / "cache")[1] != first[1] and remembered[3:] == [paths[1]]
    os.remove(paths[2])
    with pytest.raises(DataError, match="c cannot be read: No such file"):
        file_digests(paths, tmp_path / "cache")


def test_a_file_of_this_moment_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    file_digests([str(tmp_path / "a")], tmp_path)
    assert not contents.load_known(tmp_path / contents.STORE)


@pytest.mark.parametrize("store", ["", "[]", "{}", '{"/a": 1}', '{"/a": ["x", "y"]}', '{"/a": ["1 2 3 4", null]}'])
def test_a_broken_store_is_begun_anew_and_one_that_cannot_be_written_is_done_without(
    store: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / contents.STORE).write_text(store)
    expected = file_digests([str(tmp_path / "a")], tmp_path)
    assert file_digests([str(tmp_path / "a")], tmp_path / "a" / "nowhere") == expected


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_not_a_file_is_not_waited_for(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(DataError, match="a is not a file"):
        file_digests([str(tmp_path / "a")], tmp_path)


CHANGES = st.lists(
    st.tuples(st.sampled_from(["write", "swap", "rename", "touch", "copy"]), st.integers(0, 3), st.integers(0, 3)),
    max_size=6,
)


@FAST
@given(CHANGES)
def test_a_digest_is_that_of_the_bytes_after_any_changes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int, int]]
) -> None:
    place = tmp_path_factory.mktemp("files")
    files = [place / f"{i}" for i in range(4)]
    for i, file in enumerate(files):
        file.write_bytes(bytes([i]) * 100)
    for step, (kind, i, j) in enumerate(changes):
        file_digests([str(file) for file in files], place / "cache")
        change(kind, files[i], files[j], step)
    found = file_digests([str(file) for file in files], place / "cache")
    whole = [file.read_bytes() for file in files]
    assert [[a == b for a in found] for b in found] == [[a == b for a in whole] for b in whole]
    assert found == file_digests([str(file) for file in files], place / "empty")


def change(kind: str, one: Path, other: Path, step: int) -> None:
    """Change files as people do: in place with a kept time, by swapping two, by renaming back and forth."""
    if kind == "write":
        same_size_and_time(one, bytes([100 + step]) * 100)
    elif kind == "touch":
        os.utime(one, (step, step))
    elif kind == "copy" and one != other:
        shutil.copy2(one, other)
    elif kind in ("swap", "rename") and one != other:
        spare = one.with_name("spare")
        for source, goal in ((one, spare), (other, one), (spare, other)):
            source.rename(goal)


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    """Return a table of four bitmaps of one size, each of one grey."""
    table = pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(4)]})
    for i, path in enumerate(table["path"]):
        Path(path).write_bytes(bitmap(50 * i))
    return table


def bitmap(grey: int) -> bytes:
    """Return an image file whose size says nothing of its content."""
    import cv2

    return cv2.imencode(".bmp", np.full((16, 12, 3), grey, np.uint8))[1].tobytes()


def test_pixels_are_those_of_the_photos_as_they_are_now_and_follow_them_when_they_move(
    photos: pd.DataFrame, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    assert cache.pixels(photos, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    same_size_and_time(Path(photos["path"][1]), bitmap(7))
    assert cache.pixels(photos, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 7, 100, 150]
    moved = tmp_path / "moved"
    moved.mkdir()
    there = photos.assign(path=[shutil.move(path, moved) for path in photos["path"]])
    assert cache.pixels(there, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 7, 100, 150]
    assert len(cache.sets(root)) == 2, "the same photos elsewhere are not decoded again"


def test_photos_that_change_while_they_are_decoded_make_no_cache(
    photos: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(path: str, word: crop.Crop) -> np.ndarray:
        if not changed:  # at the first photo, before the others are read side by side
            changed.append(path)
            same_size_and_time(Path(photos["path"][3]), bitmap(7))
        return real(path, word)

    real, changed = cache.decoded, list[str]()
    monkeypatch.setattr(cache, "decoded", decoded)
    with pytest.raises(DataError, match=r"1 of 4 photos changed while the command ran, first .*3\.png"):
        cache.pixels(photos, RESIZE, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("pixels.npy"))


def test_photos_that_changed_since_the_table_was_made_are_refused(photos: pd.DataFrame, tmp_path: Path) -> None:
    table = photos.assign(content=file_digests(list(photos["path"]), tmp_path))
    cache.pixels(table, RESIZE, tmp_path / "cache")
    same_size_and_time(Path(photos["path"][2]), bitmap(7))
    with pytest.raises(DataError, match="photos changed while the command ran"):
        cache.pixels(table, RESIZE, tmp_path / "cache")
