"""Validation of a config: all errors at once, before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskcls.config.auto_weights import resolve_auto
from maskcls.config.groups import GROUPS, chosen_option
from maskcls.config.plugins import import_plugins
from maskcls.config.suggestions import KeySuggester
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, explain_unresolved
from maskcls.core.registry import Component
from maskcls.core.schema import build_schema, option_fields, validate_params
from maskcls.core.task import Task
from maskcls.system.distributed import world_size

CONFLICTS: tuple[tuple[str, Callable[..., str | bool | None]], ...] = (  # keys; the message if their values conflict
    ("fold folds", lambda fold, folds: fold is not None and fold >= folds
     and f"fold={fold} is out of range: there are {folds} folds, 0 to {folds - 1}"),
    ("average_epochs epochs", lambda count, epochs: count > epochs
     and f"average_epochs={count} exceeds epochs={epochs}"),
    ("ensemble_epochs epochs", lambda count, epochs: count > epochs
     and f"ensemble_epochs={count} exceeds epochs={epochs}"),
    ("ensemble_epochs average_epochs", lambda predictions, weights: predictions > 1 and weights > 1
     and f"ensemble_epochs={predictions} averages predictions and average_epochs={weights} weights. Set one of them"),
    ("size_schedule epochs", lambda sizes, epochs: sizes is not None and len(sizes) > epochs
     and f"size_schedule={list(sizes)} has {len(sizes)} sizes for epochs={epochs}. Set at most one per epoch"),
    ("scheduler.warmup epochs", lambda warmup, epochs: warmup > epochs
     and f"scheduler.warmup={warmup} exceeds epochs={epochs}"),
    ("mixing batch_size", lambda mixing, images: mixing != "none" and images // world_size() < 2
     and f"mixing={mixing} needs batch_size ≥ {2 * world_size()}{' (2 per rank)' * (world_size() > 1)}, got {images}"),
    ("sampler sampler.images batch_size", lambda sampler, images, size: sampler == "person"
     and size % (unit := images * world_size()) and f"sampler=person: batch_size={size} is not divisible by "
     f"sampler.images={images}{f' × {world_size()} ranks' * (world_size() > 1)}. "
     f"Set batch_size={size // unit * unit or unit}"),
    ("freeze_epochs epochs", lambda frozen, epochs: frozen is not None and frozen >= epochs
     and f"freeze_epochs={frozen} must be less than epochs={epochs}; without it, model.frozen is never trained"),
    ("freeze_epochs model.frozen", lambda epochs, frozen: epochs is not None and not frozen
     and f"freeze_epochs={epochs} needs model.frozen, for example model.frozen=backbone"),
    ("optimizer.nesterov optimizer.momentum", lambda nesterov, momentum: nesterov and not momentum
     and f"optimizer.nesterov=true needs optimizer.momentum > 0, got {momentum}"),
    ("labels.soft head", lambda soft, head: soft and head == "years"
     and f"labels.soft={soft} does not apply to head=years, whose targets are soft already. Set head.sigma"),
    ("overlay.worn overlay.incorrect", lambda *counts: not any(counts)
     and "overlay=masks needs worn or incorrect greater than 0, got 0 for both"),
    ("overlay.replace overlay.worn overlay.incorrect extra pseudo", lambda replace, worn, incorrect, *others: replace
     and bool(worn) != bool(incorrect) and set(others) == {"none"}
     and f"overlay.replace=true needs worn and incorrect greater than 0, got {worn} and {incorrect}"),
    ("overlay.of extra", lambda part, extra: part == "extra" and extra == "none"
     and "overlay.of=extra needs extra data, but extra=none"),
)  # fmt: skip
ConfigT = TypeVar("ConfigT")


def validate(raw: DictConfig | Mapping[str, Any], kind: type[ConfigT] = Config) -> ConfigT:  # type: ignore[assignment]
    """Return the checked config, by default an experiment's; raise one ConfigError with all of its errors.

    `kind` is a dataclass: a field of type Component is the config group of its name, any other field a plain value.
    """
    cfg = check_config(raw, kind)
    return resolve_auto(resolve_borders(cfg)) if isinstance(cfg, Config) else cfg  # type: ignore[return-value]


def resolve_borders(cfg: Config) -> Config:
    """Return the config with the training borders of the task where `border` leaves them open."""
    number = cfg.task.build().number
    changed = {group: replace(component, params={**component.params, "border": number.train_borders[-1]})
               for group in ("labels", "head") if number and "border" in (component := getattr(cfg, group)).params
               and component.params["border"] is None}  # fmt: skip
    return replace(cfg, **changed)


def check_config(raw: DictConfig | Mapping[str, Any], kind: type[ConfigT]) -> ConfigT:
    """Return the checked config before model.pretrained=auto is resolved; raise one ConfigError with all errors."""
    raw_values = to_container(raw)
    raw_values.pop("space", None)  # of a search file: parameters of `maskcls tune`
    import_plugins(raw_values.get("plugins"), GROUPS)
    errors: list[str] = []
    hints = get_type_hints(kind, include_extras=True)
    schema = build_schema("config", {key: (hint, ...) for key, hint in hints.items() if hint is not Component})
    groups = {key: GROUPS[key] for key, hint in hints.items() if hint is Component}
    rest = {key: value for key, value in raw_values.items() if key not in groups}
    values = validate_params(schema, {key: value for key, value in rest.items() if key in hints}, errors) or {}
    keys = KeySuggester(hints, groups, {group: chosen_option(raw_values.get(group)) for group in groups})
    errors += [keys.describe_unknown(key, value) for key, value in rest.items() if key not in hints]
    task = build_task(raw_values.get("task")) if "task" in groups else None
    components = {group: registry.check(raw_values.get(group), errors, keys.find_elsewhere, task)
                  for group, registry in groups.items()}  # fmt: skip
    errors += find_conflicts(values, components)
    errors += find_border_conflict(components, task)
    errors += find_misfits(components.values()) if task else []
    if errors:
        raise ConfigError(*errors)
    return kind(**values, **components)


def find_border_conflict(components: Mapping[str, Component | None], task: Task | None) -> list[str]:
    """Return a message if labels.border moves a border that head=years has of its own."""
    labels, head = components.get("labels"), components.get("head")
    border = labels and labels.params.get("border")
    own = task.number.train_borders[-1] if task and task.number else None
    if head is None or head.name != "years" or border in (None, own):
        return []
    return [f"labels.border={border} does not apply to head=years. Set head.border={border}"]


def build_task(raw: Any) -> Task | None:
    """Return the task of a config section, None if it has errors."""
    component = GROUPS["task"].check(raw, [])
    task: Task | None = component and component.build()
    return task


def find_misfits(components: Iterable[Component | None]) -> list[str]:
    """Return a message for each option that does not fit the task."""
    messages: list[str] = []
    for component in components:
        try:
            if component is not None:
                component.check_task()
        except ConfigError as error:
            messages += error.messages
    return messages


def find_conflicts(values: Mapping[str, Any], components: Mapping[str, Component | None]) -> list[str]:
    """Return a message for each set of values that conflict; a value with an error of its own is left out."""
    by_key = dict(values)
    for group, component in components.items():
        if component is not None:
            by_key |= {group: component.name} | {f"{group}.{key}": value for key, value in component.params.items()}
    messages = [find_conflict(*(by_key[key] for key in keys.split()))
                for keys, find_conflict in CONFLICTS if by_key.keys() >= {*keys.split()}]  # fmt: skip
    return [message for message in messages if isinstance(message, str)]


def fill_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an unchecked config with the defaults of its options, `???` where a value is required."""
    filled, task = dict(values), build_task(values.get("task"))
    for group, registry in GROUPS.items():
        if build := registry.builders.get(chosen_option(values.get(group))):
            fields = option_fields(build, task.names if task else ())
            defaults = {key: "???" if default is ... else default for key, (_, default) in fields.items()}
            filled[group] = {"name": values[group]["name"]} | defaults | values[group]
    return filled


def to_container(raw: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a config as plain containers with resolved interpolations."""
    try:
        container: Any = OmegaConf.to_container(raw, resolve=True) if isinstance(raw, DictConfig) else raw
    except OmegaConfBaseException as error:
        raise ConfigError(explain_unresolved(error)) from error
    return {str(key): value for key, value in container.items()}
