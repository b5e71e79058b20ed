"""Calibration, prediction sets and groups of people as rows of tables, for the report and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from maskcls.core.errors import join_words
from maskcls.core.task import Task
from maskcls.evaluation.fairness import SIGNIFICANCE
from maskcls.evaluation.group_terms import JOIN
from maskcls.evaluation.intervals import MIN_PEOPLE
from maskcls.storage.run import Run

Numbers = Mapping[str, Any]
GROUP_HEADS = {"f1": "F1", "accuracy": "accuracy", "calibration_error": "calibration error", "covered": "in its set"}


def view_names(task: Task) -> dict[str, str]:
    """Return the text of each view of the probabilities: the classes, and each attribute if there are several."""
    views = {"class": f"{task.num_classes} classes"}
    if len(task.names) > 1:
        views |= {attribute.name: f"{attribute.name} class" if attribute.is_number else attribute.name
                  for attribute in task}  # fmt: skip
    return views


def reliability_context(metrics: Numbers, task: Task) -> dict[str, Any]:
    """Return the template values of calibration, sets and groups, empty for metrics of older versions."""
    calibration, groups = metrics.get("calibration"), metrics.get("groups") or []
    num_tests, names = sum(len(part["gaps"]) for part in groups), view_names(task)
    own = group_names(groups, task)
    further = [part["column"] for part in groups if part["column"] != JOIN.join(own)]
    return {
        "temperatures": temperature_rows(calibration, task) if calibration else [],
        "calibration_tables": list(calibration_tables(calibration, task)) if calibration else [],
        "sets": metrics.get("sets"),
        "groups": [part | {"rows": list(group_rows(part)), "gaps": list(describe_gaps(part, task.groups))}
                   for part in groups],
        "group_heads": list(GROUP_HEADS.values()), "min_people": MIN_PEOPLE, "num_tests": num_tests,
        "significance": SIGNIFICANCE / max(num_tests, 1),
        "further": further, "known": join_words([*own, *further]), "own": own,
        "task": task, "people": task.groups, "attribute_groups": JOIN.join(own),
        "others": join_words([names[name] for name in own]),
    }  # fmt: skip


def group_names(groups: Sequence[Numbers], task: Task) -> list[str]:
    """Return the attributes whose combinations are the first groups, none if these are of a further column."""
    names = groups[0]["column"].split(JOIN) if groups else []
    return names if set(names) < set(task.names) else []


def temperature_rows(calibration: Numbers, task: Task) -> list[tuple[str, float, float]]:
    """Return name, temperature of a fold's model and of the folds' mean of each head."""
    means, views = calibration["mean_temperatures"], view_names(task)
    return [(views.get(name, name), value, means[name]) for name, value in calibration["temperatures"].items()]


def calibration_tables(calibration: Numbers, task: Task) -> Iterator[tuple[str, list[tuple[str, list[str]]]]]:
    """Yield the title of each part, and its rows: a view with its scores before and after, and their differences."""
    for part, title in (("oof", "out of fold"), ("eval", "evaluation set")):
        if views := calibration[part]:
            names = view_names(task)
            yield title, [(names[name], calibration_cells(views[name])) for name in names if name in views]


def calibration_cells(view: Numbers) -> list[str]:
    """Return before, after and difference of log loss and of calibration error, with intervals."""
    parts = (("before", ".3f"), ("after", ".3f"), ("difference", "+.3f"))
    return [format_interval(view[part], name, digits) for name in ("log_loss", "calibration_error")
            for part, digits in parts]  # fmt: skip


def describe_calibration(view: Numbers) -> str:
    """Return log loss and calibration error before and after in one phrase."""
    before, after = view["before"], view["after"]
    pairs = [f"{text} {before[name]:.3f} → {after[name]:.3f}"
             for name, text in (("log_loss", "log loss"), ("calibration_error", "calibration error"))]  # fmt: skip
    return ", ".join(pairs)


def format_interval(scores: Numbers, name: str, digits: str) -> str:
    """Return a score with its interval in brackets, if it has one."""
    interval, value = scores.get(f"{name}_interval"), f"{scores[name]:{digits}}".replace("-", "−")
    if interval is None:
        return value
    low, high = (f"{bound:{digits}}".replace("-", "−") for bound in interval)
    return f"{value} [{low}, {high}]"


def group_rows(part: Numbers) -> Iterator[dict[str, Any]]:
    """Yield name, numbers and cells of each group; a cell is its text and whether it is the worst of a score."""
    for row in part["rows"]:
        worst = [part["gaps"].get(name, {}).get("worst") == row["value"] for name in GROUP_HEADS]
        cells = [format_interval(row, name, ".3f") for name in GROUP_HEADS]
        yield {**row, "cells": list(zip(cells, worst, strict=True))}


def describe_gaps(part: Numbers, people: str) -> Iterator[str]:
    """Yield a line for the largest gap of each score: both groups, the gap, and how often chance has one as large."""
    values = {row["value"]: row for row in part["rows"]}
    for name, gap in part["gaps"].items():
        worst, best = ((value, values[value][name]) for value in (gap["worst"], gap["best"]))
        yield (f"{GROUP_HEADS[name]}: worst {worst[0]} ({worst[1]:.3f}), best {best[0]} ({best[1]:.3f}), gap "
               f"{gap['gap']:.3f}; {describe_chance(gap, people)}")  # fmt: skip


def describe_chance(gap: Numbers, people: str) -> str:
    """Return how often permuted groups have a gap as large."""
    return f"p = {gap['p']:.4f}, from {gap['permutations']:,} permutations of {people}"


def reliability_notes(run: Run, metrics: Numbers) -> Iterator[str]:
    """Yield lines for the terminal: what calibration would gain, and the worst group by accuracy of each column."""
    if calibration := metrics.get("calibration"):
        scores = describe_calibration(calibration["oof"]["class"])
        yield f"temperature scaling, out of fold: {scores}; maskcls predict runs='[{run.id}]' calibrate=true"
    for part in metrics.get("groups") or ():
        if gap := part["gaps"].get("accuracy"):
            difference = f"{gap['gap']:.3f} below {gap['best']} (p = {gap['p']:.4f})"
            yield f"accuracy by {part['column']}: worst {gap['worst']}, {difference}"

