"""Ensembles of finished runs and their out-of-fold scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskcls.components.blend import Blend
from maskcls.core.errors import RunError
from maskcls.core.registry import Component
from maskcls.core.table import content_differs, count_split_people
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.metrics import SCORES, compute_scores
from maskcls.storage.run import Run
from maskcls.system import console

SCORING_COLUMNS = ["person", "label", "fold", "scored"]
HEAD = ["", "macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1"]


def blend_runs(blend: Component, runs: Sequence[Run]) -> tuple[Blend, float]:
    """Return the ensemble of some runs and its out-of-fold macro F1; print it with the scores of each run."""
    check_same_folds(runs)
    rows = runs[0].val_table
    labels, ids = rows["label"].to_numpy(np.int64), rows["id"].tolist()
    members = np.stack([run.predictions("oof").select(ids) for run in runs])
    ensemble: Blend = blend.build(members, labels, rows["person"].tolist())
    title = f"out of fold: {len(rows)} images of {rows['person'].nunique()} people"
    print_scores(title, labels, score_rows(runs, blend, members, ensemble.oof))
    console.info(f"blend={blend.name}: {ensemble.validity_note}")
    if num_both := max(count_split_people(run.table) for run in runs):
        message = f"LEAK: {num_both} people are in both training and validation. This is not a score on new people"
        console.info(message, "bold red")
    return ensemble, compute_scores(labels, ensemble.oof)["f1"]


def check_same_folds(runs: Sequence[Run]) -> None:
    """Raise RunError if two runs have different validation rows, labels or folds."""
    first = runs[0].val_table.set_index("id").sort_index()
    for run in runs[1:]:
        other = run.val_table.set_index("id").sort_index()
        what = f"{runs[0].path} and {run.path} have different folds"
        if not first.index.equals(other.index):
            count = len(first.index.symmetric_difference(other.index))
            raise RunError(f"{what} ({count} images are in only one of them). Blend runs of the same folds")
        differences = {name: (first[name] != other[name]).to_numpy() for name in SCORING_COLUMNS}
        differences["content"] = content_differs(first["content"], other["content"])
        if unequal := [name for name, mask in differences.items() if mask.any()]:
            count = int(np.any([differences[name] for name in unequal], axis=0).sum())
            raise RunError(f"{what} ({count} images differ in {', '.join(unequal)}). Blend runs of the same folds")


def score_rows(
    runs: Sequence[Run], blend: Component, members: FloatArray, ensemble: FloatArray
) -> list[tuple[str, FloatArray]]:
    """Return name and probabilities of each run, and of the ensemble unless it equals the only run."""
    lines = [(run.path.name, probs) for run, probs in zip(runs, members, strict=True)]
    return lines if len(runs) == 1 and blend.name == "mean" else [*lines, (f"ensemble: {blend.name}", ensemble)]


def print_scores(title: str, labels: IntArray, lines: Sequence[tuple[str, FloatArray]]) -> None:
    """Print the scores of several models on the same images."""
    results = [(name, compute_scores(labels, probs)) for name, probs in lines]
    console.print_table(title, HEAD, [[name, *[result[key] for key in SCORES]] for name, result in results])
