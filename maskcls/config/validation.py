"""Validation of a config: all errors at once, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import gt
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskcls.config.groups import GROUPS, chosen_option
from maskcls.config.plugins import import_plugins
from maskcls.config.suggestions import Keys
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, explain_unresolved
from maskcls.core.registry import Component
from maskcls.core.schema import build_schema, validate_params
from maskcls.core.task import AGE_THRESHOLDS

CONFLICTS: tuple[tuple[str, Callable[..., Any], str], ...] = (  # keys, when their values clash, the sentence of them
    ("fold folds", lambda k, n: k is not None and k >= n, "fold: {} is none of the {} folds (they count from 0)"),
    ("average epochs", gt, "average: the weights of {} epochs cannot be averaged, epochs is {}"),
    ("scheduler.warmup epochs", gt, "scheduler.warmup: {} epochs of warming up are more than the {} of training"),
    ("mixing batch", lambda word, n: word != "none" and n == 1, "mixing {}: a batch of {} holds no other photo to mix"),
    ("labels.soft labels.border", lambda soft, border: soft > border - AGE_THRESHOLDS[0],
     f"labels.soft: {{}} years are wider than the years between the borders {AGE_THRESHOLDS[0]} and {{}}"),
    ("optimizer.nesterov optimizer.momentum", lambda on, momentum: on and not momentum,
     "optimizer.nesterov: it needs an optimizer.momentum above {1}"),
    ("head.mask head.gender head.age", lambda *weights: not any(weights),
     "head triple: one of mask, gender and age must weigh more than 0"),
    ("overlay.worn overlay.incorrect", lambda *counts: not any(counts),
     "overlay masks: worn and incorrect are both 0, so that no mask is drawn"),
    ("overlay.of extra", lambda part, word: part == "extra" and word == "none",
     "overlay.of: there are no {} photos to draw masks on, extra is {}"),
)  # fmt: skip
ConfigT = TypeVar("ConfigT")


def validate(raw: DictConfig | Mapping[str, Any], kind: type[ConfigT] = Config) -> ConfigT:  # type: ignore[assignment]
    """Return the checked config, by default an experiment's; a ConfigError holds a sentence for each of its faults.

    `kind` is a dataclass: a field of type Word is the conf group of its name, any other one a plain value.
    """
    values = to_container(raw)
    import_plugins(values.get("plugins"), GROUPS)
    faults: list[str] = []
    hints = get_type_hints(kind, include_extras=True)
    plain = {key: (hint, ...) for key, hint in hints.items() if hint is not Component}
    groups = [key for key, hint in hints.items() if hint is Component]
    given = {key: value for key, value in values.items() if key not in groups}
    known = validate_params(build_schema("config", plain), {k: v for k, v in given.items() if k in plain}, faults)
    chosen = {group: chosen_option(values.get(group)) for group in groups}
    keys = Keys(hints, {group: GROUPS[group] for group in groups}, chosen)
    faults += [keys.describe_unknown(key, value) for key, value in given.items() if key not in plain]
    words = {group: GROUPS[group].check(values.get(group), faults, keys.find_elsewhere) for group in groups}
    faults += find_conflicts(known or {}, words)
    if faults:
        raise ConfigError(*faults)
    return kind(**(known or {}), **words)


def find_conflicts(known: Mapping[str, Any], words: Mapping[str, Component | None]) -> list[str]:
    """Return a sentence for each set of values that do not go together; one that is wrong by itself is left to it."""
    given = dict(known)
    for group, word in words.items():
        if word is not None:
            given |= {group: word.name} | {f"{group}.{key}": value for key, value in word.params.items()}
    told = []
    for keys, clash, sentence in CONFLICTS:
        values = [given[key] for key in keys.split() if key in given]
        if len(values) == len(keys.split()) and clash(*values):
            told.append(sentence.format(*values))
    return told


def to_container(raw: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain containers, with its interpolations resolved."""
    try:
        container: Any = OmegaConf.to_container(raw, resolve=True) if isinstance(raw, DictConfig) else raw
    except OmegaConfBaseException as error:
        raise ConfigError(explain_unresolved(error)) from error
    return {str(key): value for key, value in container.items()}
