"""Listing of config groups, their options and parameters.

maskcls options                                  all options as a Markdown table
maskcls options group=loss                       one group, with the parameters of its options
maskcls options write=experiments/README.md      insert the table between the markers of the file
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskcls.cli.arguments import options_command
from maskcls.config.overrides import resource_dir
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.system import console
from maskcls.system.files import replace_between_markers

MARKERS = "<!-- options: maskcls options write=experiments/README.md -->", "<!-- /options -->"


@dataclass(frozen=True)
class ListOptions:
    """Options of `maskcls options`."""

    group: str | None = None  # config group, such as loss
    write: str | None = None  # file with two markers, such as README.md, to insert the table into


def option_rows(group: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (option, description, parameters with their values) for each YAML file of a config group."""
    from maskcls.config.groups import GROUPS
    from maskcls.core.schema import option_fields

    for file in sorted((resource_dir("conf") / group).glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        defaults = {
            key: default for key, (_, default) in option_fields(GROUPS[group].builders[content["name"]]).items()
        }
        yield file.stem, text.splitlines()[0].lstrip("# "), defaults | {k: v for k, v in content.items() if k != "name"}


def options_table() -> str:
    """Return a Markdown table of all options."""
    from maskcls.config.groups import GROUPS

    lines = ["| group | option | description |", "|---|---|---|"]
    for group in GROUPS:
        for i, (option, line, _) in enumerate(option_rows(group)):
            lines.append(f"| {f'**{group}**' if i == 0 else ''} | `{option}` | {line} |")
    return "\n".join(lines)


def print_group(group: str) -> None:
    """Print the options of a config group with their parameters."""
    from maskcls.config.groups import GROUPS

    if group not in GROUPS:
        raise ConfigError(unknown_message("config group", group, GROUPS))
    rows = [
        [option, line, "\n".join(map(format_param, params.items())) or "–"]
        for option, line, params in option_rows(group)
    ]
    console.print_table(group, ["option", "description", "parameters"], rows, left=3)


def format_param(item: tuple[str, Any]) -> str:
    """Return a parameter as a line of YAML."""
    key, value = item
    return f"{key}: {'(required)' if value is ... else 'null' if value is None else value}"


@options_command(ListOptions)
def main(options: ListOptions) -> None:
    """Print or write the table of options."""
    if options.group:
        print_group(options.group)
    elif options.write:
        replace_between_markers(Path(options.write), MARKERS, options_table())
    else:
        print(options_table())
