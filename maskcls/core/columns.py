"""CSV column names: other spellings and synonyms are accepted, misspelt names are errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from maskcls.core.errors import DataError, nearest, suggestion_message, unknown_message
from maskcls.core.group_values import NOT_READ
from maskcls.core.synonyms import COLUMN_SYNONYMS, squeeze
from maskcls.core.table import Note

SIMILARITY_CUTOFF = 0.8  # of two names; above it one is taken for a misspelling of the other
WEAK_SYNONYMS = {"person": ("id", "pid")}  # only where no other column matches: an id may number images or people
Columns = Mapping[str, str | None]  # the column of each name, as the user sets it; None: do not read one


def rename_columns(
    source: Path, header: Sequence[str], names: Sequence[str], given: Columns | None = None, key: str = ""
) -> list[str]:  # fmt: skip
    """Return the header with the columns that `given` names, other spellings and synonyms of `names` replaced.

    Raise DataError for ambiguous columns; the config key `key`, if the table has one, sets what `given` holds.
    """
    chosen, errors = find_given(source, header, given or {}, key), []
    for name in [name for name in names if name not in chosen]:
        matches = find_matches(header, name, names, chosen.values())
        if len(matches) > 1:
            columns = " and ".join(f"'{header[i]}'" for i in matches)
            remedy = f"Set {key}={{{name}: {header[matches[0]]}}}" if key else f"Rename the right one to {name}"
            errors.append(f"{source}: columns {columns} all match '{name}'. {remedy}")
        elif matches:
            chosen[name] = matches[0]
    if errors:
        raise DataError(*errors)
    renamed = [f"{column} {NOT_READ}" if column in names else column for column in header]
    for name, i in chosen.items():
        renamed[i] = name if i >= 0 else renamed[i]
    return renamed


def find_given(source: Path, header: Sequence[str], given: Columns, key: str) -> dict[str, int]:
    """Return the position of the column that the user sets for each name, −1 for none; DataError for unknown ones."""
    positions, errors = {}, []
    for name, column in given.items():
        matches = [i for i, other in enumerate(header) if column is not None and squeeze(other) == squeeze(column)]
        exact = [i for i in matches if header[i] == column] or matches
        if column is not None and len(exact) != 1:
            errors.append(f"{key}: {unknown_message('column', column, header, str(source))}")
        positions[name] = exact[0] if exact else -1
    taken = [header[i] for i in positions.values() if i >= 0]
    errors += [f"{key}: column '{column}' is given twice" for column in dict.fromkeys(taken) if taken.count(column) > 1]
    if errors:
        raise DataError(*errors)
    return positions


def find_matches(header: Sequence[str], name: str, names: Sequence[str], taken: Iterable[int]) -> list[int]:
    """Return the positions of the columns that match a name: the exact one, else its spellings, else weak synonyms."""
    free = [i for i in range(len(header)) if i not in set(taken)]
    if exact := [i for i in free if header[i] == name]:
        return exact
    for synonyms in ((name, *COLUMN_SYNONYMS.get(name, ())), WEAK_SYNONYMS.get(name, ())):
        spellings = {squeeze(spelling) for spelling in synonyms}
        if matches := [i for i in free if header[i] not in names and squeeze(header[i]) in spellings]:
            return matches
    return []


def renamed_columns(header: Sequence[str], names: Sequence[str], renamed: Sequence[str]) -> dict[str, str]:
    """Return {name: column} of the columns that are read under another name."""
    return {name: column for column, name in zip(header, renamed, strict=True) if name in names and column != name}


def check_unused(
    source: Path, header: Sequence[str], names: Sequence[str], ignored: Sequence[str], note: Note,
    settled: Iterable[str] = (), groups: Sequence[str] = (),
) -> None:  # fmt: skip
    """Report columns that are not read; raise DataError for one that resembles a missing column, unless `settled`.

    Columns of `groups` are not trained on and not reported as unused: the report shows scores for their values.
    """
    unused = [column for column in header if column not in names and column not in ignored]
    missing = [name for name in names if name not in header and name not in settled]
    misspelt = [(column, find_misspelt(column, missing)) for column in unused]
    errors = [f"{source}: {suggestion_message('column', column, repr(name))} Rename it or remove it"
              for column, name in misspelt if name]  # fmt: skip
    if errors:
        raise DataError(*errors)
    if shown := [column for column in groups if column not in ignored]:
        note(f"{source}: scores are shown for each value of column {', '.join(shown)}, which no training uses")
    if unused := [column for column in unused if column not in groups]:
        note(f"{source}: columns not used: {', '.join(column or '(no name)' for column in unused)}")


def find_misspelt(column: str, names: Sequence[str]) -> str | None:
    """Return the name that a column resembles, None if it resembles none."""
    if "person" in names and "person" in squeeze(column):
        return "person"
    return nearest(squeeze(column), names, SIMILARITY_CUTOFF)
