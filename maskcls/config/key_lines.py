"""Plain keys of conf/config.yaml and conf/predict.yaml: their defaults, and the comments that describe them."""

from __future__ import annotations

import re
from typing import Any

import yaml

from maskcls.config.config_folders import resource_dir

COMMENT = re.compile(r"(?m)^(\w+): .*? # (.+)$")


def read_keys(config: str) -> dict[str, tuple[Any, str]]:
    """Return {key: (default, description)} of conf/<config>.yaml's plain keys; the default is `...` if required."""
    text = (resource_dir("conf") / f"{config}.yaml").read_text(encoding="utf-8")
    descriptions = dict(COMMENT.findall(text))
    return {key: (... if value == "???" else value, descriptions.get(key, ""))
            for key, value in yaml.safe_load(text).items() if key not in ("defaults", "hydra")}  # fmt: skip


def read_groups(config: str) -> dict[str, str]:
    """Return {config group: default option, `null` for none} of conf/<config>.yaml."""
    content = yaml.safe_load((resource_dir("conf") / f"{config}.yaml").read_text(encoding="utf-8"))
    entries = [item for entry in content["defaults"] if isinstance(entry, dict) for item in entry.items()]
    return {group: option or "null" for group, option in entries if not group.startswith("override ")}
