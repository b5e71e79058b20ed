"""Usual names of columns and usual words for values, as `synonyms.yaml` lists them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import yaml

from maskcls.core.task import Attribute

LISTS = yaml.safe_load((Path(__file__).parent / "synonyms.yaml").read_text(encoding="utf-8"))
COLUMN_SYNONYMS: dict[str, list[str]] = LISTS["columns"]
YES_NO = {"yes": ["y", "true"], "no": ["n", "false"]}  # of any attribute with these values


def squeeze(name: str) -> str:
    """Return the letters and digits of a name in lower case, which all of its spellings share."""
    return "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())


def value_words(attribute: Attribute) -> dict[str, str]:
    """Return {squeezed word: value} of an attribute's values and the usual words for them.

    Values with digits or signs, such as 1.5mm or A+, have no other spellings: 15mm and A- may be values too.
    """
    usual = {**YES_NO, **LISTS["values"].get(attribute.name, {})}
    synonyms = {squeeze(word): value for value in attribute.values for word in usual.get(value, ())}
    plain = [value for value in attribute.values if all(char.isalpha() or char in " _-" for char in value)]
    spellings = Counter(map(squeeze, plain))
    return synonyms | {squeeze(value): value for value in plain if spellings[squeeze(value)] == 1}
