"""The parameters in which runs differ, in the words of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskcls.core.config import NOT_HASHED, PATH_PARAMS, SAME_RESULTS
from maskcls.system.console import escape_controls

LEFT_OUT_PARAMS = {"data": PATH_PARAMS, "extra": PATH_PARAMS, "model": SAME_RESULTS}
Words = dict[str, str]  # {"loss": "focal", "loss.gamma": "2.0"}


def differing_parameters(configs: Sequence[Mapping[str, Any]], choices: Sequence[Mapping[str, str]]) -> list[Words]:
    """Return for each config the words whose value is not the same in all configs that have the key.

    A parameter of an option must differ among the configs with this option: loss=focal alone says loss.gamma=2.0 if no
    run has another. `choices` are the options as typed, such as loss=smoothing, where the config has name: ce and its
    parameters; equal sections get the same option.
    """
    typed: dict[tuple[str, str], str] = {}
    for config, chosen in zip(configs, choices, strict=True):
        for group, option in sorted(chosen.items()):
            if isinstance(section := config.get(group), Mapping):
                typed.setdefault((group, format_word(section)), str(option))
    words = [dict(config_words(config, typed)) for config in configs]
    values: dict[tuple[str, str], set[str]] = {}  # by key and, of a parameter, the option
    for row in words:
        for key, value in row.items():
            option = row.get(key.partition(".")[0], "") if "." in key else ""
            values.setdefault((key, option), set()).add(value)
    differing = {key for (key, _), found in values.items() if len(found) > 1}
    keys = [key for key in order_keys(words) if key in differing]
    return [{key: row[key] for key in keys if key in row} for row in words]


def order_keys(words: Sequence[Words]) -> list[str]:
    """Return all keys in the order of the configs; those of a section stay together."""
    first = {key.partition(".")[0]: None for row in words for key in row}
    places = {section: i for i, section in enumerate(first)}
    keys = {key: None for row in words for key in row}
    return sorted(keys, key=lambda key: places[key.partition(".")[0]])


def config_words(config: Mapping[str, Any], typed: Mapping[tuple[str, str], str]) -> Iterator[tuple[str, str]]:
    """Yield the words of a config that can change results."""
    for key, value in config.items():
        if key in NOT_HASHED:
            continue
        if not isinstance(value, Mapping):
            yield key, format_word(value)
            continue
        yield key, typed.get((key, format_word(value))) or format_word(value.get("name"))
        for name, param in value.items():
            if name != "name" and name not in LEFT_OUT_PARAMS.get(key, ()):
                yield f"{key}.{name}", format_word(param)


def format_word(value: Any) -> str:
    """Return a value as the command line writes it, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return escape_controls(text, keep="")
