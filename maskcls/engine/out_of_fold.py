"""Fold predictions combined into out-of-fold tables and closing metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.table import count_split_people, eval_indices, num_folds
from maskcls.core.task import CLASSES, FloatArray
from maskcls.engine.experiment import Experiment
from maskcls.engine.fold import check_rows
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, mean_std
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run


def collect_predictions(run: Run, table: pd.DataFrame) -> tuple[FloatArray, FloatArray, list[dict[str, Any]]]:
    """Return the out-of-fold probabilities (N, 18), NaN for rows outside the folds, the folds' probabilities of the
    evaluation rows (folds, M, 18), and one row of scores per fold."""
    oof = np.full((len(table), len(CLASSES)), np.nan, np.float32)
    eval_probs, fold_rows = [], []
    positions = pd.Series(np.arange(len(table)), index=table["id"])
    labels = table["label"].to_numpy()
    for k in range(num_folds(table)):
        fold = run.fold_predictions(k)
        check_rows(fold, table, k)
        indices = positions[fold.val.ids.tolist()].to_numpy()
        oof[indices] = fold.val.probs
        eval_probs.append(fold.eval.probs)
        facts = {"fold": k, "photos": len(indices), "epochs": fold.num_epochs, "epoch": fold.selected_epochs}
        fold_rows.append(facts | compute_scores(labels[indices], fold.val.probs))
    return oof, np.stack(eval_probs), fold_rows


def summarize(experiment: Experiment, notes: Sequence[str]) -> dict[str, Any]:
    """Write oof.csv and eval.csv; return the closing metrics, all of them reproducible."""
    run, table = experiment.run, experiment.table
    oof, eval_probs, fold_rows = collect_predictions(run, table)
    val_rows, eval_rows = np.flatnonzero(~np.isnan(oof[:, 0])), eval_indices(table)
    labels, probs = table["label"].to_numpy()[val_rows], oof[val_rows]
    rows = table.iloc[val_rows]
    Predictions(rows["id"].to_numpy(str), probs).write(run.predictions_path("oof"), rows)
    if len(eval_rows):
        rows = table.iloc[eval_rows]
        Predictions(rows["id"].to_numpy(str), eval_probs.mean(0)).write(run.predictions_path("eval"), rows)
    num_people = table.iloc[val_rows]["person"].nunique()
    return {
        "run": run.id, "folds": fold_rows, "folds_mean": mean_over_folds(fold_rows),
        "oof": {**compute_scores(labels, probs), "photos": len(val_rows), "people": num_people},
        "eval": score_eval(table, eval_probs), "people_on_both_sides": count_split_people(table),
        "select": experiment.cfg.select, "notes": list(notes), "per_class": class_report(labels, probs),
        "confusion": confusion_counts(labels, probs).tolist(),
    }  # fmt: skip


def score_eval(table: pd.DataFrame, eval_probs: FloatArray) -> dict[str, Any] | None:
    """Return the scores of the folds' mean on the evaluation rows, and of single folds; None without labels."""
    rows = table.iloc[eval_indices(table)]
    has_label = rows["scored"].to_numpy(bool)
    if not has_label.any():
        return None
    labels = rows["label"].to_numpy()[has_label]
    return {
        **compute_scores(labels, eval_probs.mean(0)[has_label]), "photos": len(labels),
        "people": rows[has_label]["person"].nunique(),
        "single": mean_over_folds([compute_scores(labels, probs[has_label]) for probs in eval_probs]),
    }  # fmt: skip


def mean_over_folds(fold_rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and standard deviation of the folds' scores."""
    return mean_std([row["f1"] for row in fold_rows], [row["accuracy"] for row in fold_rows])
