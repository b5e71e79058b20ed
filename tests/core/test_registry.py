"""Schemas of builder signatures, and validation messages."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt, PositiveFloat, PositiveInt, Proportion, UnitInterval, option_fields


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


@pytest.fixture
def dish() -> Registry:
    word = Registry("dish")

    @word.register
    def soup(
        guests: int, *, salt: float = 1.5, kind: Literal["thin", "thick"] = "thin", spoons: NonNegativeInt | None = None,
        extras: list[str] = [], source: bool | str = False, pots: Annotated[int, AfterValidator(even)] = 2,
    ) -> dict[str, Any]:  # fmt: skip
        return {"guests": guests, "salt": salt, "kind": kind, "spoons": spoons, "extras": extras, "source": source}

    @word.register
    def stew(*, size: PositiveInt) -> int:
        return size

    @word.register
    def import_(
        *, share: Proportion = 0.5, part: UnitInterval = 1.0, rate: PositiveFloat = 1.0, deep: dict[str, Any] = {}
    ) -> None:
        return None

    return word


def faults(word: Registry, raw: Any) -> list[str]:
    found: list[str] = []
    assert word.check(raw, found) is None
    return found


def test_what_stands_after_the_star_is_the_schema(dish: Registry) -> None:
    assert list(option_fields(dish.builders["soup"])) == ["salt", "kind", "spoons", "extras", "source", "pots"]
    assert option_fields(dish.builders["stew"])["size"][1] is ...


def test_defaults_are_filled_in_and_the_word_builds(dish: Registry) -> None:
    found: list[str] = []
    word = dish.check({"name": "soup", "kind": "thick"}, found)
    assert word is not None and not found
    assert dict(word.params) == {
        "salt": 1.5, "kind": "thick", "spoons": None, "extras": [], "source": False, "pots": 2,
    }  # fmt: skip
    assert (word.group, word.name) == ("dish", "soup")
    assert word.build(7)["guests"] == 7 and word.build(7)["kind"] == "thick"


def test_a_name_that_python_keeps_for_itself_ends_with_an_underscore(dish: Registry) -> None:
    assert set(dish.builders) == {"soup", "stew", "import"}


@pytest.mark.parametrize(
    "params",
    [
        {"salt": 2},
        {"spoons": 3},
        {"spoons": None},
        {"source": "a.pth"},
        {"source": True},
        {"extras": ["a"]},
        {"pots": 4},
    ],
)
def test_fitting_values_pass(dish: Registry, params: dict[str, Any]) -> None:
    found: list[str] = []
    word = dish.check({"name": "soup", **params}, found)
    assert word is not None and not found
    assert {key: word.params[key] for key in params} == params


def test_a_whole_number_for_a_float_becomes_that_float(dish: Registry) -> None:
    word = dish.check({"name": "soup", "salt": 2}, [])
    assert word is not None and type(word.params["salt"]) is float


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"slat": 1}, "unknown parameter 'slat' of dish=soup, did you mean 'salt'?"),
        ({"guests": 1}, "unknown parameter 'guests' of dish=soup, did you mean 'extras'?"),
        ({"salt": "high"}, "dish.salt (soup): expected float, got 'high'"),
        ({"salt": True}, "dish.salt (soup): expected float, got True"),
        ({"salt": None}, "dish.salt (soup): expected float, got None"),
        ({"kind": "thik"}, "dish.kind (soup): unknown value 'thik', did you mean 'thick'?"),
        ({"spoons": "two"}, "dish.spoons (soup): expected int, got 'two'"),
        ({"spoons": 1.5}, "dish.spoons (soup): expected int, got 1.5"),
        ({"spoons": True}, "dish.spoons (soup): expected int, got True"),
        ({"spoons": -1}, "dish.spoons (soup) must be at least 0, got -1"),
        ({"source": 3}, "dish.source (soup): expected bool (true or false) or str, got 3"),
        ({"extras": "a"}, "dish.extras (soup): expected list, got 'a'"),
        ({"extras": ["a", 4]}, "dish.extras (soup): expected str, got 4"),
        ({"pots": 3}, "dish.pots (soup): 3 is odd"),
    ],
)
def test_each_fault_has_its_sentence(dish: Registry, params: dict[str, Any], sentence: str) -> None:
    (found,) = faults(dish, {"name": "soup", **params})
    assert found == sentence


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"share": 1.0}, "dish.share (import) must be less than 1, got 1.0"),
        ({"part": 1.1}, "dish.part (import) must be at most 1, got 1.1"),
        ({"rate": 0.0}, "dish.rate (import) must be greater than 0, got 0.0"),
        ({"rate": float("nan")}, "dish.rate (import) must be finite, got nan"),
        ({"deep": [1]}, "dish.deep (import): expected mapping, got [1]"),
    ],
)
def test_bounds_are_part_of_the_type(dish: Registry, params: dict[str, Any], sentence: str) -> None:
    assert faults(dish, {"name": "import", **params}) == [sentence]


def test_a_parameter_without_a_default_must_be_given(dish: Registry) -> None:
    sentence = "dish.size (stew) has no default. Set dish.size=…"
    assert faults(dish, {"name": "stew"}) == [sentence]
    assert faults(dish, {"name": "stew", "size": "???"}) == [sentence]


def test_an_unknown_word_names_the_nearest_and_else_all_of_them(dish: Registry) -> None:
    assert faults(dish, {"name": "suop"}) == ["unknown dish 'suop', did you mean 'soup'?"]
    assert faults(dish, {"name": "zzzzzz"}) == ["unknown dish 'zzzzzz', expected one of import, soup, stew"]


@pytest.mark.parametrize("raw", [None, "soup", {}, {"salt": 1.0}, {"name": None}, {"name": 3}])
def test_a_section_without_a_word_is_a_fault(dish: Registry, raw: Any) -> None:
    (found,) = faults(dish, raw)
    assert found == f"dish: expected a section with a name, got {raw!r}. Choose one of import, soup, stew"


def test_all_faults_of_a_section_are_found_at_once(dish: Registry) -> None:
    found = faults(dish, {"name": "soup", "salt": "high", "slat": 1, "kind": "x", "pots": 1})
    assert len(found) == 4
    assert {sentence.split(":")[0] for sentence in found} >= {"dish.salt (soup)", "dish.pots (soup)"}


def test_a_default_of_none_goes_through_its_validator() -> None:
    word = Registry("dish")

    @word.register
    def tea(*, cups: Annotated[int | None, AfterValidator(lambda cups: cups or 7)] = None) -> int | None:
        return cups

    found: list[str] = []
    made = word.check({"name": "tea"}, found)
    assert not found and made is not None and made.params["cups"] == 7
