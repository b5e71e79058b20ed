"""Suspected label errors of a run: as patches of the labels, and as a page to accept or refuse them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_reader import parse_age, parse_decision, raise_errors, read_rows
from maskcls.core.table import PATCH_COLUMNS
from maskcls.core.task import AGES, ATTRIBUTES, bin_age, decode
from maskcls.evaluation.audit_estimate import LOWEST, KindEstimate
from maskcls.evaluation.label_issues import Suspicions
from maskcls.reporting.page_rendering import render_template, thumbnail_of
from maskcls.system.console import track

KEY = ("person", "photo", "field", "old", "new")  # cells by which a decision is found again; of a new age its class
TIER = "extended"  # of the written patches
THUMBNAIL = 112  # pixels
Cells = Mapping[str, str]


@dataclass(frozen=True)
class Flag:
    """One suspected error: the person's masks, gender or age."""

    kind: str
    probability: float  # that the label is wrong
    patches: list[dict[str, str]]  # rows of label_issues.csv; `part` is eval where labels.patches has no effect
    images: list[int]  # rows of the table with the flagged label
    changed: set[int]  # of these, the ones whose label changes

    @property
    def keys(self) -> set[tuple[str, ...]]:
        """The keys of its patches."""
        return {key_of(patch) for patch in self.patches}


def key_of(cells: Cells) -> tuple[str, ...]:
    """Return the key of a patch: an age in years counts as its class."""
    years = parse_age(cells["new"]) if cells["field"] == "age" else None
    new = cells["new"] if years is None else AGES[int(bin_age(years))]
    return (*(cells[name] for name in KEY[:-1]), new)


def list_flags(table: pd.DataFrame, found: Mapping[str, Suspicions], threshold: float, source: str) -> list[Flag]:
    """Return the flags with a posterior of at least `threshold`, the most probable first.

    `table` has id, person, label and patchable: whether labels.patches has an effect on the row.
    """
    flags = [flag for part in found.values() for flag in flags_of_kind(table, part, threshold, source)]
    return sorted(flags, key=lambda flag: (-flag.probability, flag.patches[0]["person"]))


def flags_of_kind(table: pd.DataFrame, part: Suspicions, threshold: float, source: str) -> Iterable[Flag]:
    """Yield the flags of one kind."""
    persons, ids, patchable = (table[name].to_numpy() for name in ("person", "id", "patchable"))
    classes = dict(zip(ATTRIBUTES, decode(table["label"]), strict=True))[part.kind]
    values, num_units = ATTRIBUTES[part.kind], pd.Series(part.persons).value_counts()
    for unit in np.flatnonzero(part.wrong >= threshold):
        rows = np.flatnonzero(part.units == unit)
        is_own = part.kind != "mask" and num_units[part.persons[unit]] == 1  # all images of the person have the label
        changed = [int(row) for row in rows if part.kind != "mask" or part.new[row] != classes[row]]
        patches = [
            dict(zip(PATCH_COLUMNS, (
                TIER, persons[row], "" if is_own else ids[row], part.kind, values[classes[row]],
                str(part.new[row]) if part.kind == "age" else values[part.new[row]], source,
            ), strict=True)) | {
                "probability": f"{part.wrong[unit]:.4f}",
                "part": "train" if (patchable[rows].any() if is_own else patchable[row]) else "eval",
            }
            for row in (changed[:1] if is_own else changed)
        ]  # fmt: skip
        yield Flag(part.kind, float(part.wrong[unit]), patches, [int(row) for row in rows], set(changed))


def read_refused(path: Path) -> set[tuple[str, ...]]:
    """Return the keys of the refused rows of a file of decisions; without a column decision all rows are refused.

    Raise DataError for an unknown decision.
    """
    rows = read_rows(path, KEY, optional=("decision",), ignored=("tier", "source", "probability"))
    errors: list[str] = []
    refused = [row.cells for row in rows if parse_decision(row, errors) == "refused" or "decision" not in row.cells]
    raise_errors(errors)
    return {key_of(cells) for cells in refused}


def format_issues(flags: Sequence[Flag], earlier: Sequence[Cells] = ()) -> str:
    """Return CSV for labels.patches: `earlier` patches, which the audited labels have, then those of the flags.

    Patches that labels.patches does not apply, those of evaluation rows, are left out.
    """
    rows = [*earlier, *(patch for flag in flags for patch in flag.patches if patch["part"] != "eval")]
    return pd.DataFrame(rows, columns=[*PATCH_COLUMNS, "probability"]).to_csv(index=False, lineterminator="\n")


def estimate_rows(kinds: Mapping[str, KindEstimate], threshold: float | None, flags: Sequence[Flag]) -> list[list[str]]:
    """Return kind, people, listed flags, estimated errors, recall and precision of each kind, as text.

    Without a threshold nothing is listed, and the recall is that of all flags that are worth a look.
    """
    rows, lowest = [], LOWEST if threshold is None else threshold
    for name, kind in kinds.items():
        num = sum(flag.kind == name for flag in flags)
        precision = f"{kind.precision(lowest, num):.2f}" if num else ""
        people, recall = f"{len(kind.suspicions.wrong):,}", f"{kind.recall(lowest):.2f}"
        rows.append([name, people, str(num), f"{kind.errors:.1f}", recall, precision])
    return rows


ESTIMATE_HEAD = ["labels", "people", "flags", "errors, estimated", "share of planted found", "precision, estimated"]


def read_thumbnails(
    table: pd.DataFrame, flags: Sequence[Flag], read: Callable[[str], np.ndarray | None] | None
) -> dict[int, str | None]:
    """Return the data: URI of each flagged image by its row, None where the reader of ids has no image."""
    rows = list(dict.fromkeys(row for flag in flags for row in flag.images))
    images = ((row, read(table["id"].iloc[row]) if read else None) for row in rows)
    return {row: None if image is None else thumbnail_of(image, THUMBNAIL)
            for row, image in track(images, len(rows), "page")}  # fmt: skip


def format_page(
    title: str, table: pd.DataFrame, flags: Sequence[Flag], estimates: list[list[str]], facts: Sequence[str],
    expected: np.ndarray | None, thumbnails: Mapping[int, str | None], earlier: Sequence[Cells] = (),
) -> str:  # fmt: skip
    """Return the self-contained page of flags with their images.

    `expected` are the expected ages (N,) in years, if the run has a head over years; `earlier` patches are part of
    what the page writes.
    """
    cards = [
        {"kind": flag.kind, "probability": flag.probability, "patches": flag.patches, "change": describe_change(flag),
         "key": "||".join("|".join(key_of(patch)) for patch in flag.patches),
         "person": table["person"].iloc[flag.images[0]], "facts": describe_person(table, flag, expected),
         "pictures": [picture(table, flag, row, thumbnails.get(row)) for row in flag.images]}
        for flag in flags
    ]  # fmt: skip
    values = {
        "title": title, "cards": cards, "estimates": [ESTIMATE_HEAD, *estimates], "facts": facts,
        "columns": [*PATCH_COLUMNS, "probability"], "kinds": [k for k in ATTRIBUTES if any(f.kind == k for f in flags)],
        "earlier": list(earlier),
    }  # fmt: skip
    return render_template("audit.html.j2", values)


def picture(table: pd.DataFrame, flag: Flag, row: int, image: str | None) -> dict[str, Any]:
    """Return image, name and mask of a row; a changed mask has its old and new word."""
    words = {patch["photo"]: f"{patch['old']} → {patch['new']}" for patch in flag.patches if flag.kind == "mask"}
    name = table["id"].iloc[row]
    mask = ATTRIBUTES["mask"][int(decode(table["label"].iloc[row])[0])]
    is_changed = flag.kind == "mask" and row in flag.changed
    return {"image": image, "name": stem_of(name), "changed": is_changed, "mask": words[name] if is_changed else mask}


def stem_of(name: str) -> str:
    """Return the name of an image's file without its ending, to show."""
    return name.rpartition("/")[2].rpartition(".")[0] or name


def describe_change(flag: Flag) -> str:
    """Return the old and new value of a flag in words."""
    if flag.kind == "mask":
        return ", ".join(f"{stem_of(patch['photo'])} {patch['old']} → {patch['new']}" for patch in flag.patches)
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
