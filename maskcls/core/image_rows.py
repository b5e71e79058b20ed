"""Rows of the image table: parsed from the cells of a CSV, and joined into the table."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.csv_cells import MASK_CODES, parse_class, parse_person
from maskcls.core.csv_reader import (
    find_outside_links,
    is_below_root,
    is_utf8,
    missing_path_message,
    parse_category,
    raise_errors,
    spell_as_on_disk,
)
from maskcls.core.errors import DataError, unknown_message
from maskcls.core.identities import unify_ids
from maskcls.core.missing_files import report_missing
from maskcls.core.table import COLUMNS, Note
from maskcls.core.task import MASKS, bin_age, encode


def parse_row(cells: Mapping[str, str], base: Path, location: str, errors: list[str], note: Note) -> dict[str, Any]:
    """Return the cells of a CSV row as a row of the table, adding what is wrong with it to `errors`.

    Its path is None if the file is missing and on_error=skip.
    """
    name, part = cells["path"], cells.get("part", "").lower() or "train"
    path: Path | None = base / (spell_as_on_disk(base, name) if is_below_root(name) else name)
    if not is_below_root(name):
        errors.append(f"{location}: {missing_path_message('file', base, name)}")
    elif not os.path.isfile(str(path)):
        report_missing(f"{location}: {missing_path_message('file', base, name)}", errors, note)
        path = None
    if part not in ("train", "eval"):
        errors.append(f"{location}: {unknown_message('part', part, ('train', 'eval'))}")
    row = {"path": path, "person": cells.get("person", ""), "part": part}
    if "label" in cells:
        return row | parse_class(cells, location, errors)
    mask = parse_category(cells["mask"], MASK_CODES)
    if mask is None:
        errors.append(f"{location}: {unknown_message('mask', cells['mask'], MASKS)}")
    return row | {"mask": mask, **parse_person(cells, location, errors)}


def to_table(rows: list[dict[str, Any]], base: Path, links: bool = False) -> pd.DataFrame:
    """Return rows as the table: ids relative to the root in Unicode NFC, labels from mask, gender and age.

    Spellings of one person's id are unified (identities.unify_ids); an image without a person is its own person.
    """
    if not rows:
        raise DataError(f"{base} contains no images")
    paths = [str(row["path"]) for row in rows]
    raise_errors([f"{path!r}: the file name is not valid UTF-8. Rename it" for path in paths if not is_utf8(path)])
    outside = [] if links else find_outside_links(paths, base)
    raise_errors(
        [f"{path} links to outside {base}. Set links=true beside root or file to allow it" for path in outside]
    )
    top = "" if base == Path() else os.path.join(base, "")
    ids = [unicodedata.normalize("NFC", path.removeprefix(top).replace(os.sep, "/")) for path in paths]
    table = pd.DataFrame(rows).assign(path=paths, id=ids)
    duplicates = table.loc[table["id"].duplicated(), "id"]
    raise_errors([f"{base}: several files are named {name!r}, in different Unicode forms. Rename them"
                  for name in duplicates])  # fmt: skip
    has_person = table["person"] != ""
    table["person"] = unify_ids(table["person"]).where(has_person, table["id"])
    if "label" not in table:
        labels = encode(table["mask"], table["gender"], bin_age(table["age"].fillna(0)))
        table["label"] = np.where(table["mask"] >= 0, labels, -1)
    return table[COLUMNS].reset_index(drop=True)
