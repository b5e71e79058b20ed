"""Person ids: one spelling for each person, and notes on ambiguous ids and duplicate images.

Unified: Unicode forms (é as one character or two), surrounding blanks, repeated blanks, and `7.0` or `7,0` for `7`
where all ids of a column are integers, as spreadsheets write them. Kept as different people, with a note: ids that
differ in case, letter width, inner blanks or leading zeros (`007` and `7`: ids of the competition have leading zeros).
`001498-1` and `001498` are two people.
"""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from maskcls.core.errors import and_others
from maskcls.core.table import Note

INTEGER = re.compile(r"([+-]?[0-9]+)(?:[.,]0*)?")


def unify_ids(ids: pd.Series) -> pd.Series:
    """Return person ids with one spelling for each person; ambiguous ids stay different."""
    plain = ids.map(lambda name: " ".join(unicodedata.normalize("NFC", name).split()))
    if plain[plain != ""].str.fullmatch(INTEGER.pattern).all():
        plain = plain.str.replace(",", ".").str.partition(".")[0]
    return plain


def loose_id(name: str) -> str:
    """Return the form that all possible spellings of an id share."""
    text = unicodedata.normalize("NFKC", name.removeprefix("extra/")).casefold()
    text = "".join(char for char in text if not char.isspace() and unicodedata.category(char) != "Cf")
    number = INTEGER.fullmatch(text)
    return number[1].lstrip("0") if number else text


def note_doubtful_ids(table: pd.DataFrame, note: Note) -> None:
    """Report person ids that may be spellings of one id."""
    names = pd.Series(table.loc[table["person"].ne(table["id"]), "person"].unique(), dtype=str)
    groups = [list(group) for _, group in names.groupby(names.map(loose_id), sort=False) if len(group) > 1]
    if groups:
        alike = [" = ".join(map(repr, sorted(group))) for group in groups]
        note(f"people: {len(groups)} ids have several spellings, each counted as a different person: "
             f"{and_others(alike)}. If they are one person, use one spelling; otherwise scores leak")  # fmt: skip


def note_duplicate_images(table: pd.DataFrame, note: Note) -> None:
    """Report duplicate images with two people, with two labels, or in both training and the evaluation set.

    The column `content` holds a digest of each image file.
    """
    own = table[~table["id"].str.startswith("pseudo/")]
    own = own[own["content"].duplicated(keep=False)].assign(evaluated=own["part"] == "eval")
    duplicates: dict[str, list[str]] = {}
    for _, rows in own.groupby("content", sort=False):
        if problem := duplicate_problem(rows):
            names = [f"{name} ({person})" for name, person in zip(rows["id"], rows["person"], strict=True)]
            duplicates.setdefault(problem, []).append(" = ".join(names))
    for problem, names in duplicates.items():
        note(problem.format(f"{len(names)} images") + f": {and_others(names)}")


def duplicate_problem(rows: pd.DataFrame) -> str | None:
    """Return the problem of several rows of one image as a format string for their number, None without a problem."""
    if rows["evaluated"].all() and not rows["scored"].any():
        return None
    if rows["evaluated"].nunique() > 1:
        if rows.loc[rows["evaluated"], "scored"].any():
            return "LEAK: {} are in both training and the labelled evaluation set, so evaluation scores are too high"
        return "{} are in both training and the evaluation set"
    if rows["person"].nunique() > 1:
        if not rows["evaluated"].any() and rows["fold"].nunique() > 1:
            return "LEAK: {} belong to several people in several folds, so out-of-fold scores are too high"
        return "{} belong to several people"
    return "{} have several labels" if rows["label"].nunique() > 1 else None
