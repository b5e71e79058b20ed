"""What a data set holds: people, classes, numbers, image sizes and formats, duplicates, unusable images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.config import Config
from maskcls.core.missing_files import SkipMissing
from maskcls.core.table import Note
from maskcls.core.task import Attribute, Task
from maskcls.data.image_facts import collect_facts
from maskcls.data.selection import prepare_rows
from maskcls.evaluation.number_errors import number_step
from maskcls.imaging.image_facts import ImageFacts

PARTS = {"train": "training", "eval": "evaluation", "extra": "extra"}
BIN_STEPS = 5  # in a bin of the histogram: of ages that are 5 years
MAX_BINS = 60  # of the histogram
FORMAT_SUFFIXES = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png",), "WEBP": (".webp",)}


@dataclass(frozen=True)
class Overview:
    """The rows of a data set with facts on their images, and messages on rows without a file."""

    rows: pd.DataFrame  # the image table with height, width, kind, content, pixels, error
    missing: list[str]

    @property
    def usable(self) -> pd.DataFrame:
        """The rows with usable images."""
        return self.rows[self.rows["error"].isna()]


def survey(cfg: Config, note: Note) -> Overview:
    """Read the table of a config, without folds, and every image of it."""
    skip = SkipMissing(note)
    table = prepare_rows(replace(cfg, on_error="skip"), cfg.data.build(skip), note)
    table = cfg.extra.build(table, skip)
    facts = pd.DataFrame(collect_facts(list(table["path"]), Path(cfg.cache_dir)), columns=list(ImageFacts._fields))
    return Overview(pd.concat([table.reset_index(drop=True), facts], axis=1), skip.messages)


def count_parts(rows: pd.DataFrame) -> list[list[str]]:
    """Return name, images, people and images per person of each part of the data."""
    lines = []
    for part, name in PARTS.items():
        if len(mine := rows[rows["part"] == part]):
            per_person = mine.groupby("person").size()
            has_people = part != "eval" or bool((mine["person"] != mine["id"]).any())
            people = [f"{len(per_person):,}", describe_counts(per_person)] if has_people else ["unknown", ""]
            lines.append([name, f"{len(mine):,}", *people])
    return lines


def describe_counts(per_person: pd.Series) -> str:
    """Return how many people have how many images, as "7 (1,000 people), 6 (2)"; of many numbers the range."""
    counts = per_person.value_counts()
    if len(counts) > 4:
        return f"{per_person.min()} to {per_person.max()}, median {per_person.median():g}"
    if len(counts) == 1:
        return str(counts.index[0])
    return ", ".join(f"{size} ({num:,} people)" for size, num in counts.items())


def count_classes(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Return images, share and people of each class in training, and its images in the other parts, (C, …)."""
    train = rows[rows["part"] == "train"]
    counts = {part: rows.loc[rows["part"] == part, "label"].value_counts() for part in PARTS}
    classes = range(task.num_classes)
    table = pd.DataFrame({part: count.reindex(classes, fill_value=0) for part, count in counts.items()})
    table["share"] = table["train"] / max(table["train"].sum(), 1)
    people = train.groupby("label")["person"].nunique()
    return table.assign(people=people.reindex(table.index, fill_value=0), name=task.classes)


def count_numbers(rows: pd.DataFrame, task: Task) -> list[tuple[str, int]]:
    """Return the people of each bin of the task's number, empty without one; a person's is the mean of the images'."""
    if task.number is None:
        return []
    numbers = rows[rows["part"] == "train"].groupby("person")[task.number.source].mean().dropna()
    if numbers.empty:
        return []
    width = bin_width(numbers, task.number)
    bins = (numbers // width).astype(int)
    counts = bins.value_counts().reindex(range(bins.min(), bins.max() + 1), fill_value=0)
    return [(describe_bin(int(i), width), int(count)) for i, count in counts.items()]  # type: ignore[call-overload]


def bin_width(numbers: pd.Series, attribute: Attribute) -> float:
    """Return the width of the histogram's bins, 1, 2 or 5 times a power of ten; at most MAX_BINS bins are needed."""
    least = max(BIN_STEPS * number_step(numbers, attribute), float(numbers.max() - numbers.min()) / MAX_BINS)
    power = 10.0 ** math.floor(math.log10(least))
    width = next(factor for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9)) * power
    return int(width) if width >= 1 else width


def describe_bin(i: int, width: float) -> str:
    """Return the numbers of a bin, such as 20–24; a bin of other than whole numbers ends below the next one."""
    low, high = i * width, (i + 1) * width
    if width == 1:
        return f"{low}"
    return f"{low}–{high - 1}" if isinstance(width, int) and low >= 0 else f"{low:g} to < {high:g}"


def describe_sizes(rows: pd.DataFrame, limit: int = 5) -> str:
    """Return the most frequent sizes with their counts, and the range of the others."""
    counts = rows.groupby(["height", "width"]).size().sort_values(ascending=False, kind="stable").reset_index(name="n")
    shown = [f"{size.height} × {size.width} ({size.n:,})" for size in counts.head(limit).itertuples()]
    others = counts.iloc[limit:]
    if len(others):
        heights, widths = others["height"], others["width"]
        shown.append(f"{len(others)} other sizes, {heights.min()} × {widths.min()} to {heights.max()} × {widths.max()}")
    return ", ".join(shown)


def describe_formats(rows: pd.DataFrame) -> str:
    """Return the formats with their counts, and the number of names whose suffix says another one."""
    counts = rows["kind"].value_counts()
    suffixes = rows["path"].map(lambda path: Path(path).suffix.lower())
    differs = [kind in FORMAT_SUFFIXES and suffix not in FORMAT_SUFFIXES[kind]
               for kind, suffix in zip(rows["kind"], suffixes, strict=True)]  # fmt: skip
    text = ", ".join(f"{kind} ({count:,})" for kind, count in counts.items())
    example = rows.loc[differs, "id"].iloc[0] if any(differs) else ""
    return text + (f"; {sum(differs):,} have the suffix of another format, such as {example}" if example else "")


def find_doubles(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (what they share and what is wrong, rows) for each group of images with equal pixels, worst first."""
    groups = [group for _, group in rows[rows["pixels"].duplicated(keep=False)].groupby("pixels", sort=False)]
    for group in sorted(groups, key=lambda group: -len(double_problems(group))):
        same = "same bytes" if group["content"].nunique() == 1 else "same pixels"
        yield ", ".join([same, *double_problems(group)]), group


def double_problems(group: pd.DataFrame) -> list[str]:
    """Return what is wrong with equal images: other people, labels or parts of the data."""
    known = group[group["label"] >= 0]
    people = known["person"].nunique()
    problems = [f"{people} people"] if people > 1 else []
    problems += ["different labels"] if known["label"].nunique() > 1 else []
    return problems + (["in training and evaluation"] if {"train", "eval"} <= set(group["part"]) else [])


def select_examples(rows: pd.DataFrame, label: int, limit: int) -> pd.DataFrame:
    """Return at most `limit` images of a class in training, evenly spaced over its rows."""
    mine = rows[(rows["part"] == "train") & (rows["label"] == label)]
    return mine.iloc[np.linspace(0, len(mine) - 1, min(limit, len(mine))).astype(int)] if len(mine) else mine
