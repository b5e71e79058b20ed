"""Further columns of a CSV whose values are groups of people, such as race; nothing is trained on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from maskcls.core.table import GROUP_PREFIX

MAX_VALUES, MIN_ROWS = 20, 2  # of a column: different values, and rows for each of them on average
MAX_COLUMNS = 8
NOT_READ = "(not read)"  # ends the name of a column beside another one of the same meaning
MAX_LENGTH = 40  # of the name and of a value


def find_groups(rows: Sequence[Mapping[str, str]], known: Collection[str]) -> list[str]:
    """Return the columns, but `known` ones and id, that hold groups: 2 to 20 values, each of two rows on average.

    Names and values must be printable, at most 40 characters, without commas and quotes; the first 8 columns count.
    """
    header = rows[0] if rows else ()
    further = [name for name in header if name not in (*known, "id") and not name.endswith(NOT_READ)]
    columns = [name for name in further if is_plain(name) and has_groups([row.get(name, "") for row in rows])]
    return columns[:MAX_COLUMNS]


def has_groups(cells: Sequence[str]) -> bool:
    """Return True if the cells of a column, "" if unknown, divide the rows into few groups."""
    filled = [cell for cell in cells if cell]
    values = set(filled)
    return 2 <= len(values) <= MAX_VALUES and len(values) * MIN_ROWS <= len(filled) and all(map(is_plain, values))


def is_plain(text: str) -> bool:
    """Return True for a short text that needs no quotes in a CSV."""
    return 0 < len(text) <= MAX_LENGTH and text.isprintable() and not {*text} & {*",\"'"}


def group_cells(cells: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    """Return the cells of a row as columns of the image table, {group.race: value}."""
    return {f"{GROUP_PREFIX}{name}": cells.get(name, "") for name in columns}
