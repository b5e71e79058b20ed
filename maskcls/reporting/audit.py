"""Suspected label errors of a run: as patches of the labels, and as a page to accept or refuse them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_cells import parse_number
from maskcls.core.csv_reader import parse_decision, raise_errors, read_rows
from maskcls.core.table import PATCH_COLUMNS
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.audit_estimate import LOWEST, KindEstimate
from maskcls.evaluation.label_issues import Suspicions, group_attributes
from maskcls.reporting.page_rendering import render_template, thumbnail_of
from maskcls.system.console import track

KEY = ("person", "photo", "field", "old", "new")  # cells by which a decision is found again; of a new number its class
TIER = "extended"  # of the written patches
THUMBNAIL = 112  # pixels
Cells = Mapping[str, str]


@dataclass(frozen=True)
class Flag:
    """One suspected error: a group's value of an attribute, or the values of its images."""

    kind: str  # the attribute
    probability: float  # that the label is wrong
    patches: list[dict[str, str]]  # rows of label_issues.csv; `part` is eval where labels.patches has no effect
    images: list[int]  # rows of the table with the flagged label
    changed: set[int]  # of these, the ones whose label changes
    of_images: bool  # the images have labels of their own

    def keys(self, task: Task) -> set[tuple[str, ...]]:
        """Return the keys of its patches."""
        return {key_of(patch, task) for patch in self.patches}


def key_of(cells: Cells, task: Task) -> tuple[str, ...]:
    """Return the key of a patch: a number counts as its class."""
    attribute = task[cells["field"]] if cells["field"] in task.names else None
    number = parse_number(cells["new"], attribute) if attribute and attribute.is_number else None
    new = cells["new"] if attribute is None or number is None else attribute.values[int(attribute.bin(number))]
    return (*(cells[name] for name in KEY[:-1]), new)


def list_flags(
    table: pd.DataFrame, found: Mapping[str, Suspicions], threshold: float, source: str, task: Task
) -> list[Flag]:
    """Return the flags with a posterior of at least `threshold`, the most probable first.

    `table` has id, person, label and patchable: whether labels.patches has an effect on the row.
    """
    flags = [flag for part in found.values() for flag in flags_of_kind(table, part, threshold, source, task)]
    return sorted(flags, key=lambda flag: (-flag.probability, flag.patches[0]["person"]))


def flags_of_kind(
    table: pd.DataFrame, part: Suspicions, threshold: float, source: str, task: Task
) -> Iterable[Flag]:
    """Yield the flags of one kind."""
    persons, ids, patchable = (table[name].to_numpy() for name in ("person", "id", "patchable"))
    classes, attribute = task.decode(table["label"])[task.axis(part.kind)], task[part.kind]
    values, num_units = attribute.values, pd.Series(part.persons).value_counts()
    new = part.new if attribute.is_number else np.array(values, object)[part.new.astype(np.int64)]
    is_other = (attribute.bin(part.new) if attribute.is_number else part.new) != classes
    for unit in np.flatnonzero(part.wrong >= threshold):
        rows = np.flatnonzero(part.units == unit)
        is_own = not part.of_images and num_units[part.persons[unit]] == 1  # all images of the person have the label
        changed = [int(row) for row in rows if is_other[row] or not part.of_images]
        patches = [
            dict(zip(PATCH_COLUMNS, (
                TIER, persons[row], "" if is_own else ids[row], part.kind, values[classes[row]],
                str(new[row]), source,
            ), strict=True)) | {
                "probability": f"{part.wrong[unit]:.4f}",
                "part": "train" if (patchable[rows].any() if is_own else patchable[row]) else "eval",
            }
            for row in (changed[:1] if is_own else changed)
        ]  # fmt: skip
        images = [int(row) for row in rows]
        yield Flag(part.kind, float(part.wrong[unit]), patches, images, set(changed), part.of_images)


def read_refused(path: Path, task: Task) -> set[tuple[str, ...]]:
    """Return the keys of the refused rows of a file of decisions; without a column decision all rows are refused.

    Raise DataError for an unknown decision.
    """
    rows = read_rows(path, KEY, optional=("decision",), ignored=("tier", "source", "probability"))
    errors: list[str] = []
    refused = [row.cells for row in rows if parse_decision(row, errors) == "refused" or "decision" not in row.cells]
    raise_errors(errors)
    return {key_of(cells, task) for cells in refused}


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


def estimate_head(task: Task) -> list[str]:
    """Return the head of the table of estimates."""
    found = "share of planted found"
    return ["labels", task.groups, "flags", "errors, estimated", found, "precision, estimated"]


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
    expected: np.ndarray | None, thumbnails: Mapping[int, str | None], earlier: Sequence[Cells], task: Task,
) -> str:  # fmt: skip
    """Return the self-contained page of flags with their images.

    `expected` are the expected numbers (N,), if the run has a head over a number; `earlier` patches are part of what
    the page writes.
    """
    of_group = group_attributes(table, task)
    cards = [
        {"kind": flag.kind, "probability": flag.probability, "patches": flag.patches,
         "change": describe_change(flag, task),
         "key": "||".join("|".join(key_of(patch, task)) for patch in flag.patches),
         "person": table["person"].iloc[flag.images[0]], "facts": describe_group(table, flag, expected, of_group, task),
         "pictures": [picture(table, flag, row, thumbnails.get(row), of_group, task) for row in flag.images]}
        for flag in flags
    ]  # fmt: skip
    values = {
        "title": title, "cards": cards, "estimates": [estimate_head(task), *estimates], "facts": facts,
        "columns": [*PATCH_COLUMNS, "probability"], "kinds": [k for k in task.names if any(f.kind == k for f in flags)],
        "earlier": list(earlier),
    }  # fmt: skip
    return render_template("audit.html.j2", values)


def picture(
    table: pd.DataFrame, flag: Flag, row: int, image: str | None, of_group: Collection[str], task: Task
) -> dict[str, Any]:
    """Return image, name and values of a row, but those of its group; a changed value has its old and new word."""
    words = {patch["photo"]: f"{patch['old']} → {patch['new']}" for patch in flag.patches if flag.of_images}
    name, is_changed = table["id"].iloc[row], flag.of_images and row in flag.changed
    labels = label_words(table.iloc[row], [attribute for attribute in task if attribute.name not in of_group], task)
    value = words[name] if is_changed else " ".join(labels)
    return {"image": image, "name": stem_of(name), "changed": is_changed, "value": value}


def stem_of(name: str) -> str:
    """Return the name of an image's file without its ending, to show."""
    return name.rpartition("/")[2].rpartition(".")[0] or name


def label_words(row: pd.Series, attributes: Iterable[Attribute], task: Task) -> list[str]:
    """Return the labels of a row for some attributes: values, or a known number with its unit."""
    indices = task.decode(row["label"])
    return [
        f"{row[one.source]:g} {one.unit}".rstrip() if one.is_number and not pd.isna(row[one.source])
        else one.values[int(indices[task.axis(one.name)])]
        for one in attributes
    ]  # fmt: skip


def describe_change(flag: Flag, task: Task) -> str:
    """Return the old and new value of a flag in words."""
    if flag.of_images:
        return ", ".join(f"{stem_of(patch['photo'])} {patch['old']} → {patch['new']}" for patch in flag.patches)
    first, attribute = flag.patches[0], task[flag.kind]
    return f"{first['old']} → {first['new']} {attribute.unit if attribute.is_number else ''}".rstrip()


def describe_group(
    table: pd.DataFrame, flag: Flag, expected: np.ndarray | None, of_group: Collection[str], task: Task
) -> str:
    """Return the labels of a flagged group, and the expected number if there is one."""
    words = label_words(table.iloc[flag.images[0]], [task[name] for name in of_group], task)
    predicted = f", predicted {expected[flag.images].mean():.0f}" if expected is not None else ""
    return f"labelled {' '.join(words)}{predicted}" if words else ""
