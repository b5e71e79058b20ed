"""Labels, out-of-fold predictions and image paths of runs, for an audit of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from maskcls.core.errors import ConfigError, RunError
from maskcls.core.table import Note, content_differs, count_split_people
from maskcls.core.task import decode
from maskcls.inference.evaluation_set import image_paths
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system.safe_reading import read_csv, wrap_read_errors


def read_audited(runs: Sequence[Run], with_eval: bool, note: Note) -> tuple[pd.DataFrame, Predictions]:
    """Return rows with labels, ages and paths, and predictions of networks that did not train on them.

    These are the validation rows with their out-of-fold prediction and, on request, the labelled evaluation rows with
    the mean of the folds; of several runs the mean. Added columns: mask, gender, age (years or NaN) and path ("" where
    the image is not found). Raise RunError for runs with other images or labels.
    """
    if not runs:
        raise ConfigError("run: expected the name of a finished run. Set run=<run>")
    for run in runs[1:]:
        check_same_labels(runs[0], run, with_eval)
    if count_split_people(runs[0].table):
        note(f"LEAK: {runs[0].path.name} has people in both training and validation, so it knows their labels by heart")
    table = audited_rows(runs[0], with_eval)
    mask, gender, _ = decode(table["label"])
    table = table.assign(mask=mask, gender=gender, age=read_ages(runs[0], table), path=find_paths(runs[0], table, note))
    members = [read_predictions(run, table) for run in runs]
    has_ages = all(member.ages is not None for member in members)
    columns = [member.columns if has_ages else member.probs for member in members]
    return table, Predictions.of_columns(table["id"].to_numpy(str), np.mean(columns, axis=0))


def audited_rows(run: Run, with_eval: bool) -> pd.DataFrame:
    """Return the validation rows of a run and, on request, its labelled evaluation rows."""
    labelled = run.eval_table.query("label >= 0")
    return pd.concat([run.val_table, labelled if with_eval else labelled.iloc[:0]], ignore_index=True)


def read_predictions(run: Run, table: pd.DataFrame) -> Predictions:
    """Return the stored predictions of rows, in their order."""
    parts: list[Predictions] = []
    for part, name in (("oof", "train"), ("eval", "eval")):
        if len(ids := table.loc[table["part"] == name, "id"].tolist()):
            parts.append(run.predictions(part).reorder(ids))  # type: ignore[arg-type]
    columns = np.concatenate([part.columns for part in parts])
    return Predictions.of_columns(np.concatenate([part.ids for part in parts]), columns)


def check_same_labels(run: Run, other: Run, with_eval: bool) -> None:
    """Raise RunError unless two runs are validated on the same images with the same labels."""
    tables = [audited_rows(one, with_eval).set_index("id").sort_index() for one in (run, other)]
    first, second = tables
    if not first.index.equals(second.index) or not first["label"].equals(second["label"]):
        raise RunError(f"{run.path} and {other.path} cannot be audited together: validated on other images or labels")
    if content_differs(first["content"], second["content"]).any():
        raise RunError(f"{run.path} and {other.path} cannot be audited together: some images have changed")


def read_ages(run: Run, table: pd.DataFrame) -> np.ndarray:
    """Return the labelled age of rows in years, NaN where it is unknown."""
    with wrap_read_errors(run.table_path):
        ages = read_csv(run.table_path, {"id": str}, {"age": str}).set_index("id")
        if "age" not in ages:
            return np.full(len(table), np.nan)
        return ages["age"].replace("", "nan").astype(float).reindex(table["id"]).to_numpy()


def find_paths(run: Run, table: pd.DataFrame, note: Note) -> np.ndarray:
    """Return the path of the image of each row, "" with a note if it is not where the run's config says."""
    try:
        paths = table["id"].map(image_paths(run)).fillna("")
    except RunError as error:
        note(f"{error}; the page has no images")
        return np.full(len(table), "", object)
    if num_missing := int((paths == "").sum()):
        note(f"{num_missing} of {len(table)} images are not found; the page lacks them")
    return paths.to_numpy(object)
