"""Pseudo-labels: a finished run's confident guesses on evaluation photos, as further training rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.core.errors import DataError, RunError
from maskcls.core.registry import Registry
from maskcls.core.schema import PositiveInt, Proportion
from maskcls.core.table import FOLD_LABEL, FOLD_SOFT, OUT, OWN, num_folds
from maskcls.core.task import CLASSES, decode
from maskcls.storage.predictions import PROB_COLUMNS
from maskcls.storage.run import Run, check_has_eval

registry = Registry("pseudo")
Note = Callable[[str], None]


@registry.register
def none(table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """The table as it is."""
    return table


@registry.register
def confident(
    table: pd.DataFrame,
    note: Note,
    *,
    run: Annotated[str, AfterValidator(check_has_eval)],
    threshold: Proportion = 0.9,
    cap: PositiveInt | None = None,
    soft: bool = False,
) -> pd.DataFrame:
    """Append the evaluation photos whose largest probability is at least `threshold`, labelled with the run's guess.

    Fold k trains on what fold k of that run is sure of, so that nobody whom it is scored on has had a part in its
    labels; the run must have the same folds. `cap` keeps that many photos of each guessed class, the most confident
    ones. With `soft` its probabilities are what is trained towards. The rows are of part `extra` with ids below
    `pseudo/`, of unknown age in years, and are never scored; columns `pseudo0`, … hold each fold's label. RunError
    where the run predicted other photos than the table's evaluation part. Pseudo-labels are Lee 2013's.
    """
    evaluation = table[table["part"] == "eval"]
    source = Run(Path(run))
    folds = check_same_eval(source, evaluation, note)
    given = [confident_predictions(source, k, evaluation) for k in range(folds)]
    sure = [choose(one, threshold, cap) for one in given]
    note(describe_pseudo_labels(source.id, sure, len(evaluation), threshold))
    union = set().union(*(one.index for one in sure))
    picked = evaluation[evaluation["id"].isin(union)]
    if picked.empty:
        return table
    whole = pd.concat([table, to_training_rows(picked, sure, soft)], ignore_index=True)
    numbers = [FOLD_LABEL.format(k) for k in range(len(sure))]
    return whole.assign(**{name: whole[name].fillna(OWN).astype("int64") for name in numbers})


def check_same_eval(run: Run, evaluation: pd.DataFrame, note: Note) -> int:
    """Return the number of folds of a run; RunError if it predicted other evaluation images, by id and content."""
    folds, theirs = num_folds(run.table), run.eval_table.set_index("id")
    files = [run.fold_predictions_path(k) for k in range(folds)]
    if lost := [file for file in files if not file.is_file()]:
        what = f"pseudo.run: {run.path} has no predictions of each of its folds ({lost[0]} is missing)"
        raise RunError(f"{what}. Set pseudo.run to a finished run: a blend has seen everybody who is scored")
    mine = evaluation.set_index("id")
    if alone := len(theirs.index.symmetric_difference(mine.index)):
        what = f"pseudo.run: {run.path} is about other photos than this data's evaluation part"
        raise RunError(f"{what} ({alone} differ)")
    if not mine.index.is_unique:
        raise DataError("pseudo.run: this data has evaluation photos of the same id")
    if not theirs["content"].any():
        note(f"pseudo: {run.id} is of an older version, which knew its evaluation photos by their names alone")
    elif changed := int((theirs["content"] != mine["content"].reindex(theirs.index)).sum()):
        what = f"pseudo.run: {changed} evaluation photos hold something else than when {run.path} predicted them"
        raise RunError(f"{what}. Run that run again under another name, over the data of today")
    return folds


def confident_predictions(run: Run, k: int, evaluation: pd.DataFrame) -> pd.DataFrame:
    """Return guess, confidence and p0 … p17 by id of the evaluation photos, as one fold of a run predicted them."""
    probs = run.fold_predictions(k).eval.select(evaluation["id"].tolist())
    table = pd.DataFrame(probs, index=evaluation["id"], columns=PROB_COLUMNS)
    return table.assign(guess=probs.argmax(1), confidence=probs.max(1))


def choose(given: pd.DataFrame, threshold: float, cap: int | None) -> pd.DataFrame:
    """Return the guesses that are sure enough, the surest first, at most `cap` of each class."""
    sure = given[given["confidence"] >= threshold].sort_values("confidence", ascending=False, kind="stable")
    return sure if cap is None else sure.groupby("guess").head(cap)


def to_training_rows(picked: pd.DataFrame, sure: list[pd.DataFrame], soft: bool) -> pd.DataFrame:
    """Return evaluation rows as training rows with each fold's guesses; of their ages only the class is known.

    Their columns mask, gender and label are those of the first fold that is sure of a photo.
    """
    columns = {FOLD_LABEL.format(k): one["guess"].reindex(picked["id"]).fillna(OUT).to_numpy(np.int64)
               for k, one in enumerate(sure)}  # fmt: skip
    table = np.stack(list(columns.values()))  # (folds, N)
    label = table[(table >= 0).argmax(0), np.arange(len(picked))]
    mask, gender, _ = decode(label)
    extra = picked.assign(
        id="pseudo/" + picked["id"], mask=mask, gender=gender, age=np.nan, label=label, part="extra", **columns
    )
    if soft:
        probs = [one[PROB_COLUMNS].reindex(picked["id"]).to_numpy(np.float32) for one in sure]
        names = [FOLD_SOFT.format(k, i) for k in range(len(sure)) for i in range(len(CLASSES))]
        extra[names] = np.concatenate(probs, axis=1)
    return extra


def describe_pseudo_labels(run: str, sure: list[pd.DataFrame], photos: int, threshold: float) -> str:
    """Return the line on how many photos a run labelled, by class."""
    counts = [len(one) for one in sure]
    some = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    what = (f"pseudo: each fold trains on {some} of {photos} evaluation photos, as the same fold of {run} sees them, "
            f"from {threshold} on")  # fmt: skip
    classes = np.bincount(np.concatenate([one["guess"] for one in sure]), minlength=len(CLASSES))
    each = ", ".join(f"{name} {count}" for name, count in zip(CLASSES, classes, strict=True) if count)
    return what + (f"; of all folds: {each}" if each else "")
