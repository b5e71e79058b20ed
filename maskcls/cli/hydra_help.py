"""Help of the commands that Hydra composes: run and predict."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from types import ModuleType

from maskcls.cli.options import format_override
from maskcls.config.config_folders import list_options, resource_dir
from maskcls.config.key_lines import read_groups, read_keys

FLAGS = {
    "-m": "sweep: one job for each combination of values, as in loss=ce,focal",
    "--cfg job": "print the complete config and stop; --package hardware prints a part",
    "--config-dir folder": "folder with further options and experiments",
    "-sc install=bash": "print the script for shell completion (or zsh)",
    "--hydra-help": "list the other flags of Hydra",
}
RUN_FLAGS = {"-m"}  # the jobs of a sweep of predict would have one output file


def print_hydra_help(command: ModuleType, config: str) -> None:
    """Print a command's docstring, its keys, config groups, experiments and flags; nothing heavy is imported."""
    print((command.__doc__ or "").strip())
    print(f"\nOptions of maskcls {command.__name__.rpartition('.')[2]}:")
    for name, (default, description) in read_keys(config).items():
        print(f"  {f'{name}={format_override(default)}':<30} {description}")
    print("\nConfig groups, with their defaults (maskcls options group=loss lists the parameters):")
    options = list_options(resource_dir("conf"))
    print_choices({f"{group}={default}": options[group] for group, default in read_groups(config).items()})
    if config == "config":
        print("\nExperiments:")
        experiments = list_options(resource_dir("experiments"))
        print_choices({f"{name}=…": experiments[name] for name in sorted(experiments.keys() - {"sweeps"})})
    print("\nFlags:")
    for flag, line in FLAGS.items():
        if config == "config" or flag not in RUN_FLAGS:
            print(f"  {flag:<30} {line}")


def print_choices(choices: Mapping[str, set[str]]) -> None:
    """Print a paragraph for each group: its default, then its options."""
    for start, options in choices.items():
        print(textwrap.fill(f"  {start:<30} {', '.join(sorted(options))}", 120, subsequent_indent=" " * 33))
