"""Pseudo-labels: predictions of finished runs on the evaluation set, as additional training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator

from maskcls.core.errors import DataError, RunError, join_words
from maskcls.core.registry import Registry
from maskcls.core.schema import PositiveInt, Proportion
from maskcls.core.table import FOLD_LABEL, FOLD_SOFT, NOT_TRAINED, OWN_LABEL, Note, num_folds
from maskcls.core.task import Task
from maskcls.storage.predictions import prob_columns
from maskcls.storage.run import Run, check_has_eval

registry = Registry("pseudo")


@registry.register
def none(table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """Return the table as it is."""
    return table


@registry.register
def confident(
    table: pd.DataFrame,
    note: Note,
    task: Task,
    *,
    run: Annotated[str, AfterValidator(check_has_eval)],
    threshold: Proportion = 0.9,
    cap: PositiveInt | None = None,
    soft: bool = False,
) -> pd.DataFrame:
    """Append the evaluation images with a probability of at least `threshold`, labelled with the predicted class.

    Fold k trains on the predictions of fold k of that run, without its decision, so that validation people never
    influence the labels; the run must have the same folds. The rows have part `extra`, ids below `pseudo/` and no age
    in years, and are never scored; columns `pseudo0`, … hold the label of each fold. RunError if the run predicted
    other images than the table's evaluation set. Method: Lee 2013.

    Args:
        run: finished run whose predictions of the evaluation set become labels
        threshold: lowest probability of the predicted class
        cap: images per predicted class, the most confident ones; null: all
        soft: train on the probabilities instead of the predicted class
    """
    evaluation = table[table["part"] == "eval"]
    source = Run(Path(run))
    folds = check_same_eval(source, evaluation, note, "pseudo.run", task)
    predictions = [read_eval_predictions(source, k, evaluation) for k in range(folds)]
    confident = [select_confident(preds, threshold, cap) for preds in predictions]
    note(describe_pseudo_labels(source.id, confident, len(evaluation), threshold, task))
    selected = evaluation[evaluation["id"].isin(set().union(*(preds.index for preds in confident)))]
    if selected.empty:
        return table
    return append_rows(table, to_training_rows(selected, confident, soft, task))


def check_teachers(runs: list[str]) -> list[str]:
    """Return the folders of finished runs with an evaluation set; ValueError for none, and for any other folder."""
    if not runs:
        raise ValueError("expected at least one run, got none. Set pseudo.runs='[runs/a-1234]'")
    places = [Path(run).resolve() for run in runs]
    for i, place in enumerate(places):
        if (first := places.index(place)) < i:
            other = f", first as {runs[first]!r}" if runs[first] != runs[i] else ""
            raise ValueError(f"{runs[i]!r} is given twice{other}")
    return [check_has_eval(run) for run in runs]


@registry.register
def distil(
    table: pd.DataFrame,
    note: Note,
    task: Task,
    *,
    runs: Annotated[list[str], AfterValidator(check_teachers)],
    teachers: Literal["fold", "all"] = "fold",
) -> pd.DataFrame:
    """Append all evaluation images with the mean probabilities of several models, the teachers, as targets.

    One network learns what an ensemble predicts (Hinton et al. 2015), at the cost of one. Fold k learns from fold k of
    each run, which has not seen the people that fold k is scored on; the runs must have the same folds. Training images
    keep their labels: out of fold, their predictions come from networks that have seen the people of fold k. With
    `teachers=all`, the mean over all folds teaches: then only scores of people of no fold hold, and a note says so.
    The rows are like those of pseudo=confident, and RunError is raised for the same reasons.

    Args:
        runs: finished runs that teach, with the folds of this run
        teachers: fold: fold k learns from fold k of each run; all: from all folds, so out-of-fold scores are too high
    """
    evaluation = table[table["part"] == "eval"]
    if evaluation.empty:
        raise DataError("pseudo=distil needs an evaluation set, and the data has none. Set eval_fraction=0.2")
    sources = [Run(Path(run)) for run in runs]
    counts = [check_same_eval(source, evaluation, note, f"pseudo.runs[{i}]", task) for i, source in enumerate(sources)]
    if len(set(counts)) > 1:
        numbers = ", ".join(f"{source.path} {count}" for source, count in zip(sources, counts, strict=True))
        raise RunError(f"pseudo.runs have different numbers of folds: {numbers}")
    folds, columns = range(counts[0]), prob_columns(task.num_classes)
    by_fold = [[read_eval_predictions(source, k, evaluation)[columns] for source in sources] for k in folds]
    if teachers == "all":
        by_fold = [[frame for frames in by_fold for frame in frames] for _ in folds]
        what = "the teachers of a fold have seen its validation people, so out-of-fold scores are too high"
        note(f"LEAK: pseudo=distil pseudo.teachers=all: {what}; scores of the evaluation set hold")
    note(f"pseudo=distil: each fold learns {len(evaluation)} evaluation images from {len(by_fold[0])} networks")
    return append_rows(table, to_training_rows(evaluation, [mean_teacher(frames) for frames in by_fold], True, task))


def mean_teacher(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean of tables of class probabilities with the same index, with its class and confidence."""
    mean = pd.DataFrame(np.mean([frame.to_numpy() for frame in frames], axis=0), frames[0].index, frames[0].columns)
    return mean.assign(pred=mean.to_numpy().argmax(1), confidence=mean.max(axis=1))


def append_rows(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a table with pseudo-labelled rows; its own rows keep their labels in each fold."""
    grown = pd.concat([table, rows], ignore_index=True)
    columns = [column for column in rows.columns.difference(table.columns) if not column.startswith("soft")]
    return grown.assign(**{column: grown[column].fillna(OWN_LABEL).astype("int64") for column in columns})


def check_same_eval(run: Run, evaluation: pd.DataFrame, note: Note, key: str, task: Task) -> int:
    """Return the number of folds of a run; RunError if it predicted other classes, or other evaluation images.

    Images are compared by id and content. `key` of the config has the run, for messages.
    """
    if not run.task.has_classes_of(task):
        what = f"{key}: {run.path} predicts other classes, of {join_words(run.task.names)}"
        raise RunError(f"{what}. Set {key} to a run of this task")
    folds, run_eval = num_folds(run.table), run.eval_table.set_index("id")
    paths = [run.fold_predictions_path(k) for k in range(folds)]
    if missing := [path for path in paths if not path.is_file()]:
        raise RunError(f"{key}: {missing[0]} is missing. Set {key} to a finished run with all of its folds")
    data_eval = evaluation.set_index("id")
    if num_other := len(run_eval.index.symmetric_difference(data_eval.index)):
        raise RunError(f"{key}: the evaluation set of {run.path} differs from this data's in {num_other} images")
    if not data_eval.index.is_unique:
        repeated = data_eval.index[data_eval.index.duplicated()][0]
        raise DataError(f"{key}: id {repeated!r} occurs more than once in the evaluation set. Remove one")
    if not run_eval["content"].any():
        note(f"pseudo: {run.id} was written by an older version, so its evaluation images are compared by name only")
    elif changed := int((run_eval["content"] != data_eval["content"].reindex(run_eval.index)).sum()):
        message = f"{key}: {changed} evaluation images changed since {run.path} predicted them"
        raise RunError(f"{message}. Train that run again under another name")
    return folds


def read_eval_predictions(run: Run, k: int, evaluation: pd.DataFrame) -> pd.DataFrame:
    """Return pred, confidence and p0 … p(C−1) by id of the evaluation set, as predicted by one fold of a run."""
    probs = run.fold_predictions(k).eval.select(evaluation["id"].tolist())
    table = pd.DataFrame(probs, index=evaluation["id"], columns=prob_columns(probs.shape[1]))
    return table.assign(pred=probs.argmax(1), confidence=probs.max(1))


def select_confident(preds: pd.DataFrame, threshold: float, cap: int | None) -> pd.DataFrame:
    """Return the predictions above a threshold, most confident first, at most `cap` per class."""
    selected = preds[preds["confidence"] >= threshold].sort_values("confidence", ascending=False, kind="stable")
    return selected if cap is None else selected.groupby("pred").head(cap)


def to_training_rows(rows: pd.DataFrame, confident: list[pd.DataFrame], soft: bool, task: Task) -> pd.DataFrame:
    """Return evaluation rows as training rows with the label of each fold and without numbers, such as an age.

    The attributes and the label are those of the first fold that has a confident prediction.
    """
    ids = rows["id"]
    columns = {FOLD_LABEL.format(k): preds["pred"].reindex(ids).fillna(NOT_TRAINED).to_numpy(np.int64)
               for k, preds in enumerate(confident)}  # fmt: skip
    labels = np.stack(list(columns.values()))  # (folds, N)
    label = labels[(labels >= 0).argmax(0), np.arange(len(rows))]
    values = {attribute.source: np.nan if attribute.is_number else index
              for attribute, index in zip(task, task.decode(label), strict=True)}  # fmt: skip
    extra = rows.assign(id="pseudo/" + ids, label=label, part="extra", **values, **columns)
    if soft:
        probs = [preds[prob_columns(task.num_classes)].reindex(ids).to_numpy(np.float32) for preds in confident]
        names = [FOLD_SOFT.format(k, i) for k in range(len(confident)) for i in range(task.num_classes)]
        soft_labels = pd.DataFrame(np.concatenate(probs, axis=1), extra.index, names)
        extra = pd.concat([extra, soft_labels], axis=1)  # at once: pandas warns of a table made column by column
    return extra


def describe_pseudo_labels(
    run: str, confident: list[pd.DataFrame], num_images: int, threshold: float, task: Task
) -> str:
    """Return a note with the number of pseudo-labels per fold and per class."""
    counts = [len(preds) for preds in confident]
    span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    summary = (f"pseudo: each fold trains on {span} of {num_images} evaluation images, labelled by the same fold of "
               f"{run}, probability ≥ {threshold}")  # fmt: skip
    totals = np.bincount(np.concatenate([preds["pred"] for preds in confident]), minlength=task.num_classes)
    by_class = ", ".join(f"{name} {count}" for name, count in zip(task.classes, totals, strict=True) if count)
    return summary + (f"; over all folds: {by_class}" if by_class else "")
