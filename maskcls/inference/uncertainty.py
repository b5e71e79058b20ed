"""Temperatures and prediction sets for new photos, from what finished runs predicted out of fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from maskcls.core.errors import ConfigError
from maskcls.core.table import content_differs, num_folds
from maskcls.core.task import FloatArray, Task
from maskcls.evaluation.conformal import ConformalSets, PersonScores
from maskcls.evaluation.stacking import decide
from maskcls.evaluation.temperature import (
    SINGLE_TEMPERATURES,
    Axes,
    Temperatures,
    fit_mean_temperatures,
    fit_temperatures,
    joint_axes,
)
from maskcls.inference.run_components import restore_component
from maskcls.reporting.summary import leak_notes
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel
from maskcls.system import console

Combine = Callable[[FloatArray], FloatArray]  # probabilities of members (M, N, C) → (N, C)


def finished_runs(models: Sequence[TrainedModel], option: str) -> list[Run]:
    """Return the runs of some models; ConfigError, naming the option, for one without predictions out of fold."""
    for model in models:
        if model.run is None or not model.has_oof:
            what = f"{option} needs predictions out of fold, and {model.name} has none ({model.note})"
            raise ConfigError(f"{what}. Name a finished run")
    return [model.run for model in models if model.run]


def warn_of_leaks(runs: Sequence[Run], option: str) -> None:
    """Print for each run whose scores out of fold are, or may be, too high that what is made from them is too sure."""
    for run in runs:
        for note in leak_notes(run.metrics() or {}, run.task):
            what = f"{option} of {run.id} comes from these scores, too sure of new {run.task.groups}"
            console.info(f"{note}; {what}", "bold red")


def fit_calibration(
    models: Sequence[TrainedModel], option: str, oof: FloatArray | None = None, combine: Combine | None = None
) -> Temperatures:
    """Return the temperatures for new photos of one model, or of several with an ensemble's out-of-fold rows (N, C).

    The heads are those of the models, or one of all classes if they differ. Without an evaluation set, of which no
    label is used, or if it was trained on, the temperatures are those of single folds.
    """
    runs = finished_runs(models, option)
    warn_of_leaks(runs, option)
    rows, join = runs[0].val_table, combine or (lambda members: members[0])
    labels, ids = rows["label"].to_numpy(np.int64), rows["id"].tolist()
    probs = runs[0].predictions("oof").select(ids) if oof is None else oof
    axes, folds, task = common_axes(models), predict_eval_folds(runs, join), models[0].task
    if folds is None:
        found = fit_temperatures(probs, labels, axes, task)
    else:
        images = runs[0].eval_table["id"].tolist()
        mean = join(np.stack([decided_eval(run, None, images) for run in runs]))
        found = fit_mean_temperatures(probs, labels, axes, folds, mean, task)
    values = ", ".join(f"{name} {value:.2f}" for name, value in found.to_dict().items())
    people = f"{rows['person'].nunique()} {task.groups}"
    console.info(f"{option}: temperatures {values}, from {len(rows)} images of {people}")
    if any(restore_component(model, "head").build().num_columns > task.num_classes for model in models):
        console.info(f"{option}: {describe_numbers(task)}")
    return found


def describe_numbers(task: Task) -> str:
    """Return what a calibration changes of the number that an attribute is made of, for a message."""
    name = task.number.name if task.number else "number"
    unit = f" in {task.number.unit}" if task.number and task.number.unit else ""
    return f"expected {name}s{unit} stay as they are; the probabilities of {name} classes change"


def common_axes(models: Sequence[TrainedModel]) -> Axes:
    """Return the axes of the models' heads, those of one head of all classes if they differ."""
    heads = {restore_component(model, "head").build().axes for model in models}
    return heads.pop() if len(heads) == 1 else joint_axes(models[0].task)


def predict_eval_folds(runs: Sequence[Run], join: Combine) -> FloatArray | None:
    """Return the combined predictions of each fold for the evaluation set, (K, M, C); None with one fold, without an
    evaluation set that the runs share, or if a run was trained on it."""
    count, first = num_folds(runs[0].table), runs[0].eval_table
    if count == 1:
        return None
    if first.empty or not all(has_same_eval(runs[0], run) for run in runs[1:]):
        what = "no evaluation set that the runs share" if len(runs) > 1 else f"{runs[0].id} has no evaluation set"
        console.info(f"{what}: {SINGLE_TEMPERATURES}", "yellow")
        return None
    if trained := [run.id for run in runs if run.trained_on_eval]:
        console.info(f"{trained[0]} trained on its evaluation images: {SINGLE_TEMPERATURES}", "yellow")
        return None
    images = first["id"].tolist()
    return np.stack([join(np.stack([decided_eval(run, k, images) for run in runs])) for k in range(count)])


def has_same_eval(run: Run, other: Run) -> bool:
    """Return True if two runs have the same evaluation images."""
    first, second = (one.eval_table.set_index("id")["content"] for one in (run, other))
    return set(first.index) == set(second.index) and not content_differs(first, second.reindex(first.index)).any()


def decided_eval(run: Run, k: int | None, ids: Sequence[str]) -> FloatArray:
    """Return the predictions (M, C) of fold k, or of the mean of the folds, for evaluation images, with the bias."""
    return run.predictions("eval").select(ids) if k is None else decide(
        run.fold_predictions(k).eval.select(ids), run.bias
    )  # fmt: skip


def build_sets(model: TrainedModel) -> ConformalSets:
    """Return the prediction sets of a finished run, from its folds' predictions without a decision."""
    (run,) = runs = finished_runs([model], "sets")
    warn_of_leaks(runs, "sets")
    table, folds = run.table.set_index("id"), []
    for k in range(num_folds(run.table)):
        val = run.fold_predictions(k).val
        rows = table.loc[val.ids.tolist()]
        folds.append(PersonScores.of(val.probs, rows["label"].to_numpy(np.int64), rows["person"].tolist()))
    return ConformalSets(tuple(folds))
