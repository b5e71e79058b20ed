"""Config groups and their registries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskcls.components import (
    augmentation,
    blend,
    crop,
    data,
    decision,
    extra,
    hardware,
    head,
    labels,
    logger,
    loss,
    mixing,
    model,
    optimizer,
    overlay,
    pseudo,
    sampler,
    scheduler,
    split,
    task,
    tta,
)

MODULES = (
    task, data, extra, pseudo, labels, split, overlay, crop, augmentation, mixing, sampler, model, head, loss,
    optimizer, scheduler, tta, decision, blend, logger, hardware,
)  # fmt: skip
GROUPS = {module.registry.group: module.registry for module in MODULES}


def chosen_option(section: Any) -> str:
    """Return the name of a config section's option, an empty text if it is not a section."""
    return str(section.get("name")) if isinstance(section, Mapping) else ""
