"""Sources of photos: each reads one layout and returns the table, a row for each photo.

Columns: id (path relative to the root, the photo's name everywhere) · path · person · mask (0–2) · gender (0–1) · age
(years) · label (0–17) · part (train | eval | extra); what is not known is −1, an unknown age NaN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls import console, people
from maskcls.errors import DataError, nearest, unknown
from maskcls.labels import CLASSES, GENDERS, band, decode, encode
from maskcls.registry import Count, Registry, Whole

word = Registry("data")
Note = Callable[[str], None]

COLUMNS = ["id", "path", "person", "mask", "gender", "age", "label", "part"]
SHOTS = {f"mask{i}": 0 for i in range(1, 6)} | {"incorrect_mask": 1, "normal": 2}
ENDINGS = {".jpg", ".jpeg", ".png"}
MASK_WORDS = {"worn": 0, "wear": 0, "incorrect": 1, "none": 2, "normal": 2, "0": 0, "1": 1, "2": 2}
GENDER_WORDS = {"male": 0, "female": 1, "0": 0, "1": 1}
OLDEST = 120


def folder(value: str | None) -> str:
    """Return a data root that exists; without a value it is MASKCLS_DATA."""
    value = value or os.environ.get("MASKCLS_DATA")
    if not value:
        raise ValueError("no folder is given: set data.root=<folder> or the environment's MASKCLS_DATA")
    if not Path(value).is_dir():
        raise ValueError(f"there is no folder {value!r}")
    return value


def existing(value: str) -> str:
    """Return the path of a file that exists."""
    if not Path(value).is_file():
        raise ValueError(f"there is no file {value!r}")
    return value


@word
def competition(note: Note, *, root: Annotated[str | None, AfterValidator(folder)] = None) -> pd.DataFrame:
    """Read the AI Stages layout: train/train.csv with seven photos a person, eval/info.csv without labels.

    A person is a folder (`path`), never an `id`. Where eval/labels.csv stands (ImageID,ans,gender,age,path) the
    evaluation photos are scored. Missing photos are counted in a note; a missing folder or a bad row is a DataError.
    """
    base = Path(str(root))
    train = read(base / "train" / "train.csv", ("gender", "age", "path"))
    rows = labelled(train, base / "train" / "train.csv") + evaluation(base)
    photos = [row for row in rows if row["path"]]
    if len(photos) < len(rows):
        note(f"{len(rows) - len(photos)} photos are missing from the folders of train/images and were left out")
    return finished(photos, base)


def labelled(train: pd.DataFrame, source: Path) -> list[dict[str, Any]]:
    """Return a row for each of the seven photos of each person of train.csv; `path` is None where there is none."""
    base, faults, rows = source.parent / "images", [], []
    repeated = train["path"].duplicated(keep=False)
    for line, (row, twice) in enumerate(zip(records(train), repeated, strict=True), 2):
        where = f"{source} line {line}"
        person, gender, age = row["path"], parsed(row["gender"], GENDER_WORDS), years(row["age"])
        if gender is None:
            faults.append(f"{where}: {unknown('gender', row['gender'], GENDERS)}")
        if age is None:
            faults.append(f"{where}: age {row['age']!r} is no age in years from 0 to {OLDEST}")
        if twice:
            faults.append(f"{where}: path {person!r} stands there more than once")
        elif not inside(base, person) or not (base / person).is_dir():
            faults.append(f"{where}: there is no folder {base / person}")
        elif gender is not None and age is not None:
            rows += shots(base / person, person, gender, age)
    complain(faults)
    return rows


def shots(place: Path, person: str, gender: int, age: float) -> list[dict[str, Any]]:
    """Return the seven rows of a person; files beginning with a dot are no photos."""
    files = sorted(entry for entry in place.iterdir() if entry.suffix.lower() in ENDINGS and entry.name[0] != ".")
    found = {entry.stem: entry for entry in reversed(files)}
    shared = {"person": person, "gender": gender, "age": age, "part": "train"}
    return [{"path": found.get(stem), "mask": mask, **shared} for stem, mask in SHOTS.items()]


def evaluation(base: Path) -> list[dict[str, Any]]:
    """Return the rows of eval/info.csv in its order, with labels where eval/labels.csv gives them."""
    if not (base / "eval" / "info.csv").exists():
        return []
    info = read(base / "eval" / "info.csv", ("ImageID",))
    images, truth = base / "eval" / "images", answers(base / "eval" / "labels.csv")
    there = {entry.name for entry in os.scandir(images)} if images.is_dir() else set()
    lost = [name for name in info["ImageID"] if name not in there]
    complain([f"eval/info.csv names {name}, and there is no such file in {images}" for name in lost])
    unlabelled = {"person": "", "mask": -1, "gender": -1, "age": float("nan")}
    return [{"path": images / name, "part": "eval", **truth.get(name, unlabelled)} for name in info["ImageID"]]


def answers(source: Path) -> dict[str, dict[str, Any]]:
    """Return {ImageID: labels} of the evaluation photos, empty where they are not known."""
    if not source.exists():
        return {}
    known = read(source, ("ImageID", "ans", "gender", "age", "path"))
    return {
        row["ImageID"]: {
            "person": row["path"], "mask": int(row["ans"]) // 6,
            "gender": GENDER_WORDS[row["gender"]], "age": float(row["age"]),
        }
        for row in records(known)
    }  # fmt: skip


@word
def synthetic(
    note: Note, *, root: str = "data", people: Count = 120, eval_people: Whole = 40,
    height: Annotated[int, "pixels"] = 256, width: Annotated[int, "pixels"] = 192, seed: Whole = 0,
) -> pd.DataFrame:  # fmt: skip
    """Draw the embedded people once into `root`, in the competition's layout, and read them as such."""
    place = Path(root) / f"people-{people}+{eval_people}-{height}x{width}-seed{seed}"
    drawn(place, people=people, eval_people=eval_people, height=height, width=width, seed=seed)
    return competition(note, root=str(place))


def drawn(place: Path, **what: int) -> None:
    """Draw the embedded set unless it stands; two processes do not draw it twice."""
    from maskcls.rundir import locked

    with locked(place.parent / f".{place.name}.lock"):
        if not place.exists():
            console.say(f"drawing {what['people']} + {what['eval_people']} people into {place}")
            people.write(place, **what, track=console.track)


@word
def table(note: Note, *, file: Annotated[str, AfterValidator(existing)], root: str | None = None) -> pd.DataFrame:
    """Read any CSV with path, mask, gender, age (or label), and if there person and part (train | eval).

    Paths are relative to `root`, by default the CSV's folder. Without a person column each photo is its own person.
    """
    source = Path(file)
    base = Path(root) if root else source.parent
    given = read(source, ("path",))
    if "label" not in given and (lacking := {"mask", "gender", "age"} - set(given)):
        raise DataError(
            f"{source} has neither label nor all of mask, gender, age: {', '.join(sorted(lacking))} is missing"
        )
    faults: list[str] = []
    rows = [described(row, base, f"{source} line {line}", faults) for line, row in enumerate(records(given), 2)]
    faults += [
        f"{source}: path {path!r} stands there more than once" for path in given["path"][given["path"].duplicated()]
    ]
    complain(faults)
    return finished(rows, base)


def described(row: Mapping[str, str], base: Path, where: str, faults: list[str]) -> dict[str, Any]:
    """Return one row of a CSV as a row of the table, adding what is wrong with it to `faults`."""
    path, part = base / row["path"], row.get("part") or "train"
    if not inside(base, row["path"]) or not path.is_file():
        faults.append(f"{where}: there is no file {path}")
    if part not in ("train", "eval"):
        faults.append(f"{where}: {unknown('part', part, ('train', 'eval'))}")
    shared = {"path": path, "person": row.get("person") or row["path"], "part": part}
    if "label" in row:
        return shared | from_label(row, where, faults)
    mask, gender, age = parsed(row["mask"], MASK_WORDS), parsed(row["gender"], GENDER_WORDS), years(row["age"])
    for name, value, words in (("mask", mask, ("worn", "incorrect", "none")), ("gender", gender, GENDERS)):
        if value is None:
            faults.append(f"{where}: {unknown(name, row[name], words)}")
    if age is None:
        faults.append(f"{where}: age {row['age']!r} is no age in years from 0 to {OLDEST}")
    return shared | {"mask": mask, "gender": gender, "age": age}


def from_label(row: Mapping[str, str], where: str, faults: list[str]) -> dict[str, Any]:
    """Return mask, gender, age and label of a row that names its class; years are kept where they are given."""
    label = int(row["label"]) if row["label"].isdigit() else -1
    if not 0 <= label < len(CLASSES):
        faults.append(f"{where}: label {row['label']!r} is no class from 0 to 17")
        return {}
    mask, gender, _ = decode(label)
    age = years(row.get("age", ""))
    return {"mask": int(mask), "gender": int(gender), "age": float("nan") if age is None else age, "label": label}


def finished(rows: list[dict[str, Any]], base: Path) -> pd.DataFrame:
    """Return rows as the table: ids relative to the root, labels from mask, gender and age."""
    if not rows:
        raise DataError(f"there are no photos in {base}")
    table = pd.DataFrame(rows)
    table["id"] = [path.relative_to(base).as_posix() for path in table["path"]]
    table["path"] = [str(path) for path in table["path"]]
    table["person"] = table["person"].where(table["person"] != "", table["id"])
    if "label" not in table:
        labels = encode(table["mask"], table["gender"], band(table["age"].fillna(0)))
        table["label"] = np.where(table["mask"] >= 0, labels, -1)
    return table[COLUMNS].reset_index(drop=True)


def read(source: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV as text (ids keep their zeros), whatever its separator; a missing file or column is a DataError."""
    if not source.is_file():
        raise DataError(f"there is no file {source}")
    try:
        given = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig", sep=None, engine="python")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DataError(f"{source} cannot be read as a CSV: {error}") from error
    given.columns = given.columns.str.strip()
    complain(
        [f"{source} has no column '{name}'{nearest(name, given.columns)}" for name in columns if name not in given]
    )
    return given


def records(given: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a CSV that was read as text."""
    return [{str(key): str(value) for key, value in row.items()} for row in given.to_dict("records")]


def parsed(value: str, words: Mapping[str, int]) -> int | None:
    """Return the code of a word, None for an unknown one."""
    return words.get(value.strip().lower())


def years(value: str) -> float | None:
    """Return an age in years, None for what is no age."""
    try:
        age = float(value)
    except ValueError:
        return None
    return age if 0 <= age <= OLDEST else None


def inside(base: Path, name: str) -> bool:
    """Tell whether a relative path stays below its root."""
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts


def complain(faults: list[str], most: int = 10) -> None:
    """Raise the faults of a file together, the first ten in words."""
    if faults:
        more = [f"… and {len(faults) - most} more"] if len(faults) > most else []
        raise DataError(*faults[:most], *more)
