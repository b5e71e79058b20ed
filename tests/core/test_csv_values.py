"""Words of a table: those that the documentation lists are understood, and no word means two things."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from maskcls.config.config_folders import resource_dir
from maskcls.core.columns import COLUMN_SYNONYMS, WEAK_SYNONYMS, squeeze
from maskcls.core.competition import MASK18
from maskcls.core.csv_values import check_values, find_meaning, meanings
from maskcls.core.synonyms import LISTS, value_words
from maskcls.core.task import Attribute, Task

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
    assert [meaning for meaning, _ in pairs] == list(meanings(MASK18)[column])
    for meaning, words in pairs:
        for word in [meaning, *re.findall("`(.+?)`", words)]:
            assert find_meaning(column, word.upper(), {}, task=MASK18) == meaning


def test_the_listed_classes_are_those_of_the_task() -> None:
    masks, genders, _ = MASK18.values.values()
    rows = {cells[1].strip(): [int(cell) for cell in cells[2:-1]] for line in SECTION.splitlines()
            if len(cells := line.split("|")) == 9 and cells[1].strip() in masks}  # fmt: skip
    assert [i for mask in masks for i in rows[mask]] == list(range(18))
    assert [MASK18.classes[rows[mask][0]] for mask in masks] == [f"{mask} {genders[0]} <30" for mask in masks]


def test_no_word_stands_for_two() -> None:
    for column, values in LISTS["values"].items():
        counts = Counter(squeeze(word) for meaning, words in values.items() for word in (meaning, *words))
        assert max(counts.values()) == 1 and len(counts) == len(value_words(MASK18[column]))
    names = Counter(squeeze(name) for column in COLUMN_SYNONYMS for name in (column, *COLUMN_SYNONYMS[column], *WEAK_SYNONYMS.get(column, ())))
    assert max(names.values()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [({"gendr": {}}, "unknown column 'gendr', did you mean 'gender'"), ({"mask": {"0": "won"}}, "0: unknown mask 'won', did you mean 'worn'")],
)  # fmt: skip
def test_a_wrong_meaning_is_told(given: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_values(given, task=MASK18)


def test_the_users_meaning_wins() -> None:
    given = {"mask": {"normal": "worn", "X-1": "none"}}
    assert [find_meaning("mask", value, given, task=MASK18) for value in ("Normal", "x 1", "worn", "??")] == ["worn", "none", "worn", None]


def test_numbers_signs_and_negations_have_one_spelling() -> None:
    given = {"gender": {"0": "male", "1": "female"}, "mask": {"+": "worn", "-": "none"}}
    assert [find_meaning("gender", value, given, task=MASK18) for value in ("1", "-1", "0", "0-")] == ["female", None, "male", None]
    assert [find_meaning("mask", value, given, task=MASK18) for value in ("+", "-", "?", "!mask", "mask?")] == ["worn", "none", None, None, None]


def test_words_count_for_the_attributes_of_a_task_alone() -> None:
    task = Task((Attribute("glasses", ("yes", "no")), Attribute("안경", ("있음", "없음 정상")), Attribute("mask", ("on", "off"))))
    assert meanings(task) == {**task.values, "part": ("train", "eval")}
    words = {"glasses": {"YES": "yes", "y": "yes", "true": "yes", "No": "no", "F": None, "1": None},
             "안경": {"있음": "있음", "없음정상": "없음 정상", "없음": None}, "mask": {"ON": "on", "worn": None, "wearing": None}}  # fmt: skip
    for column, expected in words.items():
        assert {word: find_meaning(column, word, {}, task) for word in expected} == expected
    with pytest.raises(ValueError, match="unknown column 'gender'"):
        check_values({"gender": {"M": "male"}}, task)


@pytest.mark.parametrize(
    ("values", "cells"),
    [(("A", "A+", "A-"), {"a": "A", "a+": "A+", "A-": "A-"}), (("1.5mm", "15mm"), {"15MM": "15mm", "1.5mm": "1.5mm", "1.5 mm": None, "1-5mm": None}),
     (("light green", "dark"), {"Light_Green": "light green", "light-green": "light green"})],
)  # fmt: skip
def test_signs_and_digits_of_a_value_are_not_passed_over(values: tuple[str, ...], cells: dict[str, str | None]) -> None:
    task = Task((Attribute("grade", values),))
    assert {cell: find_meaning("grade", cell, {}, task) for cell in cells} == cells
