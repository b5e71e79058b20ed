"""Overview of a data set: people, classes, ages, sizes, formats, doubles, unusable images, and a page with pictures.

maskcls data data=table data.file=photos.csv
maskcls data data=competition data.root=../mask-data out=competition.html
maskcls data extra=folder extra.root=outside extra.ages=[58,120]

The data is said as for a run. data=table (extra=table is the same) reads a CSV with a row for each image:

  path    absolute, or relative to data.root or to the CSV's folder; also file, filename, image, image_path, ImageID …
  mask    worn, incorrect or none; also with_mask, mask_weared_incorrect, without_mask, normal, 착용, 미착용 …
  gender  male or female; also M, F, man, woman, 남, 여 …; the column may be called sex or 성별
  age     years from 0 to 120; also years, 나이
  label   in place of mask, gender and age: class 0 to 17 = mask · 6 + gender · 3 + age class; also class, ans, target.
          mask 0 worn, 1 incorrect, 2 none · gender 0 male, 1 female · age class 0 under 30, 1 from 30 to 59, 2 from 60
  person  optional, all images of one person are in one fold; also person_id, subject, identity, id
  part    optional, train (the default) or eval: images that no fold trains on

Letter case, blanks and punctuation do not matter, and one line tells what was read under another name. Set other names
with data.columns={gender: sex} and data.values={mask: {0: worn, 1: none}}; data.columns={person: null} reads no people.
Numbers for mask or gender without a label, and two columns that could be one, are errors that ask for these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.core.schema import NonNegativeInt
from maskcls.system import console

if TYPE_CHECKING:
    import pandas as pd

    from maskcls.data.overview import Overview

BAR_WIDTH = 30  # characters
NUM_SHOWN = 5  # doubles and unusable images on the terminal
NUM_ON_PAGE = 40  # doubles on the page
Lines = list[list[str]]  # of a table, the first one its head
Tables = list[tuple[str, Lines]]
Findings = list[tuple[str, list[str]]]  # heading, messages


@dataclass(frozen=True)
class DataOptions:
    """Options of `maskcls data`."""

    out: str = "data.html"  # page to write: the counts, examples of each class and doubles as pictures
    examples: NonNegativeInt = 8  # images of each class on the page


def draw_bar(count: float, largest: float) -> str:
    """Return a bar of blocks, at least one for a count above zero, padded to one width."""
    return ("█" * max(round(BAR_WIDTH * count / largest), 1) if count else "").ljust(BAR_WIDTH)


def class_lines(usable: pd.DataFrame) -> Lines:
    """Return the table of classes with its head; parts that the data lacks have no column."""
    from maskcls.data.overview import PARTS, count_classes

    counts = count_classes(usable)
    parts = [part for part in ("eval", "extra") if counts[part].any()]
    head = ["class", "mask gender age", "images", "share", "people", *(PARTS[part] for part in parts), ""]
    return [head] + [
        [str(i), row["name"], f"{row['train']:,}", f"{100 * row['share']:.1f} %", f"{row['people']:,}",
         *(f"{row[part]:,}" for part in parts), draw_bar(row["train"], counts["train"].max())]
        for i, row in counts.iterrows()
    ]  # fmt: skip


def age_lines(usable: pd.DataFrame) -> Lines:
    """Return the bins of the histogram of ages, without a head."""
    from maskcls.data.overview import count_ages

    ages = count_ages(usable)
    largest = max((count for _, count in ages), default=0)
    return [[years, f"{count:,}", draw_bar(count, largest)] for years, count in ages]


def finding_lines(overview: Overview) -> Findings:
    """Return (heading, messages) of what may need work: missing classes, doubles, unusable and missing images."""
    from maskcls.data.overview import count_classes, find_doubles

    counts, rows = count_classes(overview.usable), overview.rows
    empty = [f"{i} {row['name']}" for i, row in counts.iterrows() if not row["train"]]
    doubles = [f"{what}: " + " = ".join(f"{row.id} ({row.person})" for row in group.itertuples())
               for what, group in find_doubles(overview.usable)]  # fmt: skip
    bad = rows[rows["error"].notna()]
    return [
        ("Classes without a training image", empty),
        ("Doubles", doubles),
        ("Unusable images", [f"{path} {error}" for path, error in zip(bad["path"], bad["error"], strict=True)]),
        ("Rows without a file", overview.missing),
    ]


def print_overview(tables: Tables, files: list[str], findings: Findings) -> None:
    """Print tables, lines on the files, then the number and the first of each kind of finding."""
    for title, (head, *lines) in tables:
        if lines:
            console.print_table(title, head, lines, left=2 if "class" in head else 1)
    for line in files:
        console.info(line)
    for name, messages in findings:
        console.info(f"{name}: {len(messages) if messages else 'none'}", "yellow" if messages else "")
        for message in messages[:NUM_SHOWN]:
            console.info(f"  {message}")
        if len(messages) > NUM_SHOWN:
            console.info(f"  … and {len(messages) - NUM_SHOWN} more")


def write_page(options: DataOptions, title: str, tables: Tables, overview: Overview, lists: Findings) -> None:
    """Write the page with pictures."""
    from maskcls.core.task import CLASSES
    from maskcls.data.overview import find_doubles, select_examples
    from maskcls.reporting.data_page import write_data_page

    usable = overview.usable
    examples = [(f"{i} {name}", select_examples(usable, i, options.examples)) for i, name in enumerate(CLASSES)]
    doubles = list(find_doubles(usable))[:NUM_ON_PAGE]
    write_data_page(Path(options.out), title, tables, examples, doubles, lists)
    console.info(f"{options.out}: the page with pictures")


@options_command(DataOptions, overrides=True)
def main(options: DataOptions, overrides: list[str]) -> None:
    """Print the overview and write the page."""
    from maskcls.config.compose import compose
    from maskcls.config.validation import validate
    from maskcls.core.config import Config
    from maskcls.data.overview import count_parts, describe_formats, describe_sizes, survey

    if not options.out.endswith(".html"):
        raise ConfigError(f"out: expected a name that ends in .html, got {options.out!r}")
    cfg: Config = validate(compose(*overrides))
    overview = survey(cfg, lambda text: console.info(text, "yellow"))
    usable = overview.usable
    tables = [
        ("Images", [["part", "images", "people", "images per person"], *count_parts(usable)]),
        ("Classes", class_lines(usable)),
        ("Ages of the people in training", [["years", "people", ""], *age_lines(usable)]),
    ]
    files = [f"Sizes, height × width: {describe_sizes(usable)}", f"Formats: {describe_formats(usable)}"]
    findings = finding_lines(overview)
    print_overview(tables, files, findings)
    lists = [("Files", files), *(pair for pair in findings if pair[0] != "Doubles")]
    write_page(options, f"data={cfg.data.name}", tables, overview, lists)
