"""The closing summary of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from maskcls.core.task import Attribute, Task
from maskcls.evaluation.metrics import distinct_scores
from maskcls.reporting.reliability_tables import reliability_notes
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.safe_reading import read_json

Numbers = dict[str, Any]
CONCLUDED = "concluded early: "  # begins the note of a run whose folds were concluded before their last epoch


def print_summary(run: Run, metrics: Numbers) -> None:
    """Print the table of scores, a warning if the split leaks, and the paths of the run and its report."""
    heads, names = score_heads(run.task), distinct_scores(run.task)
    head = ["", *[heads[name] for name in names], "images"]  # 80 columns wide: the error of a number is a line below
    rows = [[name, *map(format_score, values)] for name, values in summary_rows(metrics, names)]
    console.print_table("", head, rows)
    if note := number_note(metrics, run.task):
        console.info(note)
    for note in leak_notes(metrics, run.task):
        console.info(note, "bold red")
    for note in metrics.get("notes", ()):
        if note.startswith(CONCLUDED):
            console.info(note, "bold yellow")
        if note.startswith("decision="):
            console.info(note, "bold")
    for note in reliability_notes(run, metrics):
        console.info(note)
    console.info(str(run.path))
    if run.report_path.exists():
        console.info(str(run.report_path))


def print_conclusions(runs: Iterable[Run]) -> None:
    """Print which runs were concluded early: their scores are not those of their configs."""
    for run in runs:
        notes = read_json(run.metrics_path).get("notes")
        for note in notes if isinstance(notes, list) else ():
            if isinstance(note, str) and note.startswith(CONCLUDED):
                console.info(f"{run.id}: {note}", "bold yellow")


def leak_notes(metrics: Numbers, task: Task) -> Iterator[str]:
    """Yield the warnings of a run whose scores are, or may be, too high, each beginning with LEAK."""
    if num_split_people := metrics.get("people_on_both_sides"):
        yield f"LEAK: {leak_warning(num_split_people, task)}"
    for note in metrics.get("notes") or ():
        if note.startswith("LEAK") and not note.startswith("LEAK: split"):  # said above
            yield note


def leak_warning(num_split_people: int, task: Task | None) -> str:
    """Return the warning about a split with people, or other groups of images, in both training and validation."""
    one, many = ("person", "people") if task is None or task.group == "person" else ("group", "groups")
    people = f"1 {one} is" if num_split_people == 1 else f"{num_split_people} {many} are"
    return f"{people} in both training and validation, so out-of-fold scores overestimate scores on new {many}"


def score_heads(task: Task) -> dict[str, str]:
    """Return the head of each score, in two lines, and of the error of the number that a head predicts."""
    heads = {"f1": "macro\nF1", "accuracy": "accuracy"}
    heads |= {f"{attribute.name}_f1": f"{attribute.short or attribute.name}\nF1" for attribute in task}
    return heads | ({f"{task.number.name}_mae": f"{task.number.name}\nMAE"} if task.number else {})


def score_names(metrics: Numbers, task: Task) -> list[str]:
    """Return the names of the scores that out-of-fold rows and all folds have."""
    parts, scores = [metrics["oof"], *metrics["folds"]], distinct_scores(task)
    others = [name for name in score_heads(task) if name not in task.score_names]
    return [*scores, *[name for name in others if all(part.get(name) is not None for part in parts)]]


def number_note(metrics: Numbers, task: Task) -> str:
    """Return the error of the expected number and what it is measured on, an empty text for a head without one."""
    number = task.number
    if number is None or metrics["oof"].get(f"{number.name}_images") is None:
        return ""
    name, key, part = number.name, f"{number.name}_mae", metrics["oof"]
    num_open, evaluation = part.get("open_ended"), (metrics["eval"] or {}).get(key)
    limit = f"{number.borders[-1]:g} or {number.more}"
    left_out = f"{num_open} images of {limit} are left out" if num_open else ""
    if part.get(key) is None:
        return "; ".join([f"{name} MAE: no image has a known {number.in_unit}", left_out]).removesuffix("; ")
    interval = "" if part.get(f"{key}_interval") is None else " [{:.2f}, {:.2f}]".format(*part[f"{key}_interval"])
    error = f"{with_unit(part[key], number)}{interval} out of fold, {part[f'{name}_images']} images of known {name}"
    other = "" if evaluation is None else f"evaluation {with_unit(evaluation, number)}"
    return "; ".join(filter(None, [f"{name} MAE: {error}", left_out, other]))


def with_unit(value: float, number: Attribute) -> str:
    """Return a number with two digits and its unit, if it has one."""
    return f"{value:.2f} {number.unit}".rstrip()


def format_score(value: Any) -> str:
    """Return a score with four digits, a count unchanged, and an empty text for a missing value."""
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def summary_rows(metrics: Numbers, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and the values (scores, number of images) of each row of the table of scores."""
    folds, evaluation, plain = metrics["folds"], metrics["eval"], (metrics.get("decision") or {}).get("plain")
    for row in folds:
        yield f"fold {row['fold']}", [row.get(name) for name in (*names, "photos")]
    if len(folds) > 1:
        values = np.array([[row[name] for name in names] for row in folds])  # (folds, scores)
        yield "mean of folds", [*values.mean(0).tolist(), None]
        yield "  ± sd", [*values.std(0, ddof=1).tolist(), None]
    yield "out of fold", [metrics["oof"].get(name) for name in (*names, "photos")]
    if plain:
        yield "  plain argmax", [plain["oof"].get(name) for name in (*names, "photos")]
    if evaluation:
        name = "evaluation: ensemble" if len(folds) > 1 else "evaluation"
        yield name, [evaluation.get(key) for key in (*names, "photos")]
        if plain:
            yield "  plain argmax", [(plain["eval"] or {}).get(key) for key in (*names, "photos")]
        single, blank = evaluation.get("single") or {}, [None] * (len(names) - 2)
        if single and len(folds) > 1:
            yield "evaluation: one fold", [single["f1"], single["accuracy"], *blank, evaluation["photos"]]
            yield "  ± sd", [single.get("f1_sd"), single.get("accuracy_sd"), *blank, None]
