"""Listing of keys, config groups, their options and parameters.

maskcls options                                  all keys and options
maskcls options group=loss                       one group, with the parameters of its options
maskcls options group=loss plugins=my_pkg.losses with the options of plugins
maskcls options write=experiments/README.md      insert the tables between the markers of the file
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskcls.cli.arguments import format_default, options_command
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.system.files import replace_between_markers

if TYPE_CHECKING:
    from maskcls.config.option_list import Key

MARKERS = "<!-- options: maskcls options write=experiments/README.md -->", "<!-- /options -->"
MAX_WIDTH = 40  # of a key and its default; a longer one has a line of its own


@dataclass(frozen=True)
class ListOptions:
    """Options of `maskcls options`."""

    group: str | None = None  # config group, such as loss
    plugins: tuple[str, ...] = ()  # modules whose options are listed too, such as my_pkg.losses
    write: str | None = None  # file with two markers, such as README.md, to insert the tables into


def options_table() -> str:
    """Return Markdown tables of the plain keys and of all options."""
    from maskcls.config.groups import GROUPS
    from maskcls.config.option_list import list_group, list_keys

    lines = ["| key | default | type | description |", "|---|---|---|---|"]
    for key in list_keys(Config, "config"):
        cells = key.name, format_override(key.default), key.type.replace("|", "\\|"), key.description
        lines.append("| `{}` | `{}` | {} | {} |".format(*cells))
    lines += ["", "| group | option | description |", "|---|---|---|"]
    for group in GROUPS:
        for i, option in enumerate(list_group(group)):
            lines.append(f"| {f'**{group}**' if i == 0 else ''} | `{option.name}` | {option.description} |")
    return "\n".join(lines)


def print_options() -> None:
    """Print the plain keys with their defaults, and the options of all config groups."""
    from maskcls.config.groups import GROUPS
    from maskcls.config.option_list import list_group, list_keys

    print("Keys (key=value):")
    print_keys("", list_keys(Config, "config"))
    for group in GROUPS:
        print(f"\n{group}:")
        for option in list_group(group):
            print(f"  {f'{group}={option.name}':<28}  {option.description}")
    print("\nmaskcls options group=loss lists the parameters of each option.")


def print_group(group: str) -> None:
    """Print the options of a config group with their parameters."""
    from maskcls.config.groups import GROUPS
    from maskcls.config.option_list import list_group

    if group not in GROUPS:
        raise ConfigError(unknown_message("config group", group, GROUPS))
    for i, option in enumerate(list_group(group)):
        print("\n" * (i > 0) + f"{group}={option.name}  {option.description}")
        print_keys(f"{group}.", option.params)


def print_keys(prefix: str, keys: Sequence[Key]) -> None:
    """Print a line for each key: its default as on the command line, its type and its description."""
    texts = [f"{prefix}{key.name}={format_override(key.default)}" for key in keys]
    width = max((len(text) for text in texts if len(text) <= MAX_WIDTH), default=MAX_WIDTH)
    type_width = max((len(key.type) for key in keys), default=0)
    for text, key in zip(texts, keys, strict=True):
        start = f"  {text:<{width}}" if len(text) <= width else f"  {text}\n  {'':<{width}}"
        print(f"{start}  {key.type:<{type_width}}  {key.description}")


def format_override(value: Any) -> str:
    """Return a default value as the command line writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(format_override, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {format_override(item)}' for key, item in value.items())}}}"
    return format_default(value)


@options_command(ListOptions)
def main(options: ListOptions) -> None:
    """Print or write the table of options."""
    if options.plugins:
        from maskcls.config.plugin_options import register_options

        register_options(options.plugins)
    if options.group:
        print_group(options.group)
    elif options.write:
        replace_between_markers(Path(options.write), MARKERS, options_table())
    else:
        print_options()
