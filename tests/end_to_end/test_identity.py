"""Identity of a run by content: changed data, weights and source runs."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskcls.components import crop
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError, MaskclsError, RunError
from maskcls.core.registry import Component
from maskcls.core.table import size_digest
from maskcls.data import pixel_cache
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import list_entries, load_pixels
from maskcls.engine import runner
from maskcls.engine.runner import run
from maskcls.storage import provenance
from maskcls.storage.run import run_content
from maskcls.system import file_digests as file_digests_module
from maskcls.system.file_digests import STORE, file_digests, load_store, read_digest
from maskcls.system.files import write_npz
from maskcls.system.safe_reading import read_npz

RESIZE = Component("crop", "resize", {"height": 8, "width": 6}, crop.resize, task=MASK18)
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the files that were read for their digest; files of this second are remembered as older ones are."""
    monkeypatch.setattr(file_digests_module, "RECENT", -1.0)
    read, seen = read_digest, []
    monkeypatch.setattr(file_digests_module, "read_digest", lambda path: (seen.append(path), read(path))[1])
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
    assert not load_store(tmp_path / STORE)


@pytest.mark.parametrize("store", ["", "[]", "{}", '{"/a": 1}', '{"/a": ["x", "y"]}', '{"/a": ["1 2 3 4", null]}'])
def test_a_broken_store_is_begun_anew_and_one_that_cannot_be_written_is_done_without(
    store: str, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / STORE).write_text(store)
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
    assert load_pixels(photos, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
    same_size_and_time(Path(photos["path"][1]), bitmap(7))
    assert load_pixels(photos, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 7, 100, 150]
    moved = tmp_path / "moved"
    moved.mkdir()
    there = photos.assign(path=[shutil.move(path, moved) for path in photos["path"]])
    assert load_pixels(there, RESIZE, root)[:, 0, 0, 0].tolist() == [0, 7, 100, 150]
    assert len(list_entries(root)) == 2, "the same photos elsewhere are not decoded again"


def test_photos_that_change_while_they_are_decoded_make_no_cache(
    photos: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(path: str, word: crop.Crop) -> np.ndarray:
        if not changed:  # at the first photo, before the others are read side by side
            changed.append(path)
            same_size_and_time(Path(photos["path"][3]), bitmap(7))
        return real(path, word)

    real, changed = pixel_cache.read_cropped, list[str]()
    monkeypatch.setattr(pixel_cache, "read_cropped", decoded)
    with pytest.raises(DataError, match=r"1 of 4 images changed while the command ran, first .*3\.png"):
        load_pixels(photos, RESIZE, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("pixels.npy"))


def test_photos_that_changed_since_the_table_was_made_are_refused(photos: pd.DataFrame, tmp_path: Path) -> None:
    table = photos.assign(content=file_digests(list(photos["path"]), tmp_path))
    load_pixels(table, RESIZE, tmp_path / "cache")
    same_size_and_time(Path(photos["path"][2]), bitmap(7))
    with pytest.raises(DataError, match="images changed while the command ran"):
        load_pixels(table, RESIZE, tmp_path / "cache")


@pytest.fixture(scope="module")
def trained(drawn: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a folder with photos and weights of which a run is done, and the words of that run."""
    from conftest import TINY

    base = tmp_path_factory.mktemp("identity")
    shutil.copytree(people, base / "photos")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), base / "w.pth")
    words = [word for word in TINY if not word.startswith("data.")]
    words += ["data=competition", f"data.root={base}/photos", f"cache_dir={base}/cache", f"runs_dir={base}/runs", "epochs=1",
              f"model.pretrained={base}/w.pth"]  # fmt: skip
    run(compose(*words))
    shutil.copytree(base / "photos", base / "pristine" / "photos")
    shutil.copy(base / "w.pth", base / "pristine" / "w.pth")
    return base, words


def only(base: Path) -> Path:
    """Return the one run of a folder."""
    (run,) = [place for place in (base / "runs").iterdir() if (place / "config.yaml").exists()]
    return run


def restore(base: Path) -> None:
    """Put photos and weights back as they were, each file with a new time."""
    for file in (file for file in (base / "pristine").rglob("*") if file.is_file()):
        shutil.copyfile(file, base / file.relative_to(base / "pristine"))


def snapshot(base: Path) -> dict[str, bytes]:
    """Return what all files hold that a run depends on; the order of rows is no part of it."""
    files = [*sorted((base / "photos").rglob("*")), base / "w.pth"]
    whole = {str(file): file.read_bytes() for file in files if file.is_file()}
    table = str(base / "photos/train/train.csv")
    return whole | {table: b"\n".join(sorted(whole[table].splitlines()))}


def swap(one: Path, other: Path) -> None:
    one.rename(spare := one.with_name("spare")), other.rename(one), spare.rename(other)


def alter(file: Path) -> None:
    """Change one byte of weights, or of a photo's density, which moves no pixel, at the same size and time."""
    whole, at = file.read_bytes(), 15 if file.suffix == ".jpg" else -3
    same_size_and_time(file, whole[:at] + bytes([whole[at] ^ 1]) + whole[at:][1:])


def edit_rows(file: Path, change: Callable[[list[str]], list[str]]) -> None:
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([head, *change(lines)]) + "\n")


def relabel(lines: list[str]) -> list[str]:
    first = lines[0].split(",")
    first[1] = {"male": "female", "female": "male"}[first[1]]
    return [",".join(first), *lines[1:]]


OPS: dict[str, Callable[[Path, list[Path], int, int], object]] = {
    "alter a photo": lambda base, photos, i, j: alter(photos[i]),
    "swap two photos": lambda base, photos, i, j: swap(photos[i], photos[j]) if i != j else None,
    "touch": lambda base, photos, i, j: os.utime(photos[i], (j, j)),
    "copy onto another": lambda base, photos, i, j: shutil.copy2(photos[i], photos[j]) if i != j else None,
    "reverse the rows": lambda base, photos, i, j: edit_rows(
        base / "photos/train/train.csv", lambda lines: lines[::-1]
    ),
    "alter the weights": lambda base, photos, i, j: alter(base / "w.pth"),
    "touch the weights": lambda base, photos, i, j: os.utime(base / "w.pth", (j, j)),
}


def test_a_changed_label_is_another_run(trained: tuple[Path, list[str]]) -> None:
    base, words = trained
    restore(base)
    before = run_content(validate(compose(*words)))
    edit_rows(base / "photos/train/train.csv", lambda lines: lines[::-1])
    assert run_content(validate(compose(*words))) == before
    edit_rows(base / "photos/train/train.csv", relabel)
    assert run_content(validate(compose(*words))) != before
    restore(base)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(sorted(OPS)), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3))
def test_a_finished_run_answers_for_the_same_contents_alone(
    trained: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, changes: list[tuple[str, int, int]]
) -> None:
    base, words = trained
    restore(base)
    monkeypatch.setattr(runner, "train_run", lambda *given: pytest.fail("it was trained again"))
    score, before = run(compose(*words)), snapshot(base)
    photos = [
        *sorted((base / "photos/train/images").rglob("*.jpg"))[:3],
        *sorted((base / "photos/eval/images").iterdir())[:3],
    ]
    for kind, i, j in changes:
        OPS[kind](base, photos, i, j)
    if snapshot(base) == before:
        assert run(compose(*words)) == score
    else:
        with pytest.raises(MaskclsError, match=r"different data|model.pretrained has changed|two people"):
            run(compose(*words))


@pytest.mark.parametrize("kind", sorted(OPS))
def test_each_change_to_what_a_run_is_of_is_told(kind: str, trained: tuple[Path, list[str]]) -> None:
    base, words = trained
    restore(base)
    photos = [
        *sorted((base / "photos/train/images").rglob("*.jpg"))[:3],
        *sorted((base / "photos/eval/images").iterdir())[:3],
    ]
    OPS[kind](base, photos, 1, 4)
    if "touch" in kind or "reverse" in kind:
        run(compose(*words))
        return
    with pytest.raises(
        MaskclsError, match="model.pretrained has changed|a different model.pretrained" if "weights" in kind else "different data"
    ):
        run(compose(*words))
    restore(base)


def test_folds_of_two_contents_never_close_a_run(trained: tuple[Path, list[str]]) -> None:
    base, words = trained
    restore(base)
    words = [*words, "name=half"]
    runner.run(compose(*words, "fold=0"))
    (run,) = base.glob("runs/half-*")
    alter(sorted((base / "photos/train/images").rglob("*.jpg"))[0])
    for lost in ("", "data.json"):  # a message on a broken data.json says to delete it
        (run / lost).unlink() if lost else None
        with pytest.raises(RunError, match="different data"):
            runner.run(compose(*words))
        assert not (run / "metrics.json").exists()
        assert lost or not (run / "fold1" / "oof.npz").exists()
    restore(base)
    shutil.rmtree(run)


def test_each_file_of_a_plugins_package_is_part_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sourced" / "deep").mkdir(parents=True)
    files = [tmp_path / name for name in ("sourced/__init__.py", "sourced/losses.py", "sourced/deep/helper.py", "alone.py")]
    for file in files:
        file.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = ["sourced.losses", "alone"]
    for name in plugins:
        importlib.import_module(name)
    seen = {provenance.code_digest(plugins), provenance.code_digest()}
    for number, file in enumerate(files):
        file.write_text(f"x = 1  # {number}\n")
        seen.add(provenance.code_digest(plugins))
    assert len(seen) == 2 + len(files)
    for name in [name for name in sys.modules if name.split(".")[0] in ("sourced", "alone")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_fold_that_goes_on_with_other_software_is_noted(
    trained: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, words = trained
    restore(base)
    words = [*words, "name=mixed"]
    runner.run(compose(*words, "fold=0"))
    monkeypatch.setattr(provenance, "code_digest", lambda plugins: "0123abcd")
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "9.9"})
    runner.run(compose(*words))
    (run,) = base.glob("runs/mixed-*")
    (note,) = [note for note in json.loads((run / "metrics.json").read_text())["notes"] if note.startswith("software")]
    first, second = note.removeprefix("software differs between folds: ").split("; ")
    assert first.startswith("fold 0: ") and "0123abcd" not in first and "torch 2" in first
    assert second == "fold 1: code 0123abcd torch 9.9"
    kept = json.loads((run / "about.json").read_text())["folds"]
    assert kept["1"][0]["code"] == "0123abcd" != kept["0"][0]["code"] and kept["0"][0]["hardware"]
    monkeypatch.undo()
    capsys.readouterr()
    runner.run(compose(*words))
    assert "was trained with other software (code 0123abcd → " in capsys.readouterr().out
    shutil.rmtree(run)


def test_a_run_of_an_older_version_answers_with_a_sentence(
    trained: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    base, words = trained
    restore(base)
    file = only(base) / "data.json"
    kept = file.read_text()
    cfg = validate(compose(*words))
    old = {"hash": size_digest(assemble_table(cfg, lambda note: None), task=MASK18), "photos": json.loads(kept)["photos"]}
    file.write_text(json.dumps(old))
    run(compose(*words))
    assert "is of an older version, which identified images by file size" in capsys.readouterr().out
    file.write_text(json.dumps(old | {"hash": "00000000"}))
    with pytest.raises(RunError, match="different data"):
        run(compose(*words))
    file.write_text(kept)


@pytest.mark.parametrize("key", ["model.init", "pseudo.run"])
def test_another_run_of_the_same_name_is_not_the_same_source(
    key: str, trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    base, words = trained
    restore(base)
    source = shutil.copytree(only(base), tmp_path / "one" / only(base).name)
    words = [
        *words,
        "name=child",
        f"runs_dir={tmp_path}/runs",
        *(["pseudo=confident", "pseudo.threshold=0"] if key == "pseudo.run" else []),
    ]
    score = run(compose(*words, f"{key}={source}"))
    other = shutil.copytree(source, tmp_path / "two" / source.name)
    assert run(compose(*words, f"{key}={other}")) == score, "the same content elsewhere is the same"
    if key == "model.init":
        shutil.copy(other / "fold0" / "best.pt", other / "fold1" / "best.pt")
    else:
        arrays = read_npz(other / "fold1" / "oof.npz")
        write_npz(other / "fold1" / "oof.npz", **arrays | {"eval_probs": arrays["eval_probs"][::-1]})
    with pytest.raises(RunError, match=f"{key} has changed|different data"):
        run(compose(*words, f"{key}={other}"))
