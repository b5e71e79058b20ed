"""Property tests: any config and any command line passes validation or raises ConfigError."""

from __future__ import annotations

import copy
import warnings
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.schema import option_fields

HANGS = timedelta(seconds=20)
QUICK = settings(max_examples=40, deadline=HANGS, suppress_health_check=list(HealthCheck))
FEW = settings(max_examples=25, deadline=HANGS, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=600, deadline=HANGS, suppress_health_check=list(HealthCheck))
LINES = settings(max_examples=150, deadline=HANGS, suppress_health_check=list(HealthCheck))

PLAIN = [key for key in Config.__dataclass_fields__ if key not in (*GROUPS, "plugins")]
WORDS = sorted({word for registry in GROUPS.values() for word in registry.builders})
LEAVES = (
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=8)
    | some.sampled_from([*WORDS, "/dev/null", "package:", "package:.x", "???", "x" * 5000, "a\0b", ".", "", 10**400, -0.0])
)  # fmt: skip
VALUES = some.recursive(
    LEAVES, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3)
)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """Return a composed config with every default filled in."""
    return validate(compose("name=t", "model=timm", "model.arch=test_resnet")).to_dict()


@some.composite
def changes(draw: some.DrawFn) -> list[tuple[str, str | None, Any]]:
    """Draw some changes of a config: (group or key, parameter or None, value)."""
    made: list[tuple[str, str | None, Any]] = []
    for _ in range(draw(some.integers(1, 4))):
        group = draw(some.sampled_from(sorted(set(GROUPS) - {"blend"})))
        word = draw(some.sampled_from(sorted(GROUPS[group].builders)))
        known = sorted(option_fields(GROUPS[group].builders[word]))
        key = draw(some.sampled_from(known) | some.text(max_size=6) if known else some.text(max_size=6))
        made.append(draw(some.sampled_from([
            (draw(some.sampled_from(PLAIN)), None, draw(VALUES)), (draw(some.text(max_size=6)), None, draw(VALUES)),
            (group, None, {"name": word, key: draw(VALUES)}), (group, None, draw(VALUES)), (group, key, draw(VALUES)),
        ])))  # fmt: skip
    return made


def right_or_told(whole: dict[str, Any], made: list[tuple[str, str | None, Any]]) -> None:
    """Check a changed config: either it passes, or each of its sentences speaks of a changed key or a clash."""
    raw = copy.deepcopy(whole)
    for group, key, value in made:
        if key is None:
            raw[group] = value
        elif isinstance(raw[group], dict):
            raw[group][key] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what albumentations says of arguments out of nowhere
        try:
            cfg = validate(raw)
        except ConfigError as error:
            named = {group for group, _, _ in made}
            assert error.messages
            shown = [*named, *(repr(name)[1:-1] for name in named)]  # a sign that no terminal prints is spelled out
            assert all(any(name in sentence for name in shown) for sentence in error.messages), error.messages
            return
    assert validate(cfg.to_dict()).hashed_items() == cfg.hashed_items()


@QUICK
@given(made=changes())
def test_any_config_passes_or_is_told(whole: dict[str, Any], made: list[tuple[str, str | None, Any]]) -> None:
    right_or_told(whole, made)


@pytest.mark.slow
@LONG
@given(made=changes())
def test_any_of_many_configs_passes_or_is_told(whole: dict[str, Any], made: list[tuple[str, str | None, Any]]) -> None:
    right_or_told(whole, made)


TEXTS = some.text(max_size=10) | some.sampled_from(
    ["null", "[1", "{a:1}", "[ce]", "1", "glob(*)", "range(3)", "'x", "1e400", "${name}", "${oc.env:X}", "a,b", "???"]
)
OVERRIDES = some.lists(
    some.builds(
        lambda key, value: f"{key}={value}",
        some.sampled_from([
            *PLAIN, "loss", "loss.gamma", "model", "crop.height", "augmentation.transforms.X", "+a", "~loss", "", "+", "team",
            "hydra/launcher", "hydra.x", "+loss", "model.pretrained", "optimizer", "loss@x",
        ])
        | some.text(max_size=6),
        TEXTS,
    ) | TEXTS,
    min_size=1, max_size=2,
)  # fmt: skip


def line(words: list[str]) -> None:
    """Compose and check a command line: only a ConfigError may come of it."""
    try:
        cfg = validate(compose("name=t", "model=timm", "model.arch=test_resnet", *words))
    except ConfigError as error:
        assert error.messages and all(sentence.strip() for sentence in error.messages)
    else:
        assert cfg.to_dict()


@FEW
@given(words=OVERRIDES)
def test_any_command_line_composes_or_is_told(words: list[str]) -> None:
    line(words)


@pytest.mark.slow
@LINES
@given(words=OVERRIDES)
def test_any_of_many_command_lines_composes_or_is_told(words: list[str]) -> None:
    line(words)
