"""Labels, out-of-fold predictions, leaks and earlier patches of runs, for an audit of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from maskcls.core.errors import ConfigError, DataError, RunError
from maskcls.core.label_patches import applied_patches
from maskcls.core.table import PATCH_COLUMNS, content_differs
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system.safe_reading import read_csv, wrap_read_errors


def read_audited(runs: Sequence[Run], with_eval: bool) -> tuple[pd.DataFrame, Predictions]:
    """Return rows with labels, and predictions of networks that did not train on them, but for `find_leaks`.

    These are the validation rows with their out-of-fold prediction and, on request, the labelled evaluation rows with
    the mean of the folds; of several runs the mean. Added columns: of each attribute its value's index, or its number
    (or NaN), and patchable: whether labels.patches has an effect on the row. Raise RunError for runs of another task,
    or with other images or labels, ConfigError without a run, and for evaluation rows of a run that has none with
    labels.
    """
    if not runs:
        raise ConfigError("run: expected the name of a finished run. Set run=<run>")
    for run in runs[1:]:
        check_same_labels(runs[0], run, with_eval)
    table = audited_rows(runs[0], with_eval)
    table = with_labels(runs[0], table).assign(patchable=is_patchable(runs[0], table))
    members = [read_predictions(run, table) for run in runs]
    has_numbers = all(member.numbers is not None for member in members)
    columns = [member.columns if has_numbers else member.probs for member in members]
    return table, Predictions.of_columns(table["id"].to_numpy(str), np.mean(columns, axis=0), runs[0].task.num_classes)


def audited_rows(run: Run, with_eval: bool) -> pd.DataFrame:
    """Return the labelled validation rows of a run and, on request, its labelled evaluation rows."""
    labelled = run.eval_table.query("label >= 0")
    if with_eval and labelled.empty:
        raise ConfigError(f"evaluation=true: {run.path} has no labelled evaluation rows. Leave evaluation out")
    parts = [run.val_table.query("label >= 0"), labelled if with_eval else labelled.iloc[:0]]
    return pd.concat(parts, ignore_index=True)


def read_predictions(run: Run, table: pd.DataFrame) -> Predictions:
    """Return the stored predictions of rows, in their order."""
    parts: list[Predictions] = []
    for part, name in (("oof", "train"), ("eval", "eval")):
        if len(ids := table.loc[table["part"] == name, "id"].tolist()):
            parts.append(run.predictions(part).reorder(ids))  # type: ignore[arg-type]
    columns = np.concatenate([part.columns for part in parts])
    return Predictions.of_columns(np.concatenate([part.ids for part in parts]), columns, run.task.num_classes)


def check_same_labels(run: Run, other: Run, with_eval: bool) -> None:
    """Raise RunError unless two runs of one task are validated on the same images with the same labels."""
    if not run.task.has_classes_of(other.task):
        raise RunError(f"{run.path} and {other.path} cannot be audited together: they have other attributes or values")
    tables = [audited_rows(one, with_eval).set_index("id").sort_index() for one in (run, other)]
    first, second = tables
    if not first.index.equals(second.index) or not first["label"].equals(second["label"]):
        raise RunError(f"{run.path} and {other.path} cannot be audited together: validated on other images or labels")
    if content_differs(first["content"], second["content"]).any():
        raise RunError(f"{run.path} and {other.path} cannot be audited together: some images have changed")


def read_numbers(run: Run, table: pd.DataFrame, column: str) -> np.ndarray:
    """Return the numbers of rows in a column of the run's file, NaN where a number is unknown."""
    with wrap_read_errors(run.table_path):
        numbers = read_csv(run.table_path, {"id": str}, {column: str}).set_index("id")
        if column not in numbers:
            return np.full(len(table), np.nan)
        return numbers[column].replace("", "nan").astype(float).reindex(table["id"]).to_numpy()


def with_labels(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return rows of a run with the value's index of each attribute, or its number (or NaN)."""
    indices = dict(zip(run.task.names, run.task.decode(table["label"].clip(0)), strict=True))
    return table.assign(**{
        attribute.source: read_numbers(run, table, attribute.source) if attribute.is_number else indices[attribute.name]
        for attribute in run.task
    })  # fmt: skip


def is_patchable(run: Run, table: pd.DataFrame) -> pd.Series[bool]:
    """Return the mask of rows that labels.patches has an effect on: training rows before `eval_fraction` splits."""
    return (table["part"] == "train") | ((table["part"] == "eval") & (run.config.get("eval_fraction") is not None))


def earlier_patches(run: Run) -> list[dict[str, str]]:
    """Return the patches that the labels of a run have, to precede new ones: their old values are the patched ones.

    Raise RunError if the run's file of patches cannot be read.
    """
    section = run.config.get("labels")
    tier = section.get("patches", "none") if isinstance(section, Mapping) else "none"
    if tier == "none":
        return []
    table = with_labels(run, run.table)
    table["part"] = np.where(is_patchable(run, table), "train", table["part"])
    try:
        rules = applied_patches(table, str(tier), run.task)
    except DataError:
        what = f"{run.path} was trained with labels.patches={str(tier)[:200]}, which cannot be read"
        raise RunError(f"{what}. Put the file back: without its rows the new list would undo its corrections") from None
    return [{name: str(row[name]) for name in PATCH_COLUMNS} for row in rules.to_dict("records")]


def find_leaks(runs: Sequence[Run], with_eval: bool) -> list[str]:
    """Return a warning for each way in which networks of the runs know the labels that they are to check."""
    return [leak for run in runs for leak in [*fold_leaks(run), *(eval_leaks(run) if with_eval else ())]]


def fold_leaks(run: Run) -> list[str]:
    """Return the warnings about the validation rows of a run, with the leaks that it noted itself."""
    trained = run.table[run.table["part"] != "eval"]
    num_folds = trained.groupby("person")["fold"].nunique()
    shared = set(num_folds.index[num_folds > 1]) & set(run.val_table["person"])
    what = f"LEAK: {run.path.name} has {len(shared)} {run.task.groups} in both training and validation"
    notes = (run.metrics() or {}).get("notes")
    noted = [str(note) for note in (notes if isinstance(notes, list) else ()) if str(note).startswith("LEAK")]
    others = [f"{run.path.name}: {note}" for note in noted if not note.startswith("LEAK: split")]
    return [f"{what}, so it may know their labels by heart"] * bool(shared) + others


def eval_leaks(run: Run) -> list[str]:
    """Return the warnings about the labelled evaluation rows of a run."""
    trained, labelled = run.table[run.table["part"] != "eval"], run.eval_table.query("label >= 0")
    is_pseudo = trained["id"].str.startswith("pseudo/")
    people = set(trained.loc[~is_pseudo, "person"]) & set(labelled["person"])
    pseudo = set(trained.loc[is_pseudo, "id"].str.removeprefix("pseudo/")) & set(labelled["id"])
    who = f"LEAK: {run.path.name} was trained on images of {len(people)} {run.task.groups} of the evaluation rows"
    what = f"LEAK: {run.path.name} was trained on {len(pseudo)} of the evaluation images, with pseudo-labels"
    return [who] * bool(people) + [what] * bool(pseudo)
