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
    """Print the closing table, a warning where the split leaks, and where the run and its page lie."""
    head = ["", "macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1", "photos"]
    console.print_table("", head, [[name, *map(format_score, values)] for name, values in summary_rows(metrics)])
    if both := metrics["people_on_both_sides"]:
        console.info(f"LEAK: {leak_warning(both)}", "bold red")
    for note in metrics.get("notes", ()):
        if note.startswith("LEAK: ") and not note.startswith("LEAK: split"):  # which is what was just said
            console.info(note, "bold red")
    console.info(str(run.path))
    if run.report_path.exists():
        console.info(str(run.report_path))


def leak_warning(both: int) -> str:
    """Return the sentence on a split that puts people on both sides."""
    who = "1 person stands" if both == 1 else f"{both} people stand"
    return f"{who} on both sides of a fold, so out-of-fold scores are not scores on new people"


def format_score(value: Any) -> str:
    """Return a score with four digits, a count as it is, and nothing for what is not known."""
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def summary_rows(metrics: Numbers) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and the values (five scores, photos) of each line of the closing table."""
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
        alone, blank = evaluation.get("single") or {}, [None] * 4
        if alone and len(folds) > 1:
            yield "evaluation: one fold", [alone["f1"], alone["accuracy"], None, None, None, evaluation["photos"]]
            yield "  ± sd", [alone.get("f1_sd"), alone.get("accuracy_sd"), *blank]
