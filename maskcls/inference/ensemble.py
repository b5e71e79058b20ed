"""Finished runs, blended: their out-of-fold score, the submission, and the classes of any photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskcls.components.blend import Blend
from maskcls.core.errors import RunError
from maskcls.core.registry import Component
from maskcls.core.table import content_differs, count_split_people
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.metrics import compute_scores
from maskcls.storage.run import Run
from maskcls.system import console

RULER = ["person", "label", "fold", "scored"]
SCORES = ("f1", "accuracy", "mask_f1", "gender_f1", "age_f1")
HEAD = ["", "macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1"]


def blend_runs(word: Component, runs: Sequence[Run]) -> tuple[Blend, float]:
    """Return the ensemble of some runs and its out-of-fold macro F1, printed beside its members'."""
    check_same_folds(runs)
    ruler = runs[0].val_table
    truth, ids = ruler["label"].to_numpy(np.int64), ruler["id"].tolist()
    members = np.stack([run.predictions("oof").select(ids) for run in runs])
    ensemble: Blend = word.build(members, truth, ruler["person"].tolist())
    title = f"out of fold: {len(ruler)} photos of {ruler['person'].nunique()} people"
    print_scores(title, truth, score_rows(runs, word, members, ensemble.oof))
    console.info(f"blend={word.name}: {ensemble.validity_note}")
    if both := max(count_split_people(run.table) for run in runs):
        console.info(f"LEAK: {both} people stand on both sides of a fold: no score on new people", "bold red")
    return ensemble, compute_scores(truth, ensemble.oof)["f1"]


def check_same_folds(runs: Sequence[Run]) -> None:
    """Raise a RunError where two runs were scored on different rows, labels or folds."""
    first = runs[0].val_table.set_index("id").sort_index()
    for run in runs[1:]:
        other = run.val_table.set_index("id").sort_index()
        where = f"{runs[0].path} and {run.path} have different fold tables"
        if not first.index.equals(other.index):
            alone = len(first.index.symmetric_difference(other.index))
            raise RunError(f"{where} ({alone} scored photos stand in one of them only): they cannot be blended")
        apart = {name: (first[name] != other[name]).to_numpy() for name in RULER}
        apart["content"] = content_differs(first["content"], other["content"])
        if unequal := [name for name, rows_ in apart.items() if rows_.any()]:
            count = int(np.any([apart[name] for name in unequal], axis=0).sum())
            raise RunError(f"{where} ({count} photos differ in {', '.join(unequal)}): they cannot be blended")


def score_rows(
    runs: Sequence[Run], word: Component, members: FloatArray, whole: FloatArray
) -> list[tuple[str, FloatArray]]:
    """Return the lines of a table of scores: each run, and the ensemble where it is more than one run as it is."""
    lines = [(run.path.name, probs) for run, probs in zip(runs, members, strict=True)]
    return lines if len(runs) == 1 and word.name == "mean" else [*lines, (f"ensemble: {word.name}", whole)]


def print_scores(title: str, truth: IntArray, lines: Sequence[tuple[str, FloatArray]]) -> None:
    """Print the scores of several tables of probabilities on the same photos."""
    results = [(name, compute_scores(truth, probs)) for name, probs in lines]
    console.print_table(title, HEAD, [[name, *[result[key] for key in SCORES]] for name, result in results])
