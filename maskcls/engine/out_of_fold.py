"""Fold predictions combined into out-of-fold tables and closing metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.components.decision import Decision, build_decision
from maskcls.components.labels import find_open_ended
from maskcls.core.table import count_split_people, eval_indices, num_folds
from maskcls.core.task import AGE_THRESHOLDS, CLASSES, FloatArray, IntArray
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

Columns = npt.NDArray[Any]  # (…, 18) probabilities, or (…, 20) with E[age] and E[age²]


def collect_predictions(run: Run, table: pd.DataFrame) -> tuple[Columns, Columns, list[dict[str, Any]]]:
    """Return the out-of-fold columns (N, 18 or 20), NaN for rows outside the folds, the folds' columns of the
    evaluation rows (folds, M, 18 or 20), and one row of scores per fold; without ages if a fold has none."""
    folds = [run.fold_predictions(k) for k in range(num_folds(table))]
    width = min(fold.val.columns.shape[1] for fold in folds)
    oof = np.full((len(table), width), np.nan, np.float64 if width > len(CLASSES) else np.float32)
    fold_rows = []
    positions = pd.Series(np.arange(len(table)), index=table["id"])
    for k, fold in enumerate(folds):
        check_rows(fold, table, k)
        indices = positions[fold.val.ids.tolist()].to_numpy()
        oof[indices] = fold.val.columns[:, :width]
        facts = {"fold": k, "photos": len(indices), "epochs": fold.num_epochs, "epoch": fold.selected_epochs}
        facts |= {"concluded": True} if fold.is_concluded else {}
        ages = {} if width == len(CLASSES) else score_ages(table, indices, fold.val.ages)
        facts |= {"age_mae": ages["age_mae"]} if "age_mae" in ages else {}
        fold_rows.append(facts | compute_scores(table["label"].to_numpy()[indices], fold.val.probs))
    return oof, np.stack([fold.eval.columns[:, :width] for fold in folds]), fold_rows


def score_ages(table: pd.DataFrame, indices: IntArray, ages: FloatArray | None) -> dict[str, Any]:
    """Return the error of the expected ages (N, 2) of some rows of a table, empty without ages."""
    if ages is None:
        return {}
    rows, is_open = table.iloc[indices], find_open_ended(table, AGE_THRESHOLDS[1])[indices]
    truth = np.floor(rows["age"].to_numpy(float))  # completed years, as the targets of head=years
    return number_error(truth, ages[:, 0], is_open, rows["person"].tolist(), "age")


def summarize(experiment: Experiment, notes: Sequence[str]) -> dict[str, Any]:
    """Write oof.csv and eval.csv; return the closing metrics, all of them reproducible.

    With a fitted decision, all scores are of the decided predictions; those of the plain ones are below `decision`.
    """
    run, table = experiment.run, experiment.table
    oof, evaluation, fold_rows = collect_predictions(run, table)
    val_rows = np.flatnonzero(~np.isnan(oof[:, 0]))
    rows, eval_rows, ids = table.iloc[val_rows], eval_indices(table), table["id"].to_numpy(str)
    val, mean = Predictions.of_columns(ids[val_rows], oof[val_rows]), evaluation.mean(0)
    labels, plain = rows["label"].to_numpy(), val.probs
    decision = build_decision(experiment.cfg.decision, plain, labels, rows["person"].tolist(), experiment.task)
    probs, bias = decision.oof, decision.bias
    write_predictions(run, rows, table.iloc[eval_rows], val, Predictions.of_columns(ids[eval_rows], mean), decision)
    size = score_ages(table, val_rows, val.ages) | {"photos": len(val_rows), "people": rows["person"].nunique()}
    decided: dict[str, Any] = {}
    if bias is not None:
        fold_rows = score_folds(fold_rows, rows["fold"].to_numpy(), labels, probs)
        plain_scores = {"oof": compute_scores(labels, plain) | size, "eval": score_eval(table, evaluation)}
        decided = {"decision": {"bias": bias.tolist(), "plain": plain_scores}}
    notes = [*notes, *filter(None, [decision.note]), *conclusion_notes(fold_rows, experiment.cfg.epochs)]
    if run.trained_on_eval and len(evaluation) > 1:
        what = f"calibration: pseudo={experiment.cfg.pseudo.name} trained on the evaluation images"
        notes.append(f"{what}: {SINGLE_TEMPERATURES}")
    axes = experiment.cfg.head.build().axes
    return {
        "run": run.id, "folds": fold_rows, "folds_mean": mean_over_folds(fold_rows),
        "oof": compute_scores(labels, probs) | size,
        "eval": score_eval(table, evaluation, bias), "people_on_both_sides": count_split_people(table),
        "select": experiment.cfg.select, "notes": notes, **decided,
        "per_class": class_report(labels, probs), "confusion": confusion_counts(labels, probs).tolist(),
        **measure_reliability(table, rows, plain, probs, evaluation, bias, axes, run.trained_on_eval),
    }  # fmt: skip


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
            replace(plain, probs=probs).write(run.predictions_path(part), images, classes)


def score_folds(
    fold_rows: Sequence[dict[str, Any]], folds: IntArray, labels: IntArray, probs: FloatArray
) -> list[dict[str, Any]]:
    """Return the rows of the folds with the scores of decided probabilities (N, 18); `folds` are those of the rows."""
    masks = [folds == row["fold"] for row in fold_rows]
    return [row | compute_scores(labels[mask], probs[mask]) for row, mask in zip(fold_rows, masks, strict=True)]


def conclusion_notes(fold_rows: Sequence[dict[str, Any]], num_epochs: int) -> list[str]:
    """Return a note with the epochs of each fold if some were concluded before the last epoch."""
    if not any(row.get("concluded") for row in fold_rows):
        return []
    epochs = ", ".join(f"fold {row['fold']} after epoch {row['epochs']}" for row in fold_rows)
    return [f"{CONCLUDED}{epochs} of {num_epochs}. Scores are not those of the whole training"]


def score_eval(table: pd.DataFrame, evaluation: Columns, bias: Doubles | None = None) -> dict[str, Any] | None:
    """Return the scores of the folds' mean on the evaluation rows, and of single folds; None without labels.

    `bias` (18,) is added to the class log-probabilities of both.
    """
    indices = eval_indices(table)
    has_label = table["scored"].to_numpy(bool)[indices]
    if not has_label.any():
        return None
    indices = indices[has_label]
    rows, ids = table.iloc[indices], table["id"].to_numpy(str)[indices]
    labels = rows["label"].to_numpy()
    mean, *folds = (Predictions.of_columns(ids, one[has_label]) for one in (evaluation.mean(0), *evaluation))
    return {
        **compute_scores(labels, decide(mean.probs, bias)), **score_ages(table, indices, mean.ages),
        "photos": len(labels), "people": rows["person"].nunique(),
        "single": mean_over_folds([compute_scores(labels, decide(fold.probs, bias)) for fold in folds]),
    }  # fmt: skip


def mean_over_folds(fold_rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of the folds' scores."""
    return mean_std([row["f1"] for row in fold_rows], [row["accuracy"] for row in fold_rows])
