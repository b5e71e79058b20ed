"""The closing summary of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from maskcls.evaluation.metrics import SCORES
from maskcls.storage.run import Run
from maskcls.system import console

Numbers = dict[str, Any]


def print_summary(run: Run, metrics: Numbers) -> None:
    """Print the table of scores, a warning if the split leaks, and the paths of the run and its report."""
    head = ["", "macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1", "images"]
    console.print_table("", head, [[name, *map(format_score, values)] for name, values in summary_rows(metrics)])
    if num_split_people := metrics["people_on_both_sides"]:
        console.info(f"LEAK: {leak_warning(num_split_people)}", "bold red")
    for note in metrics.get("notes", ()):
        if note.startswith("LEAK: ") and not note.startswith("LEAK: split"):  # already printed above
            console.info(note, "bold red")
    console.info(str(run.path))
    if run.report_path.exists():
        console.info(str(run.report_path))


def leak_warning(num_split_people: int) -> str:
    """Return the warning about a split with people in both training and validation."""
    people = "1 person is" if num_split_people == 1 else f"{num_split_people} people are"
    return f"{people} in both training and validation, so out-of-fold scores overestimate scores on new people"


def format_score(value: Any) -> str:
    """Return a score with four digits, a count unchanged, and an empty text for a missing value."""
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def summary_rows(metrics: Numbers) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and the values (five scores, number of images) of each row of the table of scores."""
    folds, evaluation = metrics["folds"], metrics["eval"]
    for row in folds:
        yield f"fold {row['fold']}", [row.get(name) for name in (*SCORES, "photos")]
    if len(folds) > 1:
        values = np.array([[row[name] for name in SCORES] for row in folds])  # (folds, 5)
        yield "mean of folds", [*values.mean(0).tolist(), None]
        yield "  ± sd", [*values.std(0, ddof=1).tolist(), None]
    yield "out of fold", [metrics["oof"].get(name) for name in (*SCORES, "photos")]
    if evaluation:
        name = "evaluation: ensemble" if len(folds) > 1 else "evaluation"
        yield name, [evaluation.get(key) for key in (*SCORES, "photos")]
        single, blank = evaluation.get("single") or {}, [None] * 4
        if single and len(folds) > 1:
            yield "evaluation: one fold", [single["f1"], single["accuracy"], None, None, None, evaluation["photos"]]
            yield "  ± sd", [single.get("f1_sd"), single.get("accuracy_sd"), *blank]
