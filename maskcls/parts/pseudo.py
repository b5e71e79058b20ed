"""Pseudo-labels: a finished run's confident guesses on evaluation photos, as further training rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.errors import DataError, RunError
from maskcls.labels import CLASSES, decode
from maskcls.registry import Count, Registry, Share
from maskcls.runfiles import read_probabilities

word = Registry("pseudo")
Note = Callable[[str], None]
SOFT = [f"soft{i}" for i in range(len(CLASSES))]  # what a row is trained towards, NaN where its label says that


def predicted(run: str) -> str:
    """Return the folder of a run that has predictions of evaluation photos."""
    if not os.path.isfile(Path(run) / "eval.csv"):
        raise ValueError(f"{run!r} is no folder of a finished run with evaluation photos (it has no eval.csv)")
    return run


@word
def none(table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """The table as it is."""
    return table


@word
def confident(
    table: pd.DataFrame, note: Note, *, run: Annotated[str, AfterValidator(predicted)], threshold: Share = 0.9,
    cap: Count | None = None, soft: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Append the evaluation photos whose largest probability is at least `threshold`, labelled with the run's guess.

    `cap` keeps that many photos of each guessed class, the most confident ones. With `soft` the columns soft0 …
    soft17 hold the run's probabilities for them (NaN in other rows) and are what is trained towards. They are rows of
    part `extra` with ids below `pseudo/`, of unknown age in years, and are never scored. RunError where the run
    predicted other photos than the table's evaluation part. Pseudo-labels are Lee 2013's; they come from all folds of
    that run, so they know a little of each fold's people.
    """
    evaluation = table[table["part"] == "eval"]
    given = guesses(Path(run), evaluation["id"])
    sure = given[given["confidence"] >= threshold].sort_values("confidence", ascending=False, kind="stable")
    sure = sure if cap is None else sure.groupby("guess").head(cap)
    picked = evaluation[evaluation["id"].isin(sure.index)]
    chosen = sure.loc[picked["id"]]
    note(told(Path(run).name, chosen["guess"], len(evaluation), threshold))
    extra = labelled(picked, chosen, soft)
    return pd.concat([table, extra], ignore_index=True) if len(extra) else table


def guesses(run: Path, wanted: pd.Series) -> pd.DataFrame:
    """Return guess, confidence and p0 … p17 by id of a run's evaluation photos, which must be the wanted ones."""
    columns = [f"p{i}" for i in range(len(CLASSES))]
    file = run / "eval.csv"
    given = read_probabilities(file, float).set_index("id")
    if alone := len(given.index.symmetric_difference(pd.Index(wanted))):
        raise RunError(f"pseudo.run: {file} is about other photos than this data's evaluation part ({alone} differ)")
    if not (given.index.is_unique and wanted.is_unique):
        raise DataError(f"pseudo.run: {file} or this data has evaluation photos of the same id")
    values = given[columns].to_numpy()
    return given.assign(guess=values.argmax(1), confidence=values.max(1))


def labelled(picked: pd.DataFrame, chosen: pd.DataFrame, soft: bool) -> pd.DataFrame:
    """Return evaluation rows as training rows with a run's guesses; of their ages only the class is known."""
    label = chosen["guess"].to_numpy(np.int64)
    mask, gender, _ = decode(label)
    extra = picked.assign(
        id="pseudo/" + picked["id"], mask=mask, gender=gender, age=np.nan, label=label, part="extra"
    )  # fmt: skip
    if soft:
        extra[SOFT] = chosen[[f"p{i}" for i in range(len(CLASSES))]].to_numpy(np.float32)
    return extra


def told(run: str, guess: pd.Series, photos: int, threshold: float) -> str:
    """Return the line on how many photos a run labelled, by class."""
    counts = np.bincount(guess.to_numpy(np.int64), minlength=len(CLASSES))
    each = ", ".join(f"{name} {count}" for name, count in zip(CLASSES, counts, strict=True) if count)
    what = f"pseudo: {len(guess)} of {photos} evaluation photos are trained on as {run} sees them, from {threshold} on"
    return what + (f": {each}" if each else "")
