"""Command-line overrides, checked against the config groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ValueType

from maskcls.config.override_grammar import accept_text, exact_line, parse
from maskcls.core.errors import ConfigError, unknown_message

FLAGS_WITH_FOLDER = ("--config-dir", "-cd")
SWEEPS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


def resource_dir(name: str) -> Path:
    """Return conf/ or experiments/: inside an installed package, or at the top of the source tree."""
    package = Path(__file__).parent.parent
    return package / name if (package / name).is_dir() else package.parent / name


class UnknownOptionError(ConfigError):
    """Unknown options of groups; `valid` holds the overrides that can be composed without them."""

    def __init__(self, *sentences: str, valid: list[str]) -> None:
        super().__init__(*sentences)
        self.valid = valid


def to_hydra(arguments: list[str]) -> list[str]:
    """Return a command line in which any key may be set, so that the config's own check answers for it.

    The options of groups are checked here: UnknownOptionError.
    """
    words, ladders = list_options(resource_dir("conf")), list_options(resource_dir("experiments"))
    ladders["sweeps"] = set()  # files of W&B, none of which is a word here
    for folder in config_dirs(arguments):
        for group, names in list_options(folder).items():
            words.setdefault(group, set()).update(names)
    faults: list[str] = []
    result, right = [], []
    sweeps = bool(SWEEPS & set(arguments))
    for argument in arguments:
        try:
            readable = argument if argument.startswith("-") else read_override(argument, words | ladders, sweeps)
        except ConfigError as error:
            faults += error.messages
            continue
        key = readable.partition("=")[0]
        bare = re.fullmatch(r"[A-Za-z_][\w.]*", key) and key.split(".")[0] != "hydra"
        result.append(("+" if key in ladders else "++") + readable if bare and key not in words else readable)
        right += [argument] if bare else []
    if faults:
        raise UnknownOptionError(*faults, valid=[] if sweeps else right)
    return result


def read_override(argument: str, options: Mapping[str, set[str]], sweeps: bool) -> str:
    """Return an override with its value as Hydra reads it; ConfigError where that is not possible or not known."""
    key, sign, value = argument.partition("=")
    if not sign and not argument.startswith("~"):
        raise ConfigError(f"expected key=value, got {argument!r}")
    if not key.isascii():
        raise ConfigError(f"cannot read {argument!r}: a key consists of the letters a to z, digits, '_' and '.'")
    try:
        readable = accept_text(argument)
    except ConfigError:
        if key in options:
            raise ConfigError(unknown_option(key, value, options)) from None
        raise
    override = parse(readable)
    if override is None or key.lstrip("+").split(".")[0] == "hydra":
        return readable
    if override.is_sweep_override() and not sweeps:
        remedy = "" if key in options else f" {exact_line(argument)}"
        raise ConfigError(f"{argument}: several values are a sweep, which needs -m.{remedy}")
    if key in options and override.value_type is not ValueType.GLOB_CHOICE_SWEEP:
        chosen: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        wrong = [unknown_option(key, str(option), options) for option in chosen if str(option) not in options[key]]
        if wrong:
            raise ConfigError(*wrong)
    return readable


def unknown_option(group: str, name: str, options: Mapping[str, set[str]]) -> str:
    """Return the error for an option that a group lacks, with the nearest one, or the group that has it."""
    others = [other for other in options if name in options[other]]
    message = unknown_message(group, name, options[group])
    if "did you mean" in message or not others:
        return message
    return f"unknown {group} '{name}', did you mean {others[0]}={name}?"


def list_options(base: Path) -> dict[str, set[str]]:
    """Return {group: its words} of a folder of configs."""
    return {place.name: {file.stem for file in place.glob("*.yaml")} for place in base.iterdir()
            if place.is_dir() and any(place.glob("*.yaml"))}  # fmt: skip


def config_dirs(arguments: list[str]) -> Iterator[Path]:
    """Yield the user's own folders of configs (--config-dir)."""
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, joined = flag.partition("=")
        if name in FLAGS_WITH_FOLDER and Path(joined or value).is_dir():
            yield Path(joined or value)
