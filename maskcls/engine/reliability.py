"""Calibration, prediction sets and groups of people in the closing metrics of a run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.table import GROUP_PREFIX, eval_indices, group_columns
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.evaluation.calibration import compare_calibration, reliability
from maskcls.evaluation.conformal import (
    DEFAULT_COVERAGE,
    ConformalSets,
    PersonScores,
    choose_classes,
    leave_one_out_p_values,
)
from maskcls.evaluation.fairness import group_scores
from maskcls.evaluation.intervals import mean_interval
from maskcls.evaluation.stacking import Doubles, decide
from maskcls.evaluation.temperature import (
    Axes,
    cross_fit_temperatures,
    fit_mean_temperatures,
    fit_temperatures,
)

Covered = npt.NDArray[np.bool_]  # (N,): True where a prediction set has the class


def measure_reliability(
    table: pd.DataFrame, rows: pd.DataFrame, plain: FloatArray, probs: FloatArray, evaluation: npt.NDArray[Any],
    bias: Doubles | None, axes: Axes, task: Task, has_trained_eval: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return the closing metrics `calibration` (None with one person), `sets` and `groups`.

    `rows` of the table are predicted out of fold, with probabilities `plain` and, after the run's decision, `probs`
    (N, C); `evaluation` (folds, M, C or more) are the folds' predictions of the evaluation rows, before it.
    `has_trained_eval`: the folds were trained on evaluation rows, as with pseudo-labels.
    """
    folds = evaluation[..., : task.num_classes].astype(np.float32)
    sets, covered = measure_sets(table, rows, plain, folds, probs.argmax(1), decide(folds.mean(0), bias).argmax(1))
    columns = {name.removeprefix(GROUP_PREFIX): rows[name].tolist() for name in group_columns(rows)}
    persons = rows["person"].tolist()
    groups = group_scores(rows["label"].to_numpy(), probs, covered, persons, columns, task)
    calibration = None
    if len(set(persons)) > 1:
        calibration = measure_calibration(table, rows, probs, folds, bias, axes, task, has_trained_eval)
    return {"calibration": calibration, "sets": sets, "groups": groups}


def labelled_eval(table: pd.DataFrame) -> tuple[Covered, IntArray, list[str]]:
    """Return which evaluation rows have labels, (M,), and the labels and people of those."""
    rows = table.iloc[eval_indices(table)]
    has_label = rows["scored"].to_numpy(bool)
    return has_label, rows["label"].to_numpy()[has_label], rows["person"][has_label].tolist()


def measure_calibration(
    table: pd.DataFrame, rows: pd.DataFrame, probs: FloatArray, folds: FloatArray, bias: Doubles | None, axes: Axes,
    task: Task, has_trained_eval: bool,
) -> dict[str, Any]:  # fmt: skip
    """Return temperatures, and log loss and calibration error before and after, with intervals over people.

    Out of fold, temperatures are cross-fitted by person; the evaluation set is calibrated as new photos are. The folds
    agree on images that they were trained on, which so do not tell how the mean of the folds differs from one.
    """
    labels, persons = rows["label"].to_numpy(), rows["person"].tolist()
    after = cross_fit_temperatures(probs, labels, persons, axes, task)
    decided, mean = decide(folds, bias), decide(folds.mean(0), bias)
    single = fit_temperatures(probs, labels, axes, task)
    has_new = len(folds) > 1 and folds.shape[1] > 0 and not has_trained_eval
    new = fit_mean_temperatures(probs, labels, axes, decided, mean, task) if has_new else single
    has_label, truth, people = labelled_eval(table)
    return {
        "temperatures": single.to_dict(), "mean_temperatures": new.to_dict(),
        "oof": compare_calibration(labels, probs, after, persons, task),
        "eval": compare_calibration(truth, mean[has_label], new.apply(mean[has_label]), people, task)
        if len(truth) else None,
        "bins": {"before": reliability(labels, probs, persons), "after": reliability(labels, after, persons)},
    }  # fmt: skip


def measure_sets(
    table: pd.DataFrame, rows: pd.DataFrame, plain: FloatArray, folds: FloatArray, preds: IntArray, eval_preds: IntArray
) -> tuple[dict[str, Any], Covered]:
    """Return coverage and size of the prediction sets, and which out-of-fold rows (N,) the sets cover.

    A row's set is made from the scores of the other people of its fold, an evaluation row's from all people. The
    predicted classes, `preds` (N,) and `eval_preds` (M,), are always in their sets.
    """
    labels, persons = rows["label"].to_numpy(), rows["person"].to_numpy(object)
    covered, sizes, scores = np.zeros(len(rows), bool), np.zeros(len(rows)), []
    for k in range(len(folds)):
        inside = (rows["fold"] == k).to_numpy()
        part = plain[inside], labels[inside], persons[inside].tolist()
        scores.append(PersonScores.of(*part))
        sets = choose_classes(leave_one_out_p_values(*part), DEFAULT_COVERAGE, preds[inside])
        covered[inside] = sets[np.arange(len(sets)), part[1]]
        sizes[inside] = sets.sum(1)
    has_label, truth, people = labelled_eval(table)
    result = {"coverage": DEFAULT_COVERAGE, "oof": describe_sets(covered, sizes, persons.tolist()), "eval": None}
    if len(truth):
        sets = ConformalSets(tuple(scores)).predict(folds[:, has_label], DEFAULT_COVERAGE, eval_preds[has_label])
        result["eval"] = describe_sets(sets[np.arange(len(truth)), truth], sets.sum(1), people)
    return result, covered


def describe_sets(covered: Covered, sizes: npt.NDArray[Any], person_ids: list[str]) -> dict[str, Any]:
    """Return the share of images whose set has their class, with its interval over people, and the mean set size."""
    interval = mean_interval(covered.astype(float), person_ids)
    return {
        "covered": float(covered.mean()), "covered_interval": interval and [interval[0], min(interval[1], 1.0)],
        "size": float(sizes.mean()), "photos": len(covered),
    }  # fmt: skip
