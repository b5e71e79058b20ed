"""The parameters in which runs differ, in the words of the command line."""

from __future__ import annotations

from maskcls.reporting.differing_parameters import differing_parameters

PLAIN = {"seed": 0, "name": "a", "size_schedule": None, "data": {"name": "synthetic", "root": "x", "people": 5},
         "loss": {"name": "ce", "label_smoothing": 0.0}}  # fmt: skip
FOCAL = PLAIN | {"loss": {"name": "focal", "gamma": 2.0}}


def test_only_what_differs_is_returned_and_what_an_option_implies_is_not() -> None:
    assert differing_parameters([PLAIN, FOCAL], [{}, {}]) == [{"loss": "ce"}, {"loss": "focal"}]
    assert differing_parameters([PLAIN, PLAIN], [{}, {}]) == [{}, {}]
    other = FOCAL | {"loss": {"name": "focal", "gamma": 5.0}}
    assert differing_parameters([PLAIN, FOCAL, other], [{}] * 3) == [
        {"loss": "ce"}, {"loss": "focal", "loss.gamma": "2.0"}, {"loss": "focal", "loss.gamma": "5.0"},
    ]  # fmt: skip


def test_what_does_not_change_results_is_left_out() -> None:
    moved = PLAIN | {"name": "b", "data": PLAIN["data"] | {"root": "y"}, "hardware": {"name": "cpu"}}  # type: ignore[operator]
    assert differing_parameters([PLAIN, moved], [{}, {}]) == [{}, {}]


def test_values_are_written_as_on_the_command_line() -> None:
    other = PLAIN | {"seed": 1, "size_schedule": [0.5, 1.0], "data": PLAIN["data"] | {"people": None}}  # type: ignore[operator]
    assert differing_parameters([PLAIN, other], [{}, {}])[1] == {
        "seed": "1", "size_schedule": "[0.5, 1.0]", "data.people": "null",
    }  # fmt: skip


def test_an_option_has_the_name_that_was_typed_also_in_runs_that_do_not_record_it() -> None:
    smooth = PLAIN | {"loss": {"name": "ce", "label_smoothing": 0.1}}
    words = differing_parameters([PLAIN, smooth, smooth], [{"loss": "ce"}, {"loss": "smoothing"}, {}])
    assert words == [{"loss": "ce"}, {"loss": "smoothing"}, {"loss": "smoothing"}]


def test_keys_of_other_versions_and_sections_that_are_no_sections_are_no_error() -> None:
    strange = {"seed": {"name": None}, "loss": "ce", "new\n": [{"a": 1}], "a.b": 1, "data": {}}
    words = differing_parameters([PLAIN, strange, {}], [{}, {"loss": "x"}, {"data": "y"}])
    assert words[2] == {} and words[1]["data"] == "null"
