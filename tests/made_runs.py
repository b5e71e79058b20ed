"""Run directories written without training: predictions of made skill, for the tests that compare many runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.core.task_options import describe_task
from maskcls.evaluation.metrics import compute_scores
from maskcls.storage.predictions import FoldPredictions, Predictions
from maskcls.storage.run import Run

FOLDS = 5
CONFIG = {
    "name": "a", "seed": 0, "epochs": 3, "folds": FOLDS, "precision": "fp32", "plugins": [], "cache_dir": "nowhere",
    "data": {"name": "competition", "root": "nowhere"}, "crop": {"name": "resize", "height": 32, "width": 24},
    "model": {"name": "timm", "arch": "resnet18"}, "loss": {"name": "ce", "label_smoothing": 0.0},
    "optimizer": {"name": "adam", "lr": 0.001}, "hardware": {"name": "cpu"},
}  # fmt: skip


def image_table(people: int, eval_people: int = 0, seed: int = 0, images: int = 7, task: Task = MASK18) -> pd.DataFrame:
    """Return the table of made people: folds of people, and a labelled evaluation set."""
    random, size = np.random.default_rng(seed), task.num_classes // task.shape[0]  # of a first attribute per photo
    rows = []
    for person in range(people + eval_people):
        identity = int(random.integers(0, size))
        part, fold = ("train", person % FOLDS) if person < people else ("eval", -1)
        rows += [{"id": f"{part}/images/{person:06}/mask{i}.jpg", "person": f"{part}{person:06}", "part": part, "fold": fold,
                  "label": identity + size * (0 if i < 5 else (i - 4) % task.shape[0])} for i in range(images)]  # fmt: skip
    table = pd.DataFrame(rows)
    for attribute, values in zip(task, task.decode(table["label"]), strict=True):
        table[attribute.source] = 30.0 if attribute.is_number else values
    return table.assign(scored=True, content="")


def make_run(
    path: Path, table: pd.DataFrame, skill: float = 0.7, seed: int = 0, facts: Mapping[str, Any] | None = None, task: Task = MASK18,
    **changed: Any,
) -> Run:  # fmt: skip
    """Write a finished run whose predictions are right for a share `skill` of the images; return it."""
    random, run = np.random.default_rng(seed), Run(path)
    run.create({"task": describe_task(task), **CONFIG, **changed} if task != MASK18 else {**CONFIG, **changed})
    run.write_table(table)
    run.add_provenance(**{"maskcls": "0.1", "begun": "2026-01-02T03:04:05", "command": ["run.py"], **(facts or {})})
    folds = range(int(table["fold"].max()) + 1)
    for k in folds:
        for epoch in range(1, 4):
            run.append_epoch({"fold": k, "epoch": epoch, "loss": 2 / epoch, "val_loss": 2.5 / epoch, "f1": skill * epoch / 3, "seconds": 1.5})
    val, evaluation = run.val_table, run.eval_table
    oof = predict(val, skill, random, task)
    oof.write(run.predictions_path("oof"), task, val)
    means = []
    for k in folds:
        part = predict(evaluation, skill, random, task)
        means.append(part.probs)
        FoldPredictions(oof.reorder(val.loc[val["fold"] == k, "id"].tolist()), part, 3, [3]).write(run.fold_predictions_path(k))
    mean = Predictions(evaluation["id"].to_numpy(str), np.mean(means, 0))
    if len(evaluation):
        mean.write(run.predictions_path("eval"), task, evaluation)
    finish(run, val, oof, evaluation, mean, task)
    return run


def predict(
    rows: pd.DataFrame, skill: float, random: np.random.Generator, task: Task = MASK18
) -> Predictions:
    """Return predictions that are right for a share of the rows."""
    labels, size = rows["label"].to_numpy(), task.num_classes
    wrong = random.random(len(rows)) > skill
    preds = np.where(wrong, random.integers(0, size, len(rows)), labels)
    probs = 0.1 / size + 0.9 * np.eye(size)[preds].reshape(-1, size)
    return Predictions(rows["id"].to_numpy(str), probs.astype(np.float32))


def finish(
    run: Run, val: pd.DataFrame, oof: Predictions, evaluation: pd.DataFrame, mean: Predictions, task: Task = MASK18
) -> None:
    """Write metrics.json."""
    numbers = {"photos": len(val), "people": val["person"].nunique()}
    scores = compute_scores(val["label"].to_numpy(), oof.probs, task) | numbers
    folds = [scores | {"fold": int(k), "epochs": 3} for k in sorted(set(val["fold"]))]
    eval_scores = None
    if len(evaluation):
        eval_scores = compute_scores(evaluation["label"].to_numpy(), mean.probs, task) | {"photos": len(evaluation)}
    metrics = {"folds": folds, "oof": scores, "eval": eval_scores, "people_on_both_sides": 0, "notes": []}
    run.metrics_path.write_text(json.dumps(metrics))
