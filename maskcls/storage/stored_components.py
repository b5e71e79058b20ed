"""Components that the config of a run or checkpoint names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskcls.core.errors import MAX_MESSAGE, RunError
from maskcls.core.registry import Component, Registry
from maskcls.core.task import Task


def restore_section(registry: Registry, section: Any, path: Path, task: Task) -> Component:
    """Return the component of a section of the file `path`, for a task; RunError if it is unknown or invalid."""
    errors: list[str] = []
    component = registry.check(section, errors, task=task)
    if component is None:  # the plugins of a run are not imported: the run may be untrusted
        hint = "If the run uses plugins, set plugins=[…] or import them first"
        raise RunError(*[f"{path}: {error}"[:MAX_MESSAGE] for error in errors], hint)
    return component
