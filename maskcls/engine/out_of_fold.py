"""Fold predictions combined into out-of-fold tables and closing metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.components.decision import Decision
from maskcls.components.labels import find_open_ended
from maskcls.core.table import count_split_people, eval_indices, num_folds, value_indices
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.engine.experiment import Experiment
from maskcls.engine.fold import check_rows
from maskcls.engine.reliability import measure_reliability
from maskcls.evaluation.error_analysis import number_error
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, mean_std
from maskcls.evaluation.stacking import Doubles, decide
from maskcls.evaluation.temperature import SINGLE_TEMPERATURES
from maskcls.reporting.summary import CONCLUDED
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.storage.run_paths import Part

Columns = npt.NDArray[Any]  # (…, C) probabilities, or (…, C + 2) with E[number] and E[number²]


def collect_predictions(run: Run, table: pd.DataFrame) -> tuple[Columns, Columns, list[dict[str, Any]]]:
    """Return the out-of-fold columns (N, C or C + 2), NaN for rows outside the folds, the folds' columns of the
    evaluation rows (folds, M, C or C + 2), and one row of scores per fold; without numbers if a fold has none."""
    task, values = run.task, value_indices(table, run.task)
    folds = [run.fold_predictions(k) for k in range(num_folds(table))]
    width = min(fold.val.columns.shape[1] for fold in folds)
    oof = np.full((len(table), width), np.nan, np.float64 if width > task.num_classes else np.float32)
    fold_rows = []
    positions = pd.Series(np.arange(len(table)), index=table["id"])
    for k, fold in enumerate(folds):
        check_rows(fold, table, k)
        indices = positions[fold.val.ids.tolist()].to_numpy()
        oof[indices] = fold.val.columns[:, :width]
        labels = table["label"].to_numpy()[indices]
        facts: dict[str, Any] = {"fold": k, "photos": int((labels >= 0).sum()), "epochs": fold.num_epochs}
        facts |= {"epoch": fold.selected_epochs}
        facts |= {"concluded": True} if fold.is_concluded else {}
        numbers = {} if width == task.num_classes else score_numbers(table, indices, fold.val.numbers, task)
        facts |= {key: value for key, value in numbers.items() if key.endswith("_mae")}
        fold_rows.append(facts | compute_scores(labels, fold.val.probs, task, values[indices]))
    return oof, np.stack([fold.eval.columns[:, :width] for fold in folds]), fold_rows


def score_numbers(table: pd.DataFrame, indices: IntArray, expected: FloatArray | None, task: Task) -> dict[str, Any]:
    """Return the error of the expected numbers (N, 2), such as ages, of some rows of a table, empty without them."""
    if expected is None or task.number is None:
        return {}
    is_open = find_open_ended(table, task.number, task.number.borders[-1])[indices]
    rows = table.iloc[indices]
    truth = np.floor(rows[task.number.source].to_numpy(float))  # completed years, as the targets of head=years
    return number_error(truth, expected[:, 0], is_open, rows["person"].tolist(), task.number.name)


def summarize(experiment: Experiment, notes: Sequence[str]) -> dict[str, Any]:
    """Write oof.csv and eval.csv; return the closing metrics, all of them reproducible.

    With a fitted decision, all scores are of the decided predictions; those of the plain ones are below `decision`.
    Rows that lack the label of an attribute count in the scores of the others alone.
    """
    run, table, task = experiment.run, experiment.table, experiment.task
    oof, evaluation, fold_rows = collect_predictions(run, table)
    val_rows = np.flatnonzero(~np.isnan(oof[:, 0]))
    rows, eval_rows, ids = table.iloc[val_rows], eval_indices(table), table["id"].to_numpy(str)
    val, mean = Predictions.of_columns(ids[val_rows], oof[val_rows], task.num_classes), evaluation.mean(0)
    labels, values, plain = rows["label"].to_numpy(), value_indices(rows, task), val.probs
    decision = decide_rows(experiment, plain, rows)
    probs, bias = decision.oof, decision.bias
    evaluated = Predictions.of_columns(ids[eval_rows], mean, task.num_classes)
    write_predictions(run, rows, table.iloc[eval_rows], val, evaluated, decision)
    counts = {"photos": int((labels >= 0).sum()), "people": rows["person"].nunique()}
    size = score_numbers(table, val_rows, val.numbers, task) | counts
    decided: dict[str, Any] = {}
    if bias is not None:
        fold_rows = score_folds(fold_rows, rows, probs, task)
        plain_scores = {"oof": compute_scores(labels, plain, task, values) | size,
                        "eval": score_eval(table, evaluation, task)}  # fmt: skip
        decided = {"decision": {"bias": bias.tolist(), "plain": plain_scores}}
    notes = [*notes, *filter(None, [decision.note]), *conclusion_notes(fold_rows, experiment.cfg.epochs)]
    if run.trained_on_eval and len(evaluation) > 1:
        what = f"calibration: pseudo={experiment.cfg.pseudo.name} trained on the evaluation images"
        notes.append(f"{what}: {SINGLE_TEMPERATURES}")
    whole = labels >= 0
    return {
        "run": run.id, "folds": fold_rows, "folds_mean": mean_over_folds(fold_rows),
        "oof": compute_scores(labels, probs, task, values) | size,
        "eval": score_eval(table, evaluation, task, bias), "people_on_both_sides": count_split_people(table),
        "select": experiment.cfg.select, "notes": notes, **decided,
        "per_class": class_report(labels, probs, task), "confusion": confusion_counts(labels, probs).tolist(),
        **measure_reliability(table, rows[whole], plain[whole], probs[whole], evaluation, bias, experiment.head.axes,
                              task, run.trained_on_eval),
    }  # fmt: skip


def decide_rows(experiment: Experiment, plain: FloatArray, rows: pd.DataFrame) -> Decision:
    """Return the decision of out-of-fold rows (N, C), fitted to those with the labels of all attributes."""
    labels, persons = rows["label"].to_numpy(), rows["person"].to_numpy(object)
    whole = labels >= 0
    decision: Decision = experiment.cfg.decision.build(plain[whole], labels[whole], persons[whole].tolist())
    if whole.all():
        return decision
    probs = decide(plain, decision.bias).copy()
    probs[whole] = decision.oof
    return replace(decision, oof=probs)


def write_predictions(
    run: Run, rows: pd.DataFrame, eval_rows: pd.DataFrame, val: Predictions, evaluation: Predictions, decision: Decision
) -> None:
    """Write oof.csv, and eval.csv if there is an evaluation set, with the plain classes if a decision was fitted."""
    parts: list[tuple[Part, pd.DataFrame, Predictions, FloatArray]] = [
        ("oof", rows, val, decision.oof), ("eval", eval_rows, evaluation, decide(evaluation.probs, decision.bias)),
    ]  # fmt: skip
    for part, images, plain, probs in parts:
        if len(images):
            classes = None if decision.bias is None else plain.preds
            replace(plain, probs=probs).write(run.predictions_path(part), run.task, images, classes)


def score_folds(
    fold_rows: Sequence[dict[str, Any]], rows: pd.DataFrame, probs: FloatArray, task: Task
) -> list[dict[str, Any]]:
    """Return the rows of the folds with the scores of decided probabilities (N, C) of the out-of-fold rows."""
    folds, labels, values = rows["fold"].to_numpy(), rows["label"].to_numpy(), value_indices(rows, task)
    masks = [folds == row["fold"] for row in fold_rows]
    return [row | compute_scores(labels[mask], probs[mask], task, values[mask])
            for row, mask in zip(fold_rows, masks, strict=True)]  # fmt: skip


def conclusion_notes(fold_rows: Sequence[dict[str, Any]], num_epochs: int) -> list[str]:
    """Return a note with the epochs of each fold if some were concluded before the last epoch."""
    if not any(row.get("concluded") for row in fold_rows):
        return []
    epochs = ", ".join(f"fold {row['fold']} after epoch {row['epochs']}" for row in fold_rows)
    return [f"{CONCLUDED}{epochs} of {num_epochs}. Scores are not those of the whole training"]


def score_eval(
    table: pd.DataFrame, evaluation: Columns, task: Task, bias: Doubles | None = None
) -> dict[str, Any] | None:
    """Return the scores of the folds' mean on the evaluation rows, and of single folds; None without labels.

    `bias` (C,) is added to the class log-probabilities of both.
    """
    indices = eval_indices(table)
    has_label = (table["scored"] | table["partial"] if "partial" in table else table["scored"]).to_numpy(bool)[indices]
    if not table["scored"].to_numpy(bool)[indices].any():
        return None
    indices = indices[has_label]
    rows, ids = table.iloc[indices], table["id"].to_numpy(str)[indices]
    labels, values = rows["label"].to_numpy(), value_indices(rows, task)
    mean, *folds = (Predictions.of_columns(ids, one[has_label], task.num_classes)
                    for one in (evaluation.mean(0), *evaluation))  # fmt: skip
    return {
        **compute_scores(labels, decide(mean.probs, bias), task, values),
        **score_numbers(table, indices, mean.numbers, task),
        "photos": int((labels >= 0).sum()), "people": rows["person"].nunique(),
        "single": mean_over_folds([compute_scores(labels, decide(fold.probs, bias), task, values) for fold in folds]),
    }  # fmt: skip


def mean_over_folds(fold_rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of the folds' scores."""
    return mean_std([row["f1"] for row in fold_rows], [row["accuracy"] for row in fold_rows])
