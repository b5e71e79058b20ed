"""Config: one checked experiment, as plain data."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from maskcls.core.registry import Component
from maskcls.core.schema import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Proportion, UnitInterval
from maskcls.core.task_options import DEFAULT_TASK, describe_task

NOT_HASHED = (  # not in a run's hash
    "name", "fold", "train_score", "hardware", "logger", "runs_dir", "cache_dir", "on_error",
)  # fmt: skip
LOOKS = ("short", "colour", "unit")  # of an attribute
SAME_RESULTS = ("grad_checkpointing",)  # of the model: memory for time, with the same numbers


def without_looks(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of a task without what changes no result; one of a plugin has no attributes here."""
    attributes = [{key: value for key, value in attribute.items() if key not in LOOKS}
                  for attribute in task.get("attributes", ())]  # fmt: skip
    return {**task, **({"attributes": attributes} if attributes else {})}


UNHASHED_OPTIONS: dict[str, Any] = {  # keys of later versions, left out with these values so that ids of runs stay
    "decision": {"name": "none"}, "size_schedule": None, "task": without_looks(describe_task(DEFAULT_TASK)),
}  # fmt: skip
UNHASHED_PARAMS: dict[str, dict[str, Any]] = {"data": {"errors": 0.0}}  # the same for parameters of a group
PATH_PARAMS = ("root", "file", "links")  # location of files in data and extra: not in a run's hash either


def check_name(name: str) -> str:
    """Return the name; raise ValueError if it cannot be part of a folder's name."""
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got {name!r}")
    if len(name) > 200:
        raise ValueError(f"expected at most 200 characters, got {len(name)}")
    return name


def check_folder(value: str) -> str:
    """Return the path; raise ValueError if a folder cannot be created there."""
    existing = next((p for p in (Path(value), *Path(value).parents) if os.path.exists(p)), None)
    if existing is not None and not os.path.isdir(existing):
        raise ValueError(f"cannot create folder {value!r}: {str(existing)!r} is a file")
    return value


Scale = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Config:
    """A checked experiment: plain values, which conf/config.yaml describes, and one component for each config group."""

    name: Annotated[str, AfterValidator(check_name)]
    seed: NonNegativeInt
    epochs: PositiveInt
    batch_size: PositiveInt
    people: PositiveInt | None
    eval_fraction: Proportion | None
    folds: Annotated[int, Field(ge=2)]
    fold: NonNegativeInt | None
    select: Literal["best", "last"]
    precision: Literal["fp32", "bf16", "fp16"]
    average_epochs: PositiveInt
    ensemble_epochs: PositiveInt
    clip_grad: PositiveFloat | None
    grad_accum_steps: PositiveInt
    ema: Proportion | None
    layer_decay: UnitInterval | None
    head_lr: PositiveFloat | None
    freeze_epochs: PositiveInt | None
    monitor: Literal["f1", "val_loss"]
    patience: PositiveInt | None
    min_delta: NonNegativeFloat
    train_score: bool
    size_schedule: Annotated[list[Scale], Field(min_length=1)] | None
    runs_dir: Annotated[str, AfterValidator(check_folder)]
    cache_dir: Annotated[str, AfterValidator(check_folder)]
    on_error: Literal["stop", "skip"]
    plugins: list[str]
    task: Component
    data: Component
    extra: Component
    pseudo: Component
    labels: Component
    split: Component
    overlay: Component
    crop: Component
    augmentation: Component
    mixing: Component
    sampler: Component
    model: Component
    head: Component
    loss: Component
    optimizer: Component
    scheduler: Component
    tta: Component
    decision: Component
    logger: Component
    hardware: Component

    @property
    def notes(self) -> list[str]:
        """Remarks for the user and the run's report."""
        components = [getattr(self, field.name) for field in fields(self)]
        notes = [component.note for component in components if isinstance(component, Component) and component.note]
        if self.size_schedule and (last := self.size_schedule[-1]) < 1:
            notes.append(f"size_schedule ends at {last:g}; validation and predictions use the full size")
        return notes

    @property
    def num_selected_epochs(self) -> int:
        """Number of epochs whose weights are kept, to be averaged or to predict together."""
        return max(self.average_epochs, self.ensemble_epochs)

    def to_dict(self) -> dict[str, Any]:
        """Return the config with all defaults as plain containers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: {"name": v.name, **v.params} if isinstance(v, Component) else v for key, v in values.items()}

    def hashed_items(self) -> dict[str, Any]:
        """Return the values that change results and so determine a run's id."""
        values = self.to_dict()
        values["task"] = without_looks(values["task"])
        content = {key: value for key, value in values.items()
                   if key not in NOT_HASHED and value != UNHASHED_OPTIONS.get(key, ...)}  # fmt: skip
        for group, defaults in UNHASHED_PARAMS.items():
            content[group] = {key: value for key, value in content[group].items() if value != defaults.get(key, ...)}
        for group in ("data", "extra"):
            content[group] = {key: value for key, value in content[group].items() if key not in PATH_PARAMS}
        content["model"] = {key: value for key, value in content["model"].items() if key not in SAME_RESULTS}
        return content
