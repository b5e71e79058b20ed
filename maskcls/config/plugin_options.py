"""Options of plugins, which have no YAML file: Hydra finds them in its ConfigStore."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from maskcls.config.config_folders import list_options, resource_dir
from maskcls.config.groups import GROUPS
from maskcls.config.plugins import import_plugins


def register_options(plugins: Sequence[str]) -> dict[str, set[str]]:
    """Import plugins and return {group: options} without a YAML file of this package, which Hydra then composes."""
    import_plugins(list(plugins), GROUPS)
    files = list_options(resource_dir("conf"))
    options = {group: registry.builders.keys() - files[group] for group, registry in GROUPS.items()}
    for group, names in options.items():
        for name in names:
            ConfigStore.instance().store(name, {"name": name}, group=group, provider="plugins")
    return options
