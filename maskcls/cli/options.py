"""List every word of the command line, from the registry itself.

python -m maskcls options                    the table in Markdown
python -m maskcls options loss               one group, with the parameters of its words
python -m maskcls options --write experiments/README.md  put the table between the file's two markers
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from maskcls.cli.command import run_command
from maskcls.config.overrides import resource_dir
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.system import console
from maskcls.system.files import replace_between_markers

BEGIN, END = "<!-- words: python -m maskcls options --write experiments/README.md -->", "<!-- /words -->"


def option_rows(group: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (word, its line, its parameters with their values) for each YAML of a group."""
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
    """Return the table of all groups: word, meaning."""
    from maskcls.config.groups import GROUPS

    lines = ["| group | word | what it is |", "|---|---|---|"]
    for group in GROUPS:
        for i, (word, line, _) in enumerate(option_rows(group)):
            lines.append(f"| {f'**{group}**' if i == 0 else ''} | `{word}` | {line} |")
    return "\n".join(lines)


def print_group(group: str) -> None:
    """Print the words of one group with their parameters."""
    from maskcls.config.groups import GROUPS

    if group not in GROUPS:
        raise ConfigError(unknown_message("group", group, GROUPS))
    rows = [
        [word, line, "\n".join(map(print_setting, params.items())) or "–"] for word, line, params in option_rows(group)
    ]
    console.print_table(group, ["word", "what it is", "parameters"], rows, left=3)


def print_setting(item: tuple[str, Any]) -> str:
    """Return a parameter as it is written in a config."""
    key, value = item
    return f"{key}: {'(must be given)' if value is ... else 'null' if value is None else value}"


@run_command
def main() -> None:
    """Print or write the tables that the command line asks for."""
    parser = argparse.ArgumentParser("python -m maskcls options", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("group", nargs="?", help="one conf group, with the parameters of its words")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table between the markers of a file")
    asked = parser.parse_args()
    if asked.group:
        print_group(asked.group)
    elif asked.write:
        replace_between_markers(asked.write, (BEGIN, END), options_table())
    else:
        print(options_table())
