"""Packages of an extra, which an installation may lack."""

from __future__ import annotations

import importlib
from typing import Any

from maskcls.core.errors import ConfigError


def import_package(name: str, extra: str, purpose: str) -> Any:
    """Return a module of an optional package; ConfigError, which names its extra, if it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{purpose} needs a package ({error}). Run pip install 'maskcls[{extra}]'") from error
