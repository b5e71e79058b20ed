"""Words of a table: those that the documentation lists are understood, and no word means two things."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from maskcls.config.config_folders import resource_dir
from maskcls.core.columns import COLUMN_SYNONYMS, WEAK_SYNONYMS, squeeze
from maskcls.core.csv_values import MEANINGS, SYNONYMS, WORDS, check_values, find_meaning
from maskcls.core.task import CLASSES, GENDERS, MASKS

TEXT = (resource_dir("experiments") / "README.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## A table of one's own")[1].split("## ")[0]
COLUMNS = {cells[1].strip(" `"): cells for line in SECTION.splitlines() if len(cells := line.split("|")) == 5 and "`" in cells[1]}


@pytest.mark.parametrize("column", ["path", "mask", "gender", "age", "label", "person", "part"])
def test_listed_names_of_columns_are_understood(column: str) -> None:
    known = {squeeze(name) for name in (*COLUMN_SYNONYMS[column], *WEAK_SYNONYMS.get(column, ()))}
    listed = re.findall("`(.+?)`", COLUMNS[column][2])
    assert listed and {squeeze(name) for name in listed} <= known


@pytest.mark.parametrize("column", ["mask", "gender"])
def test_listed_words_mean_what_is_listed(column: str) -> None:
    pairs = re.findall(r"`(\w+)` \((.+?)\)", COLUMNS[column][3])
    assert [meaning for meaning, _ in pairs] == list(MEANINGS[column])
    for meaning, words in pairs:
        for word in [meaning, *re.findall("`(.+?)`", words)]:
            assert find_meaning(column, word.upper(), {}) == meaning


def test_the_listed_classes_are_those_of_the_task() -> None:
    rows = {cells[1].strip(): [int(cell) for cell in cells[2:-1]] for line in SECTION.splitlines()
            if len(cells := line.split("|")) == 9 and cells[1].strip() in MASKS}  # fmt: skip
    assert [i for mask in MASKS for i in rows[mask]] == list(range(18))
    assert [CLASSES[rows[mask][0]] for mask in MASKS] == [f"{mask} {GENDERS[0]} <30" for mask in MASKS]


def test_no_word_stands_for_two() -> None:
    for column, meanings in SYNONYMS.items():
        counts = Counter(squeeze(word) for meaning, words in meanings.items() for word in (meaning, *words))
        assert max(counts.values()) == 1 and len(counts) == len(WORDS[column])
    names = Counter(squeeze(name) for column in COLUMN_SYNONYMS for name in (column, *COLUMN_SYNONYMS[column], *WEAK_SYNONYMS.get(column, ())))
    assert max(names.values()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [({"gendr": {}}, "unknown column 'gendr', did you mean 'gender'"), ({"mask": {"0": "won"}}, "0: unknown mask 'won', did you mean 'worn'")],
)  # fmt: skip
def test_a_wrong_meaning_is_told(given: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_values(given)


def test_the_users_meaning_wins() -> None:
    given = {"mask": {"normal": "worn", "X-1": "none"}}
    assert [find_meaning("mask", value, given) for value in ("Normal", "x 1", "worn", "??")] == ["worn", "none", "worn", None]


def test_numbers_signs_and_negations_have_one_spelling() -> None:
    given = {"gender": {"0": "male", "1": "female"}, "mask": {"+": "worn", "-": "none"}}
    assert [find_meaning("gender", value, given) for value in ("1", "-1", "0", "0-")] == ["female", None, "male", None]
    assert [find_meaning("mask", value, given) for value in ("+", "-", "?", "!mask", "mask?")] == ["worn", "none", None, None, None]
