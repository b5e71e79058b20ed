"""The evaluation set of a prediction, and stored predictions for it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from maskcls.core.errors import DataError, RunError
from maskcls.core.registry import Component
from maskcls.core.table import content_differs
from maskcls.data.run_photos import image_paths
from maskcls.inference.run_components import restore_component
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel
from maskcls.system import console
from maskcls.system.file_digests import file_digests


def load_evaluation(data: Component, cache: Path) -> pd.DataFrame:
    """Return the evaluation rows of the data, in info.csv's order, with the digests of their files (`content`)."""
    table: pd.DataFrame = data.build(console.info)
    rows = table[table["part"] == "eval"].reset_index(drop=True)
    return rows.assign(content=file_digests(list(rows["path"]), cache))


def check_run(model: TrainedModel) -> Run:
    """Return the run of a model; DataError for a checkpoint outside a run directory, which has no images."""
    if model.run is None:
        what = f"{model.path} is outside a run directory, so its evaluation set is unknown"
        raise DataError(f"{what}. Set photos=<folder> or data=<source>")
    return model.run


def current_evaluation(run: Run, cache: Path) -> pd.DataFrame:
    """Return a run's evaluation rows as its images are now, or as stored, with a note, if they cannot be read."""
    table = run.eval_table
    if table.empty:
        return table
    try:
        return load_own_evaluation(run, cache)
    except (DataError, RunError):
        console.info(f"{run.path.name}: evaluation images not found; cannot check that they are unchanged", "yellow")
        return table


def load_own_evaluation(run: Run, cache: Path) -> pd.DataFrame:
    """Return a run's evaluation rows with the current path and content of their images.

    The run may be untrusted: its config.yaml determines what is read, and messages quote nothing of it.
    """
    paths, table = image_paths(run), run.eval_table
    if num_missing := int((~table["id"].isin(paths.index)).sum()):
        what = f"{run.path}: {num_missing} of its {len(table)} evaluation images are not where its config.yaml says"
        raise RunError(f"{what}. Set data=<source> and the source's root or file")
    table["path"] = paths[table["id"]].to_numpy()
    current = pd.Series(file_digests(list(table["path"]), cache), dtype=str)
    if num_changed := int(content_differs(table["content"], current).sum()):
        console.info(f"{run.path.name}: {num_changed} evaluation images changed since training", "yellow")
    return table.assign(content=current)


def stored_predictions(
    model: TrainedModel, table: pd.DataFrame, precision: str | None, tta: Component | None
) -> Predictions | None:
    """Return the predictions that a finished run has stored for these images, None if they must be computed.

    Images are the same if their ids and contents are.
    """
    run = model.run
    if run is None or not model.has_oof:
        return None
    if tta not in (None, restore_component(run, "tta")) or precision not in (None, run.config["precision"]):
        return None
    if not run.predictions_path("eval").is_file() or not is_same_images(table, run.eval_table):
        return None
    return run.predictions("eval").reorder(table["id"].tolist())


def is_same_images(table: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Return True if two tables have the same ids with the same contents."""
    first, second = (dict(zip(rows["id"], rows["content"], strict=True)) for rows in (table, other))
    return first == second
