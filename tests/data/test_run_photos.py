"""The images behind a run: from the pixel cache, else from their files, and only while they are those of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from maskcls.components import crop
from maskcls.core.competition import MASK18
from maskcls.data.pixel_cache import pixels_path
from maskcls.data.run_photos import GONE, open_cached, open_files, open_photos
from maskcls.storage.run import Run
from maskcls.storage.stored_components import restore_section

Linked = tuple[list[str], Path]


def reopen(run: Run, **changed: object) -> Run:
    """Return the run with some values of its config changed."""
    config = yaml.safe_load(run.config_path.read_text()) | changed
    run.config_path.unlink()  # a hard link to the shared run
    run.config_path.write_text(yaml.dump(config, sort_keys=False))
    return Run(run.path)


def test_cached_pixels_are_the_cropped_images_and_files_the_whole_ones(linked: Linked, people: Path) -> None:
    run = Run(linked[1])
    cached, files, name = open_cached(run), open_files(run), run.table["id"].iloc[5]
    assert cached and files
    small, whole = cached(name), files(name)
    assert small is not None and whole is not None and (small.shape, whole.shape) == ((32, 24, 3), (64, 48, 3))
    assert np.array_equal(cv2.imread(str(people / name))[..., ::-1], whole) or name.endswith(("jpg", "jpeg"))
    resized = cv2.resize(whole, (24, 32), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(resized - small).mean() < 40  # the same picture; the crop is another part of it
    assert cached("other.jpg") is None and files("other.jpg") is None
    photos = open_photos(run)
    assert photos and photos(name) is not None


def test_files_are_read_when_the_cache_is_gone_and_none_when_both_are(linked: Linked, tmp_path: Path) -> None:
    run = reopen(Run(linked[1]), cache_dir=str(tmp_path / "gone"))
    assert open_cached(run) is None
    photos = open_photos(run)
    assert photos and photos(run.table["id"].iloc[0]) is not None
    run = reopen(run, data=dict(run.config["data"]) | {"root": str(tmp_path / "gone")})
    notes: list[str] = []
    assert open_photos(run, notes.append) is None and notes == [GONE]


def test_a_file_that_has_changed_or_is_unreadable_is_not_shown(linked: Linked, people: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(people, tmp_path / "copy")
    data = {"name": "competition", "root": str(copy)}
    run = reopen(Run(linked[1]), cache_dir=str(tmp_path / "gone"), data=data)
    first, second, third = run.table["id"].iloc[:3]
    (copy / first).write_bytes((copy / second).read_bytes())
    (copy / third).write_bytes(b"no image")
    photos = open_photos(run)
    assert photos and photos(first) is None and photos(third) is None and photos(second) is not None


@pytest.mark.parametrize("has_cache", [True, False])
@pytest.mark.parametrize("unknown", ["all", "one"])
def test_an_image_without_a_recorded_digest_is_not_shown(unknown: str, has_cache: bool, linked: Linked, tmp_path: Path) -> None:
    run = Run(linked[1])
    table = run.table
    if not has_cache:
        run = reopen(run, cache_dir=str(tmp_path / "gone"))
    table.loc[table.index[0 if unknown == "one" else slice(None)], "content"] = ""
    run.table_path.unlink()
    table.to_csv(run.table_path, index=False)
    run, notes = Run(run.path), []
    if has_cache and unknown == "one":  # an untrusted config can name a cache of such a key
        path = pixels_path(table["content"].tolist(), restore_section(crop.registry, run.config["crop"], run.path, task=MASK18), tmp_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros((len(table), 32, 24, 3), np.uint8))
        run = reopen(run, cache_dir=str(tmp_path))
    photos = open_photos(run, notes.append)
    assert len(notes) == 1 and notes[0].startswith(f"{1 if unknown == 'one' else len(table)} of {len(table)} images have no digest")
    if unknown == "all":
        assert photos is None
    else:
        assert photos and photos(table["id"].iloc[0]) is None and photos(table["id"].iloc[1]) is not None


@pytest.mark.parametrize("changed", [{"data": None}, {"data": {"name": "own"}}, {"crop": 3}, {"cache_dir": None}])
def test_a_config_that_names_unknown_components_is_no_error(changed: dict[str, object], linked: Linked) -> None:
    run = reopen(Run(linked[1]), **changed)
    assert (open_photos(run) is None) == (changed in ({"data": None}, {"data": {"name": "own"}}) and open_cached(run) is None)
