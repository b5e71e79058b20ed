"""Components of a run or checkpoint, restored from its config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskcls.config.groups import GROUPS
from maskcls.core.errors import RunError
from maskcls.core.registry import Component
from maskcls.storage.checkpoint import MAX_MESSAGE
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel


def restore_component(source: Run | TrainedModel, group: str) -> Component:
    """Return the component of a group in a run's or checkpoint's config; those of older versions have no tta."""
    return check_component(group, source.config.get(group, {"name": "none"}), source.config_path)


def check_component(group: str, raw: Any, path: Path) -> Component:
    """Return a component from a file of a run; RunError if it is unknown or invalid."""
    errors: list[str] = []
    component = GROUPS[group].check(raw, errors)
    if component is None:  # the plugins of a run are not imported: the run may be untrusted
        hint = "If the run uses plugins, set plugins=[…] or import them first"
        raise RunError(*[f"{path}: {error}"[:MAX_MESSAGE] for error in errors], hint)
    return component
