"""Suspected label errors of a run: as patches of the labels, and as a page to accept or refuse them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_reader import read_rows
from maskcls.core.table import PATCH_COLUMNS
from maskcls.core.task import AGES, ATTRIBUTES, decode
from maskcls.evaluation.audit_estimate import KindEstimate
from maskcls.evaluation.label_issues import Suspicions
from maskcls.reporting.page_rendering import render_template, thumbnail
from maskcls.system.console import track

KEY = ("person", "photo", "field", "old")  # cells by which a decision is found again
TIER = "extended"  # of the written patches
THUMBNAIL = 112  # pixels


@dataclass(frozen=True)
class Flag:
    """One suspected error: the person's masks, gender or age."""

    kind: str
    probability: float  # that the label is wrong
    patches: list[dict[str, str]]  # rows of label_issues.csv
    images: list[int]  # rows of the table with the flagged label
    changed: set[int]  # of these, the ones whose label changes

    @property
    def keys(self) -> set[tuple[str, ...]]:
        """The keys of its patches."""
        return {tuple(patch[name] for name in KEY) for patch in self.patches}


def list_flags(table: pd.DataFrame, found: Mapping[str, Suspicions], threshold: float, source: str) -> list[Flag]:
    """Return the flags with a posterior of at least `threshold`, the most probable first."""
    names = short_names(table)
    flags = [flag for part in found.values() for flag in flags_of_kind(table, part, threshold, names, source)]
    return sorted(flags, key=lambda flag: (-flag.probability, flag.patches[0]["person"]))


def flags_of_kind(
    table: pd.DataFrame, part: Suspicions, threshold: float, names: pd.DataFrame, source: str
) -> Iterable[Flag]:
    """Yield the flags of one kind."""
    classes = dict(zip(ATTRIBUTES, decode(table["label"]), strict=True))[part.kind]
    values, num_units = ATTRIBUTES[part.kind], pd.Series(part.persons).value_counts()
    for unit in np.flatnonzero(part.wrong >= threshold):
        rows = np.flatnonzero(part.units == unit)
        is_own = part.kind != "mask" and num_units[part.persons[unit]] == 1  # all images of the person have the label
        changed = [int(row) for row in rows if part.kind != "mask" or part.new[row] != classes[row]]
        patches = [
            dict(zip(PATCH_COLUMNS, (
                TIER, names["person"][row], "" if is_own else names["photo"][row], part.kind, values[classes[row]],
                str(part.new[row]) if part.kind == "age" else values[part.new[row]], source,
            ), strict=True)) | {"probability": f"{part.wrong[unit]:.4f}"}
            for row in (changed[:1] if is_own else changed)
        ]  # fmt: skip
        yield Flag(part.kind, float(part.wrong[unit]), patches, [int(row) for row in rows], set(changed))


def short_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return how patches name each row: the id at the start of the person's name and the image's stem, if unique."""
    prefix = table["person"].str.partition("_")[0]
    people = table.groupby(prefix)["person"].transform("nunique")
    stem = table["id"].str.rpartition("/")[2].str.rpartition(".")[0]
    is_clear = (stem != "") & ~pd.DataFrame({"person": table["person"], "stem": stem}).duplicated(keep=False)
    person = prefix.where(people == 1, table["person"])
    return pd.DataFrame({"person": person, "photo": stem.where(is_clear, table["id"])})


def read_refused(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the refused rows of a file of decisions; without a column decision all rows are refused."""
    columns = ("person", "photo", "field", "old")
    rows = read_rows(path, columns, optional=("decision",), ignored=("tier", "new", "source", "probability"))
    return {tuple(cells[name] for name in KEY) for _, cells in rows if cells.get("decision", "refused") == "refused"}


def format_issues(flags: Sequence[Flag]) -> str:
    """Return the patches of flags as CSV, the most probable first."""
    rows = [patch for flag in flags for patch in flag.patches]
    return pd.DataFrame(rows, columns=[*PATCH_COLUMNS, "probability"]).to_csv(index=False, lineterminator="\n")


def estimate_rows(kinds: Mapping[str, KindEstimate], threshold: float) -> list[list[str]]:
    """Return kind, people, flags, estimated errors, recall and precision of each kind, as text."""
    return [
        [name, f"{len(kind.suspicions.wrong):,}", str(kind.num_flags(threshold)), f"{kind.errors:.1f}",
         f"{kind.recall(threshold):.2f}", f"{kind.precision(threshold):.2f}" if kind.num_flags(threshold) else ""]
        for name, kind in kinds.items()
    ]  # fmt: skip


ESTIMATE_HEAD = ["labels", "people", "flags", "errors, estimated", "share of planted found", "precision, estimated"]


def format_page(
    title: str, table: pd.DataFrame, flags: Sequence[Flag], estimates: list[list[str]], facts: Sequence[str],
    expected: np.ndarray | None,
) -> str:  # fmt: skip
    """Return the self-contained page of flags with their images; `table` has the paths, "" for a missing image.

    `expected` are the expected ages (N,) in years, if the run has a head over years.
    """
    images = sum(len(flag.images) for flag in flags)
    shown = [picture(table, flag, row) for flag in flags for row in flag.images]
    pictures = iter(list(track((add_thumbnail(item) for item in shown), images, "page")))
    cards = [
        {"kind": flag.kind, "probability": flag.probability, "patches": flag.patches, "change": describe_change(flag),
         "person": table["person"].iloc[flag.images[0]], "facts": describe_person(table, flag, expected),
         "pictures": [next(pictures) for _ in flag.images]}
        for flag in flags
    ]  # fmt: skip
    values = {
        "title": title, "cards": cards, "estimates": [ESTIMATE_HEAD, *estimates], "facts": facts,
        "columns": [*PATCH_COLUMNS, "probability"], "kinds": [k for k in ATTRIBUTES if any(f.kind == k for f in flags)],
    }  # fmt: skip
    return render_template("audit.html.j2", values)


def picture(table: pd.DataFrame, flag: Flag, row: int) -> dict[str, Any]:
    """Return path, name and mask of an image; a changed mask has its old and new word."""
    words = {patch["photo"]: f"{patch['old']} → {patch['new']}" for patch in flag.patches if flag.kind == "mask"}
    name = table["id"].iloc[row]
    stem = name.rpartition("/")[2].rpartition(".")[0]
    mask = ATTRIBUTES["mask"][int(decode(table["label"].iloc[row])[0])]
    is_changed = flag.kind == "mask" and row in flag.changed
    word = words.get(stem, words.get(name, mask)) if is_changed else mask
    return {"path": table["path"].iloc[row], "name": stem or name, "changed": is_changed, "mask": word}


def add_thumbnail(item: dict[str, Any]) -> dict[str, Any]:
    """Return a picture with its thumbnail, None if the image is not readable."""
    return item | {"image": thumbnail(item["path"], THUMBNAIL) if item["path"] else None}


def describe_change(flag: Flag) -> str:
    """Return the old and new value of a flag in words."""
    if flag.kind == "mask":
        return ", ".join(f"{patch['photo']} {patch['old']} → {patch['new']}" for patch in flag.patches)
    first = flag.patches[0]
    return f"{first['old']} → {first['new']}" + (" years" if flag.kind == "age" else "")


def describe_person(table: pd.DataFrame, flag: Flag, expected: np.ndarray | None) -> str:
    """Return the labels of a flagged person, and the expected age if there is one."""
    rows = table.iloc[flag.images]
    _, gender, age = decode(rows["label"].iloc[0])
    years = rows["age"].iloc[0]
    words = [ATTRIBUTES["gender"][int(gender)], f"{years:g} years" if not pd.isna(years) else AGES[int(age)]]
    predicted = f", predicted {expected[flag.images].mean():.0f}" if expected is not None else ""
    return f"labelled {' '.join(words)}{predicted}"
