"""Who is who: one spelling of each person's id, and what is doubtful about people and their photos.

Surely one id, and made one: two Unicode forms (é as one sign or as two), blanks around it, several blanks inside it,
and `7.0` for `7` where all ids of a column are whole numbers, as a spreadsheet writes them. Doubtful, kept apart and
named in a note: ids that differ in case, in the width of letters, in blanks inside, or in leading zeros (`007` and `7`:
ids of the competition have zeros). `001498-1` and `001498` are two people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pandas as pd

from maskcls.core.errors import and_others

Note = Callable[[str], None]
WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")


def unify_ids(ids: pd.Series) -> pd.Series:
    """Return the ids of people, one spelling for each; what is doubtful stays apart."""
    plain = ids.map(lambda name: " ".join(unicodedata.normalize("NFC", name).split()))
    if plain[plain != ""].str.fullmatch(WHOLE.pattern).all():
        plain = plain.str.partition(".")[0]
    return plain


def loose_id(name: str) -> str:
    """Return what spellings of an id that may be one person's share."""
    text = unicodedata.normalize("NFKC", name.removeprefix("extra/")).casefold()
    text = "".join(sign for sign in text if not sign.isspace() and unicodedata.category(sign) != "Cf")
    number = WHOLE.fullmatch(text)
    return number[1].lstrip("0") if number else text


def note_doubtful_ids(table: pd.DataFrame, note: Note) -> None:
    """Name the ids of people that may be spellings of one."""
    names = pd.Series(table.loc[table["person"].ne(table["id"]), "person"].unique(), dtype=str)
    groups = [list(group) for _, group in names.groupby(names.map(loose_id), sort=False) if len(group) > 1]
    if groups:
        alike = [" = ".join(map(repr, sorted(group))) for group in groups]
        note(f"people: {len(groups)} ids have several spellings, each of which counts as a person of its own: "
             f"{and_others(alike)}. Where they are one person, write one spelling, or scores leak")  # fmt: skip


def note_same_photos(table: pd.DataFrame, note: Note) -> None:
    """Name the photos that occur twice: under two people, with two labels, or where one is trained on and one scored.

    The column `content` holds a digest of each photo's file.
    """
    own = table[~table["id"].str.startswith("pseudo/")]
    own = own[own["content"].duplicated(keep=False)].assign(evaluated=own["part"] == "eval")
    found: dict[str, list[str]] = {}
    for _, rows in own.groupby("content", sort=False):
        if kind := find_conflict(rows):
            who = [f"{name} ({person})" for name, person in zip(rows["id"], rows["person"], strict=True)]
            found.setdefault(kind, []).append(" = ".join(who))
    for kind, names in found.items():
        note(kind.format(f"{len(names)} photos") + f": {and_others(names)}")


def find_conflict(rows: pd.DataFrame) -> str | None:
    """Return what is wrong with rows of one photo, as a sentence with a place for their number; None if nothing is."""
    if rows["evaluated"].all() and not rows["scored"].any():
        return None
    if rows["evaluated"].nunique() > 1:
        if rows.loc[rows["evaluated"], "scored"].any():
            return "LEAK: {} are trained on and are scored evaluation photos too, so evaluation scores are too high"
        return "{} are trained on and are evaluation photos too"
    if rows["person"].nunique() > 1:
        if not rows["evaluated"].any() and rows["fold"].nunique() > 1:
            return "LEAK: {} are of several people and in several folds, so out-of-fold scores are too high"
        return "{} are of several people"
    return "{} have several labels" if rows["label"].nunique() > 1 else None
