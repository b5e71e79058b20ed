"""Fold predictions combined into out-of-fold tables and closing metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.config import Config
from maskcls.core.table import count_split_people, eval_indices, num_folds
from maskcls.core.task import CLASSES, FloatArray
from maskcls.engine.fold import check_rows
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, mean_std
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run


def collect_predictions(run: Run, table: pd.DataFrame) -> tuple[FloatArray, FloatArray, list[dict[str, Any]]]:
    """Return the out-of-fold probabilities of all rows (NaN where none), the evaluation rows' of each fold
    (folds, N, 18), and a row of scores for each fold."""
    oof = np.full((len(table), len(CLASSES)), np.nan, np.float32)
    rest, each = [], []
    position = pd.Series(np.arange(len(table)), index=table["id"])
    truth = table["label"].to_numpy()
    for k in range(num_folds(table)):
        fold = run.fold_predictions(k)
        check_rows(fold, table, k)
        held = position[fold.val.ids.tolist()].to_numpy()
        oof[held] = fold.val.probs
        rest.append(fold.eval.probs)
        facts = {"fold": k, "photos": len(held), "epochs": fold.num_epochs, "epoch": fold.selected_epochs}
        each.append(facts | compute_scores(truth[held], fold.val.probs))
    return oof, np.stack(rest), each


def summarize(run: Run, cfg: Config, table: pd.DataFrame, notes: Sequence[str]) -> dict[str, Any]:
    """Write oof.csv and eval.csv and return the closing metrics: only numbers that another run would repeat."""
    oof, rest, each = collect_predictions(run, table)
    held = np.flatnonzero(~np.isnan(oof[:, 0]))
    truth = table["label"].to_numpy()
    rows = table.iloc[held]
    Predictions(rows["id"].to_numpy(str), oof[held]).write(run.predictions_path("oof"), rows)
    evaluation = eval_indices(table)
    if len(evaluation):
        rows = table.iloc[evaluation]
        Predictions(rows["id"].to_numpy(str), rest.mean(0)).write(run.predictions_path("eval"), rows)
    people = table.iloc[held]["person"].nunique()
    return {
        "run": run.id, "folds": each,
        "folds_mean": mean_std([row["f1"] for row in each], [row["accuracy"] for row in each]),
        "oof": {**compute_scores(truth[held], oof[held]), "photos": len(held), "people": people},
        "eval": score_eval(table, rest), "people_on_both_sides": count_split_people(table), "select": cfg.select,
        "notes": list(notes), "per_class": class_report(truth[held], oof[held]),
        "confusion": confusion_counts(truth[held], oof[held]).tolist(),
    }  # fmt: skip


def score_eval(table: pd.DataFrame, rest: FloatArray) -> dict[str, Any] | None:
    """Return the scores of the evaluation rows: of the folds' mean, and of each fold alone; None without labels."""
    part = table.iloc[eval_indices(table)]
    known = part["scored"].to_numpy(bool)
    if not known.any():
        return None
    truth = part["label"].to_numpy()[known]
    single = [compute_scores(truth, probs[known]) for probs in rest]
    alone = mean_std([row["f1"] for row in single], [row["accuracy"] for row in single])
    return {
        **compute_scores(truth, rest.mean(0)[known]),
        "photos": len(truth),
        "people": part[known]["person"].nunique(),
        "single": alone,
    }
