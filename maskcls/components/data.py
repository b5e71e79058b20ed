"""Sources of photos: each reads one layout and returns the table, a row for each photo.

Columns: id (path relative to the root, the photo's name everywhere) · path · person · mask (0–2) · gender (0–1) · age
(years) · label (0–17) · part (train | eval | extra); what is not known is −1, an unknown age NaN.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from maskcls.core.csv_cells import MASK_WORDS, classified, parse_label, parse_person
from maskcls.core.csv_reader import (
    Row,
    find_duplicates,
    find_outside_links,
    is_below_root,
    is_utf8,
    missing_path_message,
    note_blanks,
    note_unused_files,
    parse_category,
    raise_errors,
    read_csv,
    spell_as_on_disk,
    spellings_in,
)
from maskcls.core.errors import DataError, and_others, unknown_message
from maskcls.core.identities import unify_ids
from maskcls.core.missing_files import report_missing
from maskcls.core.registry import Component, Registry
from maskcls.core.schema import NonNegativeInt
from maskcls.core.table import COLUMNS
from maskcls.core.task import bin_age, encode
from maskcls.imaging.image_decoding import image_endings
from maskcls.synthetic.dataset import write
from maskcls.system import console

registry = Registry("data")
Note = Callable[[str], None]
OPTIONAL = ("label", "mask", "gender", "age", "person", "part")
MASK_BY_STEM = {f"mask{i}": 0 for i in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}
MOST = 100_000  # drawn people
Crowd = Annotated[int, Field(ge=1, le=MOST)]
Drawing = Annotated[int, Field(ge=8, le=2048)]  # pixels of a side


def folder(value: str | None) -> str:
    """Return a data root that exists; without a value it is MASKCLS_DATA."""
    value = value or os.environ.get("MASKCLS_DATA")
    if not value:
        raise ValueError("no folder is given: set data.root=<folder> or the environment's MASKCLS_DATA")
    if not os.path.isdir(value):
        raise ValueError(f"there is no folder {value!r}")
    return value


def existing(value: str) -> str:
    """Return the path of a file that exists."""
    if not os.path.isfile(value):
        raise ValueError(f"there is no file {value!r}")
    return value


@registry.register
def competition(
    note: Note, *, root: Annotated[str | None, AfterValidator(folder)] = None, links: bool = False
) -> pd.DataFrame:
    """Read the AI Stages layout: train/train.csv with seven photos a person, eval/info.csv without labels.

    A person is a folder (`path`), never an `id`. Where eval/labels.csv stands (ImageID,ans,gender,age,path) the
    evaluation photos are scored. Missing photos, and files and rows that are not used, are counted in a note (not the
    `._` files of a Mac, which hold no photo); a missing folder or a bad row is a DataError. `links` allows photos that
    are symbolic links out of the root.
    """
    base = Path(str(root))
    train = read_csv(base / "train" / "train.csv", ("gender", "age", "path"), ignored=("id", "race"), note=note)
    rows = read_train(train, base / "train" / "images") + evaluation(base, note)
    photos = [row for row in rows if row["path"]]
    if lost := [row["person"] for row in rows if not row["path"]]:
        who = and_others(list(dict.fromkeys(lost)))
        note(f"{len(lost)} photos are missing from the folders of train/images and were left out, of {who}")
    for images in (base / "train" / "images", base / "eval" / "images"):
        note_unused_files(images, [row["path"] for row in photos], note)
    return to_table(photos, base, links)


def read_train(train: list[Row], base: Path) -> list[dict[str, Any]]:
    """Return a row for each of the seven photos of each person of train.csv; `path` is None where there is none."""
    faults, rows = find_duplicates(train, "path"), []
    for where, cells in train:
        person = str(PurePosixPath(cells["path"]))
        place = base / spell_as_on_disk(base, person)
        known = parse_person(cells, where, faults)
        if not is_below_root(cells["path"]):
            faults.append(f"{where}: {missing_path_message('folder', base, cells['path'])}")
        elif not os.path.isdir(place):
            report_missing(f"{where}: {missing_path_message('folder', base, cells['path'])}", faults)
        elif known:
            rows += person_images(place, {"person": person, "part": "train", **known})
    raise_errors(faults)
    return rows


def person_images(place: Path, person: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the seven rows of a person; files beginning with a dot are no photos."""
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if not entry.is_symlink() or os.path.exists(entry.path)]
    photos = [(*os.path.splitext(name), name) for name in sorted(names, reverse=True) if name[0] != "."]
    found = {stem: os.path.join(place, name) for stem, ending, name in photos if ending.lower() in image_endings()}
    return [{"path": found.get(stem), "mask": mask, **person} for stem, mask in MASK_BY_STEM.items()]


def evaluation(base: Path, note: Note) -> list[dict[str, Any]]:
    """Return the rows of eval/info.csv in its order, with labels where eval/labels.csv gives them."""
    if not (base / "eval" / "info.csv").exists():
        if (base / "eval").exists():
            note(f"{base / 'eval'} is not used: it has no info.csv")
        return []
    info = read_csv(base / "eval" / "info.csv", ("ImageID",), ignored=("ans",), note=note)
    images, truth = base / "eval" / "images", read_eval_labels(base / "eval" / "labels.csv", note)
    there = spellings_in(str(images))
    faults = find_duplicates(info, "ImageID")
    for where, cells in info:
        if cells["ImageID"] not in there:
            report_missing(f"{where}: there is no file {images / cells['ImageID']}", faults)
    raise_errors(faults)
    if unasked := sorted(set(truth) - {cells["ImageID"] for _, cells in info}):
        note(f"{len(unasked)} rows of eval/labels.csv are not used, info.csv has no such photo: {and_others(unasked)}")
    names = [cells["ImageID"] for _, cells in info if cells["ImageID"] in there]
    unlabelled = {"person": "", "mask": -1, "gender": -1, "age": float("nan")}
    return [{"path": images / there[name], "part": "eval", **truth.get(name, unlabelled)} for name in names]


def read_eval_labels(source: Path, note: Note) -> dict[str, dict[str, Any]]:
    """Return {ImageID: labels} of the evaluation photos, empty where they are not known."""
    if not source.exists():
        return {}
    known = read_csv(source, ("ImageID", "ans", "gender", "age", "path"), note=note)
    faults, truth = find_duplicates(known, "ImageID"), {}
    for where, cells in known:
        person, label = parse_person(cells, where, faults), parse_label(cells["ans"], where, faults)
        if person and label and label["label"] != encode(label["mask"], person["gender"], bin_age(person["age"])):
            faults.append(f"{where}: ans {cells['ans']} is not the class of {cells['gender']}, {cells['age']}")
        truth[cells["ImageID"]] = {"person": cells["path"], "mask": label.get("mask"), **person}
    raise_errors(faults)
    return truth


@registry.register
def synthetic(
    note: Note, *, root: str = "data", people: Crowd = 120, eval_people: Annotated[int, Field(ge=0, le=MOST)] = 40,
    height: Drawing = 256, width: Drawing = 192, seed: NonNegativeInt = 0,
) -> pd.DataFrame:  # fmt: skip
    """Draw the embedded people once into `root`, in the competition's layout, and read them as such."""
    if os.environ.get("MASKCLS_DATA"):
        note("data=synthetic does not read MASKCLS_DATA, which is set. data=competition does")
    place = drawn_folder(root, people, eval_people, height, width, seed)
    drawn(place, people=people, eval_people=eval_people, height=height, width=width, seed=seed)
    return competition(note, root=str(place))


def drawn_folder(root: str, people: int, eval_people: int, height: int, width: int, seed: int) -> Path:
    """Return the folder of a drawn set."""
    return Path(root) / f"people-{people}+{eval_people}-{height}x{width}-seed{seed}"


def read_only(source: Component) -> Component:
    """Return a source of photos that draws nothing: drawn people are read where they are."""
    if source.builder is not synthetic:
        return source
    return Component("data", "competition", {"root": str(drawn_folder(**source.params))}, competition)


def drawn(place: Path, **what: int) -> None:
    """Draw the embedded set unless it stands; two processes do not draw it twice."""
    from maskcls.system.files import file_lock

    with file_lock(place.parent / f".{place.name}.lock"):
        if not place.exists():
            console.info(f"drawing {what['people']} + {what['eval_people']} people into {place}")
            write(place, **what, track=console.track)


@registry.register
def table(
    note: Note, *, file: Annotated[str, AfterValidator(existing)], root: str | None = None, links: bool = False
) -> pd.DataFrame:
    """Read any CSV with path, mask, gender, age (or label), and if there person and part (train | eval).

    Paths are relative to `root`, by default the CSV's folder. Without a person column each photo is its own person.
    Columns of other names are named in a note, those that look like a slip of a known one are a DataError.
    `links` allows photos that are symbolic links out of the root.
    """
    source = Path(file)
    base = Path(folder(root)) if root else source.parent
    given = read_csv(source, ("path",), OPTIONAL, note=note)
    if not given:
        raise DataError(f"{source} has a header and no rows")
    there = set(given[0].cells)
    if "label" not in there and (lacking := {"mask", "gender", "age"} - there):
        raise DataError(
            f"{source} has neither label nor all of mask, gender, age: {', '.join(sorted(lacking))} is missing"
        )
    faults = find_duplicates(given, "path")
    rows = [parse_row(cells, base, where, faults) for where, cells in given]
    raise_errors(faults)
    note_blanks(source, given, note)
    return to_table([row for row in rows if row["path"]], base, links)


def parse_row(cells: Mapping[str, str], base: Path, where: str, faults: list[str]) -> dict[str, Any]:
    """Return one row of a CSV as a row of the table, adding what is wrong with it to `faults`.

    Its path is None where the file is missing and the run leaves such rows out.
    """
    name, part = cells["path"], cells.get("part", "").lower() or "train"
    path: Path | None = base / (spell_as_on_disk(base, name) if is_below_root(name) else name)
    if not is_below_root(name):
        faults.append(f"{where}: {missing_path_message('file', base, name)}")
    elif not os.path.isfile(str(path)):
        report_missing(f"{where}: {missing_path_message('file', base, name)}", faults)
        path = None
    if part not in ("train", "eval"):
        faults.append(f"{where}: {unknown_message('part', part, ('train', 'eval'))}")
    shared = {"path": path, "person": cells.get("person", ""), "part": part}
    if "label" in cells:
        return shared | classified(cells, where, faults)
    mask = parse_category(cells["mask"], MASK_WORDS)
    if mask is None:
        faults.append(f"{where}: {unknown_message('mask', cells['mask'], ('worn', 'incorrect', 'none'))}")
    return shared | {"mask": mask, **parse_person(cells, where, faults)}


def to_table(rows: list[dict[str, Any]], base: Path, links: bool = False) -> pd.DataFrame:
    """Return rows as the table: ids relative to the root in Unicode's form NFC, labels from mask, gender and age.

    A person is known by one spelling of its id (identities.unify_ids); without one a photo is a person of its own.
    """
    if not rows:
        raise DataError(f"there are no photos in {base}")
    paths = [str(row["path"]) for row in rows]
    raise_errors([f"{path!r}: its name is no UTF-8: rename it" for path in paths if not is_utf8(path)])
    outside = [] if links else find_outside_links(paths, base)
    raise_errors(
        [f"{path} is a link out of {base}: links=true beside its root or file allows that" for path in outside]
    )
    top = "" if base == Path() else os.path.join(base, "")
    ids = [unicodedata.normalize("NFC", path.removeprefix(top).replace(os.sep, "/")) for path in paths]
    table = pd.DataFrame(rows).assign(path=paths, id=ids)
    twice = table.loc[table["id"].duplicated(), "id"]
    raise_errors(
        [f"{base}: several files are called {name!r}, in several Unicode forms: rename them" for name in twice]
    )
    named = table["person"] != ""
    table["person"] = unify_ids(table["person"]).where(named, table["id"])
    if "label" not in table:
        labels = encode(table["mask"], table["gender"], bin_age(table["age"].fillna(0)))
        table["label"] = np.where(table["mask"] >= 0, labels, -1)
    return table[COLUMNS].reset_index(drop=True)
