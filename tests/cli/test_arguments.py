"""Command-line arguments: key=value, suggestions, help, flags of earlier versions."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import get_args, get_type_hints

import pytest

from maskcls.benchmark.options import BenchmarkOptions
from maskcls.benchmark.suites import SUITES
from maskcls.cli.arguments import parse_arguments
from maskcls.cli.main import COMMANDS
from maskcls.cli.reproduce import ReproduceOptions
from maskcls.cli.table import TableOptions
from maskcls.core.errors import ConfigError
from maskcls.core.schema import PositiveInt
from maskcls.ladder.rungs import LADDERS
from maskcls.ladder.scales import SCALES

SMALL_COMMANDS = sorted(set(COMMANDS) - {"run", "predict"})


@dataclass(frozen=True)
class Options:
    """Options of a command."""

    names: tuple[str, ...]  # some names
    path: str | None = None  # a path
    count: PositiveInt = 3  # a count
    sizes: tuple[PositiveInt, ...] = (1, 2)  # some sizes
    is_on: bool = False  # a switch


def test_values_are_read_by_their_type() -> None:
    options, others = parse_arguments(Options, ["names=[a,1]", "path=1e5 #, 2", "count=7", "sizes=4", "is_on=true"])
    assert options == Options(("a", "1"), "1e5 #, 2", 7, (4,), True) and others == []
    assert parse_arguments(Options, ["names=a b,c", "path=null"])[0] == Options(("a b", "c"))
    assert parse_arguments(Options, ["names="])[0].names == ()
    options, others = parse_arguments(Options, ["names=a", "loss=ce", "people=3", "~loss.gamma", "count=1"], True)
    assert options == Options(("a",), count=1) and others == ["loss=ce", "people=3", "~loss.gamma"]


@pytest.mark.parametrize(
    "arguments,message",
    [
        ("names=a cuont=3", "unknown key 'cuont', did you mean 'count'?"),
        ("names=a count=0", "count must be at least 1, got 0"),
        ("names=a count=1,2", "count: expected int, got '1,2'"),
        ("names=a sizes=1,x", "sizes: expected int, got 'x'"),
        ("names=a is_on=yes", "is_on: expected bool (true or false), got 'yes'"),
        ("path=x", "names has no default. Set names=…"),
        ("a b", "expected key=value, got 'a', 'b', did you mean 'names=a,b'?"),
        ("--names a b --is-on", "unknown flag --names: options are written key=value. Write names=a,b"),
        ("names=a --is-on", "unknown flag --is-on: options are written key=value. Write is_on=true"),
        ("--path=x", "unknown flag --path: options are written key=value. Write path=x"),
        ("--runs a b", "unknown flag --runs: options are written key=value. Use maskcls compare runs=…"),
        ("-x", "unknown flag -x: options are written key=value. Run the command with --help for its options"),
    ],
)
def test_an_error_names_the_correct_spelling(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_arguments(Options, arguments.split())
    assert error.value.messages[0] == message


def test_an_unknown_key_near_an_option_is_not_an_override() -> None:
    with pytest.raises(ConfigError, match="unknown key 'cuont', did you mean 'count'"):
        parse_arguments(Options, ["names=a", "cuont=3"], overrides=True)


@pytest.mark.parametrize("name", SMALL_COMMANDS)
def test_help_describes_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"maskcls.cli.{name}")
    monkeypatch.setattr(sys, "argv", [f"maskcls {name}", "--help"])
    module.main()
    text = capsys.readouterr().out
    kinds = [value for key, value in vars(module).items() if key.endswith("Options")]
    assert f"maskcls {name}" in text and len(kinds) == 1
    for field in fields(kinds[0]):
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {field.name}=")]
        assert len(line.split(maxsplit=1)[1]) > 5


@pytest.mark.parametrize("name", SMALL_COMMANDS)
def test_a_wrong_flag_ends_a_command_with_its_message(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"maskcls {name}", "--nothing", "x"])
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"maskcls.cli.{name}").main()
    assert "unknown flag --nothing: options are written key=value" in capsys.readouterr().err


def test_without_a_command_all_are_listed_and_a_wrong_one_has_a_suggestion(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    listed = command("-h", name="-h")
    assert listed.returncode == 0 and all(f"  maskcls {name} " in listed.stdout for name in COMMANDS)
    wrong = command(name="tabel")
    assert wrong.returncode == 2 and wrong.stderr.strip() == "unknown command 'tabel', did you mean 'table'?"
    assert command(name="--version").stdout.startswith("maskcls ")


def test_the_choices_of_options_are_those_of_the_package() -> None:
    for kind in (ReproduceOptions, TableOptions):
        assert get_args(get_args(get_type_hints(kind)["ladder"])[0]) == tuple(LADDERS)
    assert get_args(get_type_hints(ReproduceOptions)["scale"]) == tuple(SCALES)
    assert get_args(get_type_hints(BenchmarkOptions)["kind"]) == tuple(SUITES)
