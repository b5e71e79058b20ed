"""The columns of a table in words, for the help: one for each attribute of a task, and the label."""

from __future__ import annotations

import math
import textwrap

from maskcls.core.synonyms import COLUMN_SYNONYMS, LISTS
from maskcls.core.task import Attribute, Task

NUM_WORDS = 3  # usual words of each value, and names of each column
INDENT = 10  # characters


def fill_help(text: str, task: Task) -> str:
    """Return a help text with the columns of a task in place of {columns}, {renamed} and {meanings}."""
    words = [attribute for attribute in task if not attribute.is_number] or list(task)
    first, last = words[0], words[-1]
    renamed = (COLUMN_SYNONYMS.get(last.name) or ["kind"])[0]
    meanings = f"data.values={{{first.name}: {{0: {first.values[0]}, 1: {first.values[-1]}}}}}"
    lines = [*map(describe_column, task), *describe_label(task)]
    filled = text.replace("  {columns}", "\n".join(lines)).replace("{meanings}", meanings)
    return filled.replace("{renamed}", f"data.columns={{{last.name}: {renamed}}}")


def describe_column(attribute: Attribute) -> str:
    """Return the lines on the column of an attribute: its values, usual words for them, and names of the column."""
    usual = LISTS["values"].get(attribute.name, {})
    also = [word for value in attribute.values for word in usual.get(value, ())[:NUM_WORDS]]
    names = COLUMN_SYNONYMS.get(attribute.source, ())[:NUM_WORDS]
    parts = [describe_range(attribute) if attribute.is_number else in_words(attribute.values)]
    parts += [f"also {', '.join(also)} …"] if also else []
    parts += [f"the column may be called {in_words(names)}"] if names else []
    return wrap(f"  {attribute.source:<7} {'; '.join(parts)}")


def describe_range(attribute: Attribute) -> str:
    """Return the numbers that a column may hold."""
    low, high = attribute.limits
    bounds = [f"from {low:g}"] * (low > -math.inf) + [f"to {high:g}"] * (high < math.inf)
    return " ".join([attribute.unit or "a number", *bounds])


def describe_label(task: Task) -> list[str]:
    """Return the lines on the column label: how the class is made of the attributes, and the number of each value."""
    terms = [f"{attribute.name} class" if attribute.is_number else attribute.name for attribute in task]
    steps = [math.prod(task.shape[i + 1 :]) for i in range(len(terms))]
    label = " + ".join(f"{term} · {step}" if step > 1 else term for term, step in zip(terms, steps, strict=True))
    codes = [f"{term} {', '.join(f'{i} {value}' for i, value in enumerate(attribute.values))}"
             for term, attribute in zip(terms, task, strict=True)]  # fmt: skip
    equals = f" = {label}" if len(terms) > 1 else ""
    head = f"  label   in place of {', '.join(task.names)}: class 0 to {task.num_classes - 1}{equals}"
    return [wrap(f"{head}; also class, ans, target."), wrap(" " * INDENT + " · ".join(codes))]


def in_words(values: tuple[str, ...] | list[str]) -> str:
    """Return values as in a sentence: a, b or c."""
    return " or ".join([", ".join(values[:-1]), values[-1]]) if len(values) > 1 else values[0]


def wrap(line: str) -> str:
    """Return a line in lines of the width of the help."""
    return textwrap.fill(line, 120, subsequent_indent=" " * INDENT, break_long_words=False)
