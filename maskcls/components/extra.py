"""Outside data: further photos to train on, never scored; what stands in the table already is left out."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.components import data
from maskcls.core.csv_reader import MAX_AGE, parse_age
from maskcls.core.errors import DataError, unknown_message
from maskcls.core.image_rows import to_table
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat
from maskcls.core.task import GENDERS, MASKS
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.system import console
from maskcls.system.processes import num_cpus

registry = Registry("extra")
Note = Callable[[str], None]
FIELDS = {"age": r"\d+(?:\.\d+)?", "gender": "[^_]+?", "person": ".+?"}


def readable(pattern: str) -> str:
    """Return a pattern of file names that tells age and gender."""
    fields = re.findall(r"{(.*?)}", pattern)
    for field in fields:
        if field not in FIELDS:
            raise ValueError(unknown_message("field", field, FIELDS))
    if sorted(set(fields)) != sorted(fields) or not {"age", "gender"} <= set(fields):
        raise ValueError(f"{pattern!r} must hold {{age}} and {{gender}}, each once")
    return pattern


def span(value: list[float] | None) -> list[float] | None:
    """Return two ages, the younger one first."""
    if value is not None and (len(value) != 2 or value[0] > value[1]):
        raise ValueError(f"[{', '.join(f'{age:g}' for age in value)}] is no [youngest, oldest]")
    return value


@registry.register
def none(table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def table_(
    table: pd.DataFrame, note: Note, *, file: Annotated[str, AfterValidator(data.check_file)], root: str | None = None,
    links: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Add the photos of a CSV as data=table reads it; all of them are trained on, whatever their part says."""
    new = data.table(note, file=file, root=root, links=links).sort_values("id", ignore_index=True)
    if evaluated := int((new["part"] == "eval").sum()):
        note(f"extra: {evaluated} photos of {file} are of part eval and are trained on all the same")
    return append_images(table, new, file, note)


@registry.register
def folder(
    table: pd.DataFrame, note: Note, *, root: Annotated[str, AfterValidator(data.check_dir)],
    pattern: Annotated[str, AfterValidator(readable)] = "{age}_{gender}_*",
    genders: dict[str, Literal["male", "female"]] = {"0": "male", "1": "female"},
    mask: Literal["worn", "incorrect", "none"] = "none",
    ages: Annotated[list[NonNegativeFloat] | None, AfterValidator(span)] = None, links: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Add the photos below a folder whose names, without their ending, tell {age}, {gender} and perhaps {person}.

    `*` stands for anything, `genders` says what a name's {gender} means, `ages` limits the years (both included).
    Without {person} each photo is its own person. `links` allows symbolic links out of the folder. Photos of other
    names are left out and counted.
    """
    base, fits = Path(root), compile_pattern(pattern)
    files, left_out = find_images(base)
    rows = [row for path in files if (row := read(path, base, fits, genders, MASKS.index(mask)))]
    if len(rows) < len(files):
        note(f"extra: {len(files) - len(rows)} photos below {root} have names that {pattern!r} does not read")
    if left_out:
        note(f"extra: {root}: {describe_left_out(left_out)}")
    low, high = ages or (0, MAX_AGE)
    chosen = [row for row in rows if low <= row["age"] <= high]
    if len(chosen) < len(rows):
        note(f"extra.ages: {len(rows) - len(chosen)} photos are of ages outside {low:g} to {high:g} and were left out")
    if not chosen:
        raise DataError(f"extra folder: none of the {len(files)} photos below {root} has a fitting name and age")
    return append_images(table, to_table(chosen, base, links), root, note)


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern with fields in braces and `*`."""
    parts = re.split(r"({\w+}|\*)", pattern)
    named = {f"{{{field}}}": f"(?P<{field}>{text})" for field, text in FIELDS.items()} | {"*": ".*"}
    return re.compile("".join(named.get(part, re.escape(part)) for part in parts))


def read(path: Path, base: Path, fits: re.Pattern[str], genders: Mapping[str, str], mask: int) -> dict[str, Any] | None:
    """Return the row of a photo from its name, None for a name that does not fit."""
    match = fits.fullmatch(path.stem)
    if match is None or match["gender"] not in genders or (age := parse_age(match["age"])) is None:
        return None
    person = match.groupdict().get("person") or path.relative_to(base).as_posix()
    gender = GENDERS.index(genders[match["gender"]])
    return {"path": path, "person": person, "mask": mask, "gender": gender, "age": age, "part": "extra"}


def append_images(table: pd.DataFrame, new: pd.DataFrame, source: str, note: Note) -> pd.DataFrame:
    """Return the table with new photos as part `extra`; copies of photos that are there already are left out."""
    named = set(new.loc[new["person"] != new["id"], "person"]) & set(table["person"])
    if named:
        raise DataError(f"extra: {len(named)} people of {source} stand in the table already, such as {min(named)}")
    new = new.assign(part="extra", id="extra/" + new["id"], person="extra/" + new["person"])
    keep = ~is_duplicate([*table["path"], *new["path"]])[len(table) :].to_numpy()
    note(f"extra: {keep.sum()} photos of {source} were added; {(~keep).sum()} are copies of others and were left out")
    taken = new["id"][keep].isin(table["id"])
    if taken.any():
        raise DataError(f"extra: {new['id'][keep][taken].iloc[0]!r} stands in the table already")
    return pd.concat([table, new[keep]], ignore_index=True)


def is_duplicate(paths: list[str]) -> pd.Series[bool]:
    """Tell for each file whether one before it has the same content; only files of one size are read."""
    sizes = pd.Series([os.stat(path).st_size for path in paths], dtype="int64")
    alike = [int(i) for i in np.flatnonzero(sizes.duplicated(keep=False))]
    prints = [str(size) for size in sizes]
    contents = console.track(file_hashes([paths[i] for i in alike]), len(alike), "comparing files")
    for i, content in zip(alike, contents, strict=True):
        prints[i] = content
    return pd.Series(prints, dtype=str).duplicated()


def file_hashes(paths: list[str]) -> Iterator[str]:
    """Yield the SHA-256 of files, read in parallel."""
    with ThreadPoolExecutor(num_cpus()) as pool:
        yield from pool.map(lambda path: hashlib.sha256(Path(path).read_bytes()).hexdigest(), paths)
