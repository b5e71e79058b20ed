"""maskcls options: plain keys, options and parameters, each with its default, type and description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator

from maskcls.cli.options import MARKERS, format_override, options_table, print_group, print_options
from maskcls.components import loss
from maskcls.config.option_list import list_group
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component
from maskcls.core.schema import PositiveInt, Proportion, describe_type, option_descriptions
from maskcls.system.files import replace_between_markers


def test_all_keys_and_options_are_listed_with_defaults_and_types(capsys: pytest.CaptureFixture[str]) -> None:
    print_options()
    lines = capsys.readouterr().out.splitlines()
    (epochs,) = [line for line in lines if line.startswith("  epochs=")]
    assert re.fullmatch(r"  epochs=\d+ +int ≥ 1 +passes over the training images in each fold", epochs)
    assert "  loss=focal                    Focal loss (Lin et al. 2017): down-weights well-classified images" in lines
    plain = [key for key, kind in Config.__annotations__.items() if kind != Component.__name__]
    assert {key for key in plain if not any(line.startswith(f"  {key}=") for line in lines)} == set()


def test_the_parameters_of_a_group_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_group("loss")
    text = capsys.readouterr().out
    start = text.index("loss=focal  Focal loss")
    gamma = text[start:].splitlines()[1]
    assert re.fullmatch(r"  loss\.gamma=2\.0 +float ≥ 0 +focusing exponent; 0 is cross-entropy", gamma)
    assert "  loss.label_smoothing=0.1  " in text[text.index("loss=smoothing") :]  # as its YAML file says
    with pytest.raises(ConfigError, match="unknown config group 'los', did you mean 'loss'"):
        print_group("los")


def test_a_required_parameter_is_marked_and_a_long_default_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_group("extra")
    assert "  extra.file=(required)  " in capsys.readouterr().out
    print_group("augmentation")
    lines = capsys.readouterr().out.splitlines()
    (i,) = [i for i, line in enumerate(lines) if "brightness_limit: [-0.1, 0.1]" in line]
    assert lines[i].endswith("p: 0.5}}") and lines[i + 1].split()[0] == "mapping"


def test_the_markdown_table_has_the_keys_too() -> None:
    assert "| `select` | `best` | best \\| last | epoch whose weights predict" in options_table()


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (PositiveInt, "int ≥ 1"),
        (Proportion | None, "float ≥ 0, < 1 or null"),
        (Literal["a", "b"], "a | b"),
        (Annotated[bool | str, AfterValidator(str)], "bool or str"),
        (dict[str, Any] | None, "mapping or null"),
        (list[PositiveInt], "list"),
    ],
)
def test_a_type_is_described_in_words(hint: Any, text: str) -> None:
    assert describe_type(hint) == text


def test_values_are_written_as_on_the_command_line() -> None:
    assert format_override({"A": {"p": 0.5, "on": True, "of": [1, None]}}) == "{A: {p: 0.5, on: true, of: [1, null]}}"


def test_a_description_may_continue_on_a_line_that_is_indented_more() -> None:
    def build(*, a: int, b: int) -> None:
        """Do it.

        Args:
            a: one
                and more
            b: two

        Returns:
            c: not a parameter
        """

    assert option_descriptions(build) == {"a": "one and more", "b": "two"}


def test_an_option_of_a_plugin_is_listed_by_its_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    def squared(class_counts: Any, *, scale: float = 1.0) -> Any:
        """Squared error.

        Args:
            scale: factor of the loss
        """

    monkeypatch.setattr(loss.registry, "builders", loss.registry.builders | {"squared": squared})
    option = list(list_group("loss"))[-1]
    assert (option.name, option.description) == ("squared", "Squared error")
    (param,) = option.params
    assert (param.name, param.default, param.type, param.description) == ("scale", 1.0, "float", "factor of the loss")


def test_a_file_to_write_into_that_lacks_the_markers_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "plain.md").write_text("text\n")
    for name, got in (("plain.md", "a file without them"), ("none.md", "no file")):
        with pytest.raises(ConfigError, match=rf"{name}: expected the markers <!-- options.* -->, got {got}\. Add them"):
            replace_between_markers(tmp_path / name, MARKERS, "table")
    assert (tmp_path / "plain.md").read_text() == "text\n" and not (tmp_path / "none.md").exists()
