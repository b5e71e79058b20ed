"""A task as plain data: what a config may say of its attributes, the sentence of each mistake, and the round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.core.task_options import (
    MAX_CLASSES,
    RESERVED,
    describe_task,
    parse_attribute,
    parse_attributes,
    range_names,
    read_task,
)

CONF = Path(__file__).parents[2] / "conf" / "task"
GLASSES = {"name": "glasses", "values": ["yes", "no"]}
STAGE = {"name": "stage", "column": "days", "borders": [10, 20]}


def values(count: int) -> list[str]:
    return [f"v{i}" for i in range(count)]


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "none": ([], "expected at least one attribute, got none. Set task.attributes='[{name: …, values: […, …]}]'"),
    "an unknown key": ([GLASSES | {"colr": "#000000"}], "attribute 'glasses': unknown key 'colr', did you mean 'colour'?"),
    "no name": ([{"values": ["a", "b"]}], "attribute 1: expected a name of letters, digits and '_', got None"),
    "a name with a blank": ([GLASSES, GLASSES | {"name": "eye colour"}], "attribute 2: expected a name of letters, digits and '_', got 'eye colour'"),
    "a name with a digit first": ([GLASSES | {"name": "2nd"}], "attribute 1: expected a name of letters, digits and '_', got '2nd'"),
    "a Korean name": ([GLASSES | {"name": "안경"}], "attribute 1: expected a name of letters, digits and '_', got '안경'"),
    "a long name": ([GLASSES | {"name": "x" * 41}], f"attribute 1: expected a name of letters, digits and '_', got '{'x' * 41}'"),
    "a name of two lines": ([GLASSES | {"name": "ab\n"}], "attribute 1: expected a name of letters, digits and '_', got 'ab\\n'"),
    "a name that is a number": ([GLASSES | {"name": 7}], "attribute 1: expected a name of letters, digits and '_', got 7"),
    "a name of a column": ([GLASSES | {"name": "Label"}], "attribute 'Label': the name is used for something else. Choose another name"),
    "a numbered column": ([GLASSES | {"name": "p12"}], "attribute 'p12': the name is used for something else. Choose another name"),
    "a fold's column": ([GLASSES | {"name": "soft0_3"}], "attribute 'soft0_3': the name is used for something else. Choose another name"),
    "no values": ([{"name": "glasses"}], "attribute 'glasses': expected a list of values, got None"),
    "a value alone": ([GLASSES | {"values": "yes"}], "attribute 'glasses': expected a list of values, got 'yes'"),
    "one value": ([GLASSES | {"values": ["yes"]}], "attribute 'glasses': expected at least two values, got 1"),
    "a value twice": ([GLASSES | {"values": ["a", "b", "a"]}], "attribute 'glasses': value 'a' is given twice"),
    "a value in two cases": ([GLASSES | {"values": ["Rot", "rot"]}], "attribute 'glasses': value 'Rot' is given twice"),
    "a boolean and its word": ([GLASSES | {"values": [True, "yes"]}], "attribute 'glasses': value 'yes' is given twice"),
    "an empty value": ([GLASSES | {"values": ["a", ""]}], "attribute 'glasses': expected values of printable characters, got ''"),
    "a value with a blank at its end": ([GLASSES | {"values": ["a ", "b"]}], "attribute 'glasses': expected values of printable characters, got 'a '"),
    "a value with a tab": ([GLASSES | {"values": ["a\tb", "b"]}], "attribute 'glasses': expected values of printable characters, got 'a\\tb'"),
    "a list as a value": ([GLASSES | {"values": [["a"], "b"]}], "attribute 'glasses': expected a word, got ['a']"),
    "borders out of order": ([STAGE | {"borders": [20, 10]}], "attribute 'stage': expected borders as a list of increasing numbers, got [20, 10]"),
    "a border twice": ([STAGE | {"borders": [10, 10]}], "attribute 'stage': expected borders as a list of increasing numbers, got [10, 10]"),
    "a border that is a word": ([STAGE | {"borders": ["10"]}], "attribute 'stage': expected borders as a list of increasing numbers, got ['10']"),
    "a border that is a boolean": ([STAGE | {"borders": [True]}], "attribute 'stage': expected borders as a list of increasing numbers, got [True]"),
    "an infinite border": ([STAGE | {"borders": [float("inf")]}], "attribute 'stage': expected borders as a list of increasing numbers, got [inf]"),
    "a border alone": ([STAGE | {"borders": 10}], "attribute 'stage': expected borders as a list of increasing numbers, got 10"),
    "a column without borders": ([GLASSES | {"column": "g"}], "attribute 'glasses': column needs borders, the first number of each value but the first"),
    "a unit without borders": ([GLASSES | {"unit": "cm"}], "attribute 'glasses': unit needs borders, the first number of each value but the first"),
    "limits without borders": ([GLASSES | {"limits": [0, 1]}], "attribute 'glasses': limits needs borders, the first number of each value but the first"),
    "train_borders alone": ([GLASSES | {"train_borders": [3]}], "attribute 'glasses': train_borders needs borders, the first number of each value but the first"),
    "too few values": ([STAGE | {"values": ["a", "b"]}], "attribute 'stage': 2 borders make 3 values, got 2"),
    "too few train_borders": ([STAGE | {"train_borders": [10]}], "attribute 'stage': expected 2 train_borders as borders, got 1"),
    "one limit": ([STAGE | {"limits": [5]}], "attribute 'stage': expected limits [lowest, highest] around the borders, got [5]"),
    "limits inside": ([STAGE | {"limits": [10, 30]}], "attribute 'stage': expected limits [lowest, highest] around the borders, got [10, 30]"),
    "limits below": ([STAGE | {"limits": [0, 19]}], "attribute 'stage': expected limits [lowest, highest] around the borders, got [0, 19]"),
    "per": ([GLASSES | {"per": "grup"}], "attribute 'glasses': unknown value of per 'grup', did you mean 'group'?"),
    "a colour's name": ([GLASSES | {"colour": "red"}], "attribute 'glasses': expected a colour as #1f77b4, got 'red'"),
    "a name twice": ([GLASSES, GLASSES], "'glasses' is used twice, by attribute 'glasses' and an earlier one"),
    "a column twice": ([STAGE, STAGE | {"name": "phase"}], "'days' is used twice, by attribute 'phase' and an earlier one"),
    "a column that is a name": ([{"name": "days", "values": ["a", "b"]}, STAGE], "'days' is used twice, by attribute 'stage' and an earlier one"),
    "a name that is a class column": ([STAGE, GLASSES | {"name": "stage_class"}], "'stage_class' is used twice, by attribute 'stage_class' and an earlier one"),
    "a name that is a soft column": ([GLASSES | {"name": "stage1"}, STAGE], "'stage1' is used twice, by attribute 'stage' and an earlier one"),
    "too many classes": ([{"name": "a", "values": values(101)}, {"name": "b", "values": values(100)}], "the attributes have 10,100 combinations, expected at most 10,000 classes"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_mistake_has_its_sentence(what: str) -> None:
    raw, sentence = WRONG[what]
    with pytest.raises(ValueError) as caught:
        parse_attributes(raw)
    assert str(caught.value).removesuffix(".") == sentence.removesuffix(".")


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_of_our_own_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match="the name is used for something else"):
        parse_attributes([GLASSES | {"name": name.upper()}])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[yes, no]", ("yes", "no")), ("[off, on]", ("no", "yes")), ("[true, maybe]", ("yes", "maybe")), ("[null, some]", ("none", "some")),
     ("[1, 2.5]", ("1", "2.5")), ("[빨간 색, 파랑]", ("빨간 색", "파랑")), ("[dark brown, 'light, blue']", ("dark brown", "light, blue"))],
)  # fmt: skip
def test_values_are_as_a_table_spells_them(text: str, expected: tuple[str, ...]) -> None:
    assert parse_attribute({"name": "kind", "values": yaml.safe_load(text)}, 0).values == expected


@pytest.mark.parametrize(
    ("borders", "expected"),
    [([30, 60], ("<30", "30-59", ">=60")), ([10], ("<10", ">=10")), ([0.5, 1.5], ("<0.5", "0.5 to <1.5", ">=1.5")),
     ([10.0, 20.0], ("<10", "10-19", ">=20")), ([1, 2.5, 4], ("<1", "1 to <2.5", "2.5 to <4", ">=4"))],
)  # fmt: skip
def test_ranges_are_named_by_their_borders(borders: list[float], expected: tuple[str, ...]) -> None:
    assert range_names(borders) == expected
    made = parse_attribute({"name": "stage", "borders": borders}, 0)
    assert made.values == expected and made.column == "stage" and made.train_borders == tuple(borders)


def test_an_attribute_of_a_number_has_what_is_given() -> None:
    raw = STAGE | {"values": ["early", "mid", "late"], "train_borders": [9, 22], "unit": "days", "limits": [0, 99], "per": "group", "short": "st", "colour": "#aB0012"}
    expected = Attribute("stage", ("early", "mid", "late"), "days", (10, 20), (9, 22), "days", (0, 99), "group", "st", "#aB0012")
    assert parse_attribute(raw, 0) == expected
    assert parse_attribute(STAGE | {"limits": [], "unit": None, "per": None}, 0) == parse_attribute(STAGE, 0)


def test_as_many_classes_as_are_allowed() -> None:
    assert len(parse_attributes([{"name": "a", "values": values(100)}, {"name": "b", "values": values(MAX_CLASSES // 100)}])) == 2


def test_the_default_task_is_the_competitions() -> None:
    section = yaml.safe_load((CONF / "mask18.yaml").read_text(encoding="utf-8"))
    assert read_task(section) == MASK18 == read_task(None)
    assert read_task(describe_task(MASK18)) == MASK18


WORDS = some.text(some.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=8).map(str.strip).filter(lambda word: word and word.isprintable())


@some.composite
def tasks(draw: some.DrawFn) -> Task:
    """Draw a task of one to four attributes."""
    attributes = []
    for i in range(draw(some.integers(1, 4))):
        names = draw(some.lists(WORDS, min_size=2, max_size=6, unique_by=str.casefold))
        borders = sorted(draw(some.sets(some.integers(-50, 50) | some.floats(-50, 50), min_size=len(names) - 1, max_size=len(names) - 1)))
        looks: dict[str, Any] = {"per": draw(some.sampled_from(["", "group", "photo"])), "short": draw(some.sampled_from(["", "a"]))}
        if draw(some.booleans()):
            limits = draw(some.sampled_from([(-60, 60), (float("-inf"), float("inf"))]))
            attributes.append(Attribute(f"n{i}", tuple(names), f"c{i}", tuple(borders), tuple(borders), draw(some.sampled_from(["", "cm"])), limits, **looks))
        else:
            attributes.append(Attribute(f"n{i}", tuple(names), **looks))
    return Task(tuple(attributes), draw(some.sampled_from([None, "person", "family id"])))


@settings(max_examples=150, deadline=None)
@given(tasks())
def test_a_task_that_is_stored_is_read_again(task: Task) -> None:
    section = yaml.safe_load(yaml.safe_dump(describe_task(task), allow_unicode=True))
    assert read_task(section) == task
    assert parse_attributes(section["attributes"]) == section["attributes"], "what is parsed is parsed to itself"


@pytest.mark.parametrize(
    ("section", "words"),
    [([], "task: expected a list of attributes, got 'None'"), ({"attributes": "x" * 99}, f"task: expected a list of attributes, got '{'x' * 40}'"),
     ({"attributes": ["x"]}, "task: expected a list of attributes, got \"['x']\""), ({"attributes": []}, "expected at least one attribute"),
     ({"attributes": [GLASSES], "group": 3}, "task.group: expected a name, got '3'")],
)  # fmt: skip
def test_a_broken_section_of_a_stored_run_is_told(section: Any, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_task(section)
    assert words in str(caught.value)


@pytest.mark.parametrize("column", ["fold", "scored", "trained", "content", "partial", "id", "person", "label", "path", "part", "p0"])
def test_a_number_is_no_column_that_a_table_has_anyway(column: str) -> None:
    with pytest.raises(ValueError, match=f"column '{column}' is used for something else"):
        parse_attributes([{"name": "depth", "column": column, "borders": [12]}])


@pytest.mark.parametrize("name", ["soft", "pseudo", "p", "probability", "ans", "train", "crops"])
def test_names_that_files_and_logs_use_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match="the name is used for something else"):
        parse_attributes([{"name": name, "values": ["a", "b"]}])


def test_classes_and_ranges_have_different_names() -> None:
    with pytest.raises(ValueError, match="2 classes have the name 'a b c'"):
        parse_attributes([{"name": "x", "values": ["a", "a b"]}, {"name": "y", "values": ["b c", "c"]}])
    (made,) = parse_attributes([{"name": "n", "borders": [10**6 + i for i in range(4)]}])
    assert made["values"] == ["<1000000", "1000000", "1000001", "1000002", ">=1000003"]
