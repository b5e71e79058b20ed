"""Pixel cache: pixels equal to direct decoding, entries built once and atomically."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from maskcls.cli import cache
from maskcls.components import crop
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.core.registry import Component
from maskcls.data import pixel_cache
from maskcls.data.pixel_cache import allocate, list_entries, load_pixels, lock_path
from maskcls.system.files import file_lock, open_part_file

NONE = Component("crop", "none", {}, crop.none, task=MASK18)
CENTER = Component("crop", "center", {"height": 20, "width": 10}, crop.center, task=MASK18)
RESIZE = Component("crop", "resize", {"height": 16, "width": 12}, crop.resize, task=MASK18)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{i}{ending}" for i, ending in enumerate([".jpg", ".png", ".jpeg"] * 4)]
    for path in paths:
        assert cv2.imwrite(str(path), random.integers(0, 256, (32, 24, 3), dtype=np.uint8))
    return pd.DataFrame({"path": [str(path) for path in paths]})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def rgb(path: str) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)


def left(root: Path) -> list[str]:
    """Return the files of a cache's sets."""
    return [file.name for file in root.rglob("*") if file.is_file() and file.suffix != ".lock" and file.parent != root]


@pytest.mark.parametrize("word", [NONE, CENTER, RESIZE])
def test_the_cache_equals_direct_decoding(table: pd.DataFrame, root: Path, word: Component) -> None:
    pixels = load_pixels(table, word, root)
    expected = np.stack([word.build()(rgb(path)) for path in table["path"]])
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, expected)
    assert isinstance(pixels, np.memmap) and not pixels.flags.writeable


def test_rows_come_in_the_order_of_the_table(table: pd.DataFrame, root: Path) -> None:
    pixels = load_pixels(table, NONE, root)
    assert np.array_equal(load_pixels(table.iloc[::-1], NONE, root), pixels[::-1])


def test_a_second_call_decodes_nothing(table: pd.DataFrame, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_pixels(table, RESIZE, root)
    (file,) = root.rglob("pixels.npy")
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(pixel_cache, "read_cropped", None)
    assert np.array_equal(load_pixels(table, RESIZE, root), first)
    assert file.stat().st_mtime_ns == before and sorted(left(root)) == ["facts.json", "pixels.npy"]


def test_a_process_killed_while_it_wrote_the_facts_leaves_nothing(table: pd.DataFrame, root: Path) -> None:
    load_pixels(table, RESIZE, root)
    (folder,) = (path.parent for path in root.glob("*/facts.json"))
    before = sorted(folder.iterdir())
    for file in before:
        file.unlink()
    open_part_file(folder / "facts.json")[0].close()  # its lock ends with the process
    load_pixels(table, RESIZE, root)
    assert sorted(folder.iterdir()) == before


def test_another_crop_or_a_changed_photo_is_decoded_anew(table: pd.DataFrame, root: Path) -> None:
    first = load_pixels(table, NONE, root)
    assert load_pixels(table, RESIZE, root).shape == (12, 16, 12, 3)
    assert load_pixels(table, Component("crop", "resize", {"height": 8, "width": 8}, crop.resize, task=MASK18), root).shape[1] == 8
    path = table["path"][1]
    assert cv2.imwrite(path, 255 - cv2.imread(path))
    os.utime(path, ns=(1, 1))
    changed = load_pixels(table, NONE, root)
    assert np.array_equal(changed[1], 255 - first[1]) and np.array_equal(
        np.delete(changed, 1, 0), np.delete(first, 1, 0)
    )


def test_a_grey_photo_and_one_with_alpha_become_rgb(tmp_path: Path, root: Path) -> None:
    grey, alpha = str(tmp_path / "g.png"), str(tmp_path / "a.png")
    Image.new("L", (6, 8), 77).save(grey)
    Image.new("RGBA", (6, 8), (10, 20, 30, 255)).save(alpha)
    pixels = load_pixels(pd.DataFrame({"path": [grey, alpha]}), NONE, root)
    assert pixels.shape == (2, 8, 6, 3)
    assert (pixels[0] == 77).all() and (pixels[1] == [10, 20, 30]).all()


def test_a_photo_that_was_taken_sideways_stands_upright(tmp_path: Path, root: Path) -> None:
    photo = np.zeros((8, 32, 3), np.uint8)
    photo[:, :16] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to show it
    Image.fromarray(photo).save(tmp_path / "s.jpg", exif=exif, quality=100, subsampling=0)
    pixels = load_pixels(pd.DataFrame({"path": [str(tmp_path / "s.jpg")]}), NONE, root)
    assert pixels.shape == (1, 32, 8, 3)
    assert (pixels[0, :12, :, 0] > 200).all() and (pixels[0, 20:] < 50).all()


@pytest.mark.parametrize("broken", [(0,), (5,), (0, 4), (3, 4, 11)])
@pytest.mark.parametrize("content", [b"", b"no photo"])
def test_photos_that_cannot_be_read_are_all_named_and_leave_nothing(
    table: pd.DataFrame, root: Path, broken: tuple[int, ...], content: bytes
) -> None:
    for i in broken:
        Path(table["path"][i]).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_pixels(table, NONE, root)
    assert sorted(caught.value.messages) == sorted(f"{table['path'][i]} cannot be read as an image" for i in broken)
    assert not left(root)


def test_a_mended_photo_is_read_the_next_time(table: pd.DataFrame, root: Path) -> None:
    whole = Path(table["path"][5]).read_bytes()
    Path(table["path"][5]).write_bytes(b"no photo")
    with pytest.raises(DataError):
        load_pixels(table, NONE, root)
    Path(table["path"][5]).write_bytes(whole)
    assert np.array_equal(load_pixels(table, NONE, root)[5], rgb(table["path"][5]))


def test_photos_of_two_sizes_need_a_crop(table: pd.DataFrame, root: Path) -> None:
    assert cv2.imwrite(table["path"][7], np.zeros((40, 30, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        load_pixels(table, NONE, root)
    text = str(caught.value)
    assert "needs images of one size, got 32 × 24 and 40 × 30" in text and "crop=resize" in text and not left(root)
    assert load_pixels(table, RESIZE, root).shape == (12, 16, 12, 3)


def test_a_photo_smaller_than_the_crop_is_named(table: pd.DataFrame, root: Path) -> None:
    assert cv2.imwrite(table["path"][7], np.zeros((19, 30, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        load_pixels(table, CENTER, root)
    assert table["path"][7] in str(caught.value) and "exceeds the image size 19 × 30" in str(caught.value)
    assert not left(root)


def test_a_disk_without_room_is_told_beforehand(
    table: pd.DataFrame, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DataError, match="cache_dir: 12 images need 0 MB"):
        load_pixels(table, NONE, root)
    assert not left(root)


ASK = """
import sys, time
from pathlib import Path
import pandas as pd
from maskcls.components import crop
from maskcls.core.registry import Component
from maskcls.data import pixel_cache
root, log, ready, *paths = sys.argv[1:]
build = pixel_cache.build_cache
def slow(*args):
    with open(log, "a") as file:
        file.write("built\\n")
    time.sleep(0.5)
    build(*args)
pixel_cache.build_cache = slow
Path(ready).touch()
while len(list(Path(ready).parent.glob("ready*"))) < 2:
    time.sleep(0.005)
pixels = pixel_cache.load_pixels(pd.DataFrame({"path": paths}), Component("crop", "none", {}, crop.none), Path(root))
print(int(pixels.astype(int).sum()))
"""


def test_two_processes_at_once_build_it_once(table: pd.DataFrame, root: Path, tmp_path: Path) -> None:
    top, log = str(Path(cache.__file__).parents[2]), tmp_path / "log"
    arguments = [[str(root), str(log), str(tmp_path / f"ready{i}"), *table["path"]] for i in range(2)]
    running = [
        subprocess.Popen([sys.executable, "-c", ASK, *words], cwd=top, stdout=subprocess.PIPE, text=True)
        for words in arguments
    ]
    sums = [process.communicate(timeout=200)[0].split()[-1] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert log.read_text() == "built\n"
    assert {int(value) for value in sums} == {sum(int(rgb(path).astype(int).sum()) for path in table["path"])}


def test_a_disk_that_fills_up_is_a_sentence_and_leaves_nothing(table: pd.DataFrame, root: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"cache_dir: cannot write .*: File too large"):
            load_pixels(table, NONE, root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not left(root)
    assert load_pixels(table, NONE, root).shape == (12, 32, 24, 3)


def test_the_room_of_a_set_is_taken_before_it_is_filled(tmp_path: Path) -> None:
    whole = allocate(tmp_path / "a" / "p.part", (1000, 20, 20, 3))
    assert (tmp_path / "a" / "p.part").stat().st_blocks * 512 >= whole.nbytes


def test_a_cache_that_cannot_be_written_is_a_sentence(table: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cache_dir: cannot write .*: .*file"):
        load_pixels(table, NONE, tmp_path / "file" / "cache")


def test_what_a_killed_builder_left_is_removed_by_the_next_and_what_is_being_built_is_not(
    table: pd.DataFrame, root: Path
) -> None:
    dead, busy = root / "deaddead", root / "busybusy"
    for folder in (dead, busy):
        folder.mkdir(parents=True)
        (folder / "pixels.part").write_bytes(b"half")
    with file_lock(root / ".busybusy.lock"):
        load_pixels(table, NONE, root)
    assert not dead.exists() and (busy / "pixels.part").exists()


def test_a_set_that_stands_is_read_without_its_lock(table: pd.DataFrame, root: Path) -> None:
    first = load_pixels(table, NONE, root)
    (folder,) = list_entries(root).values()
    os.utime(folder, (0, 0))
    with file_lock(lock_path(folder)):  # would wait for ever
        assert np.array_equal(load_pixels(table, NONE, root), first)
    assert folder.stat().st_mtime > 0, "the folder's time is that of its last use"


def test_the_command_lists_and_clears(
    table: pd.DataFrame, root: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    pixels = load_pixels(table, RESIZE, root)
    load_pixels(
        table.iloc[:5], Component("crop", "center", {"height": 20, "width": 10, "clahe": 2.0}, crop.center, task=MASK18), root
    )
    (root / "overlays" / "1a2b3c4d").mkdir(parents=True)
    shown = " ".join(command(name="cache").stdout.split())
    assert "12 │ 16 × 12 │ resize" in shown and "5 │ 20 × 10 │ center clahe=2.0" in shown
    assert "overlays/1a2b3c4d" in shown and "drawn masks" in shown
    sizes = {json.loads((folder / "facts.json").read_text())["photos"]: key
             for key, folder in list_entries(root).items() if "/" not in key}  # fmt: skip
    with file_lock(root / f".{sizes[12]}.lock"):
        refused = command(f"clear={sizes[12]}", name="cache")
    assert refused.returncode == 2 and "is being built by another process" in refused.stderr
    assert command(f"clear={sizes[12]}", name="cache").returncode == 0
    assert (pixels >= 0).all(), "who reads a set keeps what is mapped"
    assert set(list_entries(root)) == {sizes[5], "overlays/1a2b3c4d"}
    (root / sizes[5] / "facts.json").write_text('{"photos": 5, "crop')
    assert "broken: clear it" in " ".join(command(name="cache").stdout.split())
    wrong = command(f"clear={sizes[5][:-1]}", name="cache")
    assert wrong.returncode == 2 and f"did you mean '{sizes[5]}'?" in wrong.stderr
    assert command("clear=all", name="cache").returncode == 0 and not list_entries(root) and not left(root)
