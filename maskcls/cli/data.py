"""Overview of a data set: people, classes, numbers, sizes, formats, doubles, unusable images, and a page with pictures.

maskcls data data=table data.file=photos.csv
maskcls data data=competition data.root=../mask-data out=competition.html
maskcls data extra=folder extra.root=outside

The data is said as for a run. data=table (extra=table is the same) reads a CSV with a row for each image:

  path    absolute, or relative to data.root or to the CSV's folder; also file, filename, image, image_path, ImageID …
  {columns}
  person  optional, all images of one person are in one fold; also person_id, subject, identity, id
  part    optional, train (the default) or eval: images that no fold trains on

Another task has columns of its own in place of these, named as its attributes.

Letter case, blanks and punctuation do not matter, and one line tells what was read under another name. Set other names
with {renamed} and {meanings}; data.columns={person: null} reads no people.
Numbers in place of values without a label, and two columns that could be one, are errors that ask for these.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskcls.cli.arguments import options_command
from maskcls.core.errors import ConfigError
from maskcls.core.schema import NonNegativeInt
from maskcls.system import console

if TYPE_CHECKING:
    import pandas as pd

    from maskcls.core.task import Task
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


def class_lines(usable: pd.DataFrame, task: Task) -> Lines:
    """Return the table of classes with its head; parts that the data lacks have no column."""
    from maskcls.data.overview import PARTS, count_classes

    counts = count_classes(usable, task)
    parts = [part for part in ("eval", "extra") if counts[part].any()]
    many = "people" if task.group == "person" else "groups"
    head = ["class", " ".join(task.names), "images", "share", many, *(PARTS[part] for part in parts), ""]
    return [head] + [
        [str(i), row["name"], f"{row['train']:,}", f"{100 * row['share']:.1f} %", f"{row['people']:,}",
         *(f"{row[part]:,}" for part in parts), draw_bar(row["train"], counts["train"].max())]
        for i, row in counts.iterrows()
    ]  # fmt: skip


def number_table(usable: pd.DataFrame, task: Task) -> Tables:
    """Return the histogram of the task's number with its title, nothing without a number."""
    from maskcls.data.overview import count_numbers

    if task.number is None:
        return []
    counts, name = count_numbers(usable, task), task.number.source
    largest = max((count for _, count in counts), default=0)
    lines = [[numbers, f"{count:,}", draw_bar(count, largest)] for numbers, count in counts]
    title = f"{name[0].upper()}{name[1:]}{'' if name.endswith('s') else 's'} of the {task.groups} in training"
    return [(title, [[task.number.unit or name, task.groups, ""], *lines])]


def finding_lines(overview: Overview, task: Task) -> Findings:
    """Return (heading, messages) of what may need work: missing classes, doubles, unusable and missing images."""
    from maskcls.data.overview import count_classes, find_doubles

    counts, rows = count_classes(overview.usable, task), overview.rows
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


def write_page(
    options: DataOptions, title: str, tables: Tables, overview: Overview, lists: Findings, task: Task
) -> None:
    """Write the page with pictures."""
    from maskcls.data.overview import find_doubles, select_examples
    from maskcls.reporting.data_page import write_data_page

    usable = overview.usable
    examples = [(f"{i} {name}", select_examples(usable, i, options.examples)) for i, name in enumerate(task.classes)]
    doubles = list(find_doubles(usable))[:NUM_ON_PAGE]
    write_data_page(Path(options.out), title, tables, examples, doubles, lists, task)
    console.info(f"{options.out}: the page with pictures")


def main() -> None:
    """Run the command; its help has the columns of the default task."""
    global __doc__
    if {"-h", "--help"} & set(sys.argv[1:]):
        from maskcls.core.task_options import read_task
        from maskcls.data.column_help import fill_help

        __doc__ = fill_help(__doc__ or "", read_task(None))
    show_overview()


@options_command(DataOptions, overrides=True)
def show_overview(options: DataOptions, overrides: list[str]) -> None:
    """Print the overview and write the page."""
    from maskcls.config.compose import compose
    from maskcls.config.validation import validate
    from maskcls.core.config import Config
    from maskcls.data.overview import count_parts, describe_formats, describe_sizes, survey

    if not options.out.endswith(".html"):
        raise ConfigError(f"out: expected a name that ends in .html, got {options.out!r}")
    cfg: Config = validate(compose(*overrides))
    task = cfg.task.build()
    overview = survey(cfg, lambda text: console.info(text, "yellow"))
    usable, task = overview.usable, cfg.task.build()
    one, many = ("person", "people") if task.group == "person" else ("group", "groups")
    tables = [
        ("Images", [["part", "images", many, f"images per {one}"], *count_parts(usable)]),
        ("Classes", class_lines(usable, task)),
        *number_table(usable, task),
    ]
    files = [f"Sizes, height × width: {describe_sizes(usable)}", f"Formats: {describe_formats(usable)}"]
    findings = finding_lines(overview, task)
    print_overview(tables, files, findings)
    lists = [("Files", files), *(pair for pair in findings if pair[0] != "Doubles")]
    write_page(options, f"data={cfg.data.name}", tables, overview, lists, task)
