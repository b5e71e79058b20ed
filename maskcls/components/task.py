"""The task: which attributes are read off a photo, and the column that keeps photos on one side of a fold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from maskcls.core.errors import ConfigError
from maskcls.core.registry import Registry
from maskcls.core.task import Task
from maskcls.core.task_options import parse_attribute, parse_attributes

registry = Registry("task")


@registry.register
def attributes(
    *, attributes: Annotated[list[dict[str, Any]], AfterValidator(parse_attributes)], group: str | None = "person"
) -> Task:
    """The attributes of a photo in their order; the classes are all combinations of their values.

    An attribute has a name and values, as `{name: glasses, values: [yes, no]}`. One with borders is made of a column
    of numbers, as `{name: stage, column: days, borders: [10, 20]}`: a border is the first number of the next value.
    `per: group` is an attribute of the whole group, by which folds are stratified, `per: photo` one that differs
    between its photos; without it, the data decides.

    Args:
        attributes: name, values, per, short, colour of each; of a number column, borders, train_borders, unit, limits
        group: column of a table that names what stays on one side of a fold; null: each photo is alone
    """
    return Task(tuple(parse_attribute(entry, i) for i, entry in enumerate(attributes)), group)


@registry.task_check(attributes)
def check_group(*, attributes: list[dict[str, Any]], group: str | None) -> None:
    """Raise ConfigError for a group that is no column of its own."""
    columns = [entry.get(key) for entry in attributes for key in ("name", "column")]
    if group is not None and group in ("", "path", *columns):
        raise ConfigError(f"task.group: expected a column that names the groups, or null, got {group!r}")
