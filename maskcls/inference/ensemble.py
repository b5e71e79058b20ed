"""Ensembles of trained models, and the out-of-fold scores of those that are finished runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from maskcls.components.blend import WITHOUT_OOF, Blend, weighted
from maskcls.core.errors import ConfigError, RunError, and_others
from maskcls.core.registry import Component
from maskcls.core.table import content_differs, count_split_people
from maskcls.core.task import FloatArray, Task
from maskcls.evaluation.metrics import compute_scores
from maskcls.reporting.score_table import print_class_scores, print_model_scores
from maskcls.reporting.summary import print_conclusions
from maskcls.storage.predictions import Predictions, mean_and_sd
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel, fold_index
from maskcls.system import console

SAME_FOLDS = "Blend runs of the same folds: runs of several seeds share them with split.seed=0"
NUM_VALUES = 5  # of an attribute in a message
MIN_WEIGHT = 0.005  # smaller ones are shown as 0
SCORING_COLUMNS = ["person", "label", "fold", "scored"]


def blend_models(blend: Component, models: Sequence[TrainedModel]) -> tuple[Blend, float | None]:
    """Return the ensemble of some models and its out-of-fold macro F1, None if a model is not a finished run."""
    check_same_task(models)
    partial = [model for model in models if not model.has_oof]
    if not partial:
        return blend_runs(blend, [model.run for model in models if model.run])
    if blend.builder not in WITHOUT_OOF:
        names = ", ".join(sorted(builder.__name__ for builder in WITHOUT_OOF))
        what = f"blend={blend.name} needs predictions out of fold, and {partial[0].name} has none ({partial[0].note})"
        raise ConfigError(f"{what}. Name finished runs, or set blend to one of {names}")
    for model in partial:
        console.info(f"{model.name}: {model.note}", "yellow")
    members = np.zeros((len(models), 0, models[0].task.num_classes), np.float32)
    return blend.build(members, np.zeros(0, np.int64), []), None


def blend_runs(blend: Component, runs: Sequence[Run]) -> tuple[Blend, float]:
    """Return the ensemble of some runs and its out-of-fold macro F1; print it with the scores of each run."""
    check_same_folds(runs)
    rows = runs[0].val_table
    labels, ids = rows["label"].to_numpy(np.int64), rows["id"].tolist()
    members = np.stack([run.predictions("oof").select(ids) for run in runs])
    ensemble: Blend = blend.build(members, labels, rows["person"].tolist())
    title = f"out of fold: {len(rows)} images of {rows['person'].nunique()} {runs[0].task.groups}"
    names = [run.path.name for run in runs]
    lines = score_rows(names, blend, members, ensemble.oof)
    print_model_scores(title, labels, lines, rows["person"].tolist(), runs[0].task)
    console.info(f"blend={blend.name}: {ensemble.validity_note}")
    print_conclusions(runs)
    if ensemble.weights is not None:
        console.info(describe_weights(names, ensemble.weights))
    if num_both := max(count_split_people(run.table) for run in runs):
        people = runs[0].task.groups
        message = f"LEAK: {num_both} {people} are in both training and validation. This is not a score on new {people}"
        console.info(message, "bold red")
    return ensemble, compute_scores(labels, ensemble.oof, runs[0].task)["f1"]


def member_weights(blend: Component, ensemble: Blend) -> Sequence[float] | None:
    """Return the weights of an ensemble's members, fitted or the user's; None if they are equal or there are none."""
    return blend.params["weights"] if blend.builder is weighted else ensemble.weights


def mix_numbers(members: Sequence[Predictions], weights: Sequence[float] | None) -> FloatArray | None:
    """Return expected number and standard deviation (N, 2) of the mixture of the members that predict a number.

    None if no member with a weight does.
    """
    shares = [1.0] * len(members) if weights is None else weights
    parts = [(one, share) for one, share in zip(members, shares, strict=True) if one.numbers is not None and share > 0]
    if not parts:
        return None
    moments = [one.columns[:, one.probs.shape[1] :] for one, _ in parts]
    return mean_and_sd(np.average(moments, axis=0, weights=[share for _, share in parts]))


def describe_weights(names: Sequence[str], weights: Sequence[float]) -> str:
    """Return the members with their weights, heaviest first, and those without one."""
    chosen = sorted((-weight, i) for i, weight in enumerate(weights) if weight >= MIN_WEIGHT)
    others = [name for name, weight in zip(names, weights, strict=True) if weight < MIN_WEIGHT]
    text = ", ".join(f"{-weight:.2f} × {names[i]}" for weight, i in chosen)
    return f"members: {text}" + (f"; not used: {', '.join(others)}" if others else "")


def check_same_task(models: Sequence[TrainedModel]) -> None:
    """Raise RunError if two models predict other classes, or have other borders of a number."""
    for model in models[1:]:
        if not model.task.has_classes_of(models[0].task):
            texts = [f"{one.name} predicts {describe_attributes(one.task)}" for one in (models[0], model)]
            raise RunError(f"{' and '.join(texts)}: only models of one task can be blended")


def describe_attributes(task: Task) -> str:
    """Return the attributes with their values in one phrase."""
    texts = []
    for name, values, borders in task.key:
        borders_text = f" by borders {', '.join(f'{border:g}' for border in borders)}" if borders else ""
        texts.append(f"{name} ({and_others(values, NUM_VALUES)}{borders_text})")
    return " × ".join(texts)


def check_same_folds(runs: Sequence[Run]) -> None:
    """Raise RunError if two runs have different validation rows, labels or folds."""
    first = runs[0].val_table.set_index("id").sort_index()
    for run in runs[1:]:
        other = run.val_table.set_index("id").sort_index()
        what = f"{runs[0].path} and {run.path} have different folds"
        if not first.index.equals(other.index):
            count = len(first.index.symmetric_difference(other.index))
            raise RunError(f"{what} ({count} images are in only one of them). {SAME_FOLDS}")
        differences = {name: (first[name] != other[name]).to_numpy() for name in SCORING_COLUMNS}
        differences["content"] = content_differs(first["content"], other["content"])
        if unequal := [name for name, mask in differences.items() if mask.any()]:
            count = int(np.any([differences[name] for name in unequal], axis=0).sum())
            raise RunError(f"{what} ({count} images differ in {', '.join(unequal)}). {SAME_FOLDS}")


def score_rows(
    names: Sequence[str], blend: Component, members: FloatArray, ensemble: FloatArray
) -> list[tuple[str, FloatArray]]:
    """Return name and probabilities of each model, and of the ensemble unless it equals the only model."""
    lines = list(zip(names, members, strict=True))
    return lines if len(names) == 1 and blend.name == "mean" else [*lines, (f"ensemble: {blend.name}", ensemble)]


def print_labelled_scores(
    part: str, table: pd.DataFrame, models: Sequence[TrainedModel], blend: Component, members: FloatArray,
    probs: FloatArray,
) -> None:  # fmt: skip
    """Print the scores of the images with labels, by model and class, and a warning if models were trained on them."""
    has_label = (table["label"] >= 0).to_numpy()
    if not has_label.any():
        return
    rows = table[has_label]
    lines = score_rows([model.name for model in models], blend, members[:, has_label], probs[has_label])
    labels, has_people = rows["label"].to_numpy(np.int64), bool((rows["person"] != rows["id"]).any())
    title, task = f"{part}: {len(rows)} images with labels", models[0].task
    print_model_scores(title, labels, lines, rows["person"].tolist() if has_people else None, task)
    print_class_scores(labels, probs[has_label], task)
    for model in models:
        if num_seen := int(rows["content"].isin(train_contents(model)).sum()):
            what = f"LEAK: {num_seen} of these {len(rows)} images are training images of {model.name}"
            console.info(f"{what}. This is not a score on new {task.groups}", "bold red")


def train_contents(model: TrainedModel) -> set[str]:
    """Return the digests of the images that a fold of a model was trained on, none if its run is unknown."""
    if model.run is None:
        return set()
    table, folds = model.run.table, {fold_index(file.parent) for file in model.files}
    is_val = table["fold"].isin(folds) & (len(folds) == 1)  # several folds have trained on each other's rows
    return set(table.loc[(table["part"] != "eval") & ~is_val, "content"]) - {""}
