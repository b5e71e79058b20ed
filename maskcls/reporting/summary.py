"""The closing summary of a run in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from maskcls.core.task import AGE_THRESHOLDS
from maskcls.evaluation.metrics import SCORES
from maskcls.reporting.reliability_tables import reliability_notes
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.safe_reading import read_json

Numbers = dict[str, Any]
HEADS = dict(zip((*SCORES, "age_mae"), ("macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1", "age\nMAE"),
                 strict=True))  # fmt: skip
CONCLUDED = "concluded early: "  # begins the note of a run whose folds were concluded before their last epoch


def print_summary(run: Run, metrics: Numbers) -> None:
    """Print the table of scores, a warning if the split leaks, and the paths of the run and its report."""
    head = ["", *[HEADS[name] for name in SCORES], "images"]  # 80 columns wide: the error of the age is a line below
    rows = [[name, *map(format_score, values)] for name, values in summary_rows(metrics, SCORES)]
    console.print_table("", head, rows)
    if note := age_note(metrics):
        console.info(note)
    for note in leak_notes(metrics):
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


def leak_notes(metrics: Numbers) -> Iterator[str]:
    """Yield the warnings of a run whose scores are, or may be, too high, each beginning with LEAK."""
    if num_split_people := metrics.get("people_on_both_sides"):
        yield f"LEAK: {leak_warning(num_split_people)}"
    for note in metrics.get("notes") or ():
        if note.startswith("LEAK") and not note.startswith("LEAK: split"):  # said above
            yield note


def leak_warning(num_split_people: int) -> str:
    """Return the warning about a split with people in both training and validation."""
    people = "1 person is" if num_split_people == 1 else f"{num_split_people} people are"
    return f"{people} in both training and validation, so out-of-fold scores overestimate scores on new people"


def score_names(metrics: Numbers) -> list[str]:
    """Return the names of the scores that out-of-fold rows and all folds have."""
    parts = [metrics["oof"], *metrics["folds"]]
    return [name for name in HEADS if name in SCORES or all(part.get(name) is not None for part in parts)]


def age_note(metrics: Numbers) -> str:
    """Return the error of the expected age and what it is measured on, an empty text for a head without years."""
    part, evaluation = metrics["oof"], (metrics["eval"] or {}).get("age_mae")
    if part.get("age_images") is None:
        return ""
    num_open = part.get("open_ended")
    left_out = f"{num_open} images of {AGE_THRESHOLDS[1]} or older are left out" if num_open else ""
    if part.get("age_mae") is None:
        return "; ".join(["age MAE: no image has a known age in years", left_out]).removesuffix("; ")
    interval = "" if part.get("age_mae_interval") is None else " [{:.2f}, {:.2f}]".format(*part["age_mae_interval"])
    error = f"age MAE: {part['age_mae']:.2f} years{interval} out of fold, {part['age_images']} images of known age"
    other = "" if evaluation is None else f"evaluation {evaluation:.2f} years"
    return "; ".join(filter(None, [error, left_out, other]))


def format_score(value: Any) -> str:
    """Return a score with four digits, a count unchanged, and an empty text for a missing value."""
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def summary_rows(metrics: Numbers, names: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the name and the values (scores, number of images) of each row of the table of scores."""
    folds, evaluation, plain = metrics["folds"], metrics["eval"], (metrics.get("decision") or {}).get("plain")
    for row in folds:
        yield f"fold {row['fold']}", [row.get(name) for name in (*names, "photos")]
    if len(folds) > 1:
        values = np.array([[row[name] for name in names] for row in folds])  # (folds, 5 or 6)
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
