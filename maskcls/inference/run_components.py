"""Components of a run or checkpoint, restored from its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskcls.config.groups import GROUPS
from maskcls.core.registry import Component
from maskcls.core.task import Task
from maskcls.storage.run import Run
from maskcls.storage.stored_components import restore_section
from maskcls.storage.trained_model import TrainedModel


def restore_component(source: Run | TrainedModel, group: str) -> Component:
    """Return the component of a group in a run's or checkpoint's config; those of older versions have no tta."""
    return check_component(group, source.config.get(group, {"name": "none"}), source.config_path, source.task)


def check_component(group: str, raw: Any, path: Path, task: Task) -> Component:
    """Return a component from a file of a run of a task; RunError if it is unknown or invalid."""
    return restore_section(GROUPS[group], raw, path, task)
