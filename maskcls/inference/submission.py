"""Prediction files: submission, labels and probabilities."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.errors import ConfigError, DataError
from maskcls.core.task import Task
from maskcls.core.task_options import read_task
from maskcls.storage.predictions import Predictions, number_columns
from maskcls.system import console
from maskcls.system.files import write_text

NUM_SHOWN = 20
COMPETITION = read_task(None)  # the task of runs that name none


def write_submission(predictions: Predictions, out: Path, overwrite: bool, task: Task) -> None:
    """Write the classes of the evaluation images, and their probabilities.

    Of the competition's classes the file has its columns, ImageID,ans; DataError for two images of one name.
    """
    if not is_competition(task):
        return write_files(out, class_table(predictions, task), predictions, overwrite, task)
    names = pd.Series([Path(name).name for name in predictions.ids])
    if (duplicates := names[names.duplicated()]).size:
        raise DataError(f"{out}: two evaluation images have the name {duplicates.iloc[0]!r}. Rename one of them")
    write_files(out, pd.DataFrame({"ImageID": names, "ans": predictions.preds}), predictions, overwrite, task)


def is_competition(task: Task) -> bool:
    """Return True if the classes are those of the competition, whose files have columns of their own."""
    return task.values == COMPETITION.values


def class_table(predictions: Predictions, task: Task) -> pd.DataFrame:
    """Return id, number and name of the class, and the value of each attribute, of each image.

    The files of the competition's classes have no name of the class, the values are named by one attribute alone.
    """
    preds = predictions.preds
    id_column, number_column = ("photo", "ans") if is_competition(task) else ("id", "class")
    table = pd.DataFrame({id_column: predictions.ids.astype(object), number_column: preds})
    if len(task.names) > 1 and not is_competition(task):
        table["name"] = np.array(task.classes)[preds]
    for attribute, indices in zip(task, task.decode(preds), strict=True):
        table[attribute.name] = np.array(attribute.values)[indices]
    return table


def write_files(out: Path, table: pd.DataFrame, predictions: Predictions, overwrite: bool, task: Task) -> None:
    """Write a table of classes and beside it the probabilities, from the main process only.

    Files with other content are not replaced unless `overwrite`: the new ones get a number, and ConfigError names both.
    """
    if not console.is_main_process():
        return
    texts = [frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")
             for frame in (table, predictions.to_frame(task))]  # fmt: skip
    numbered = (out.with_stem(f"{out.stem}-{number}") for number in itertools.count(2))
    for target in itertools.chain([out], numbered):
        paths = (target, probabilities_path(target))
        differing = [path for path, text in zip(paths, texts, strict=True) if has_other_content(path, text)]
        if overwrite or not differing:
            break
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    if target != out:
        what = f"{out} or {probabilities_path(out)} exists with other content and is kept: these predictions are in"
        remedy = "Set overwrite=true to replace it, or out=<file> for another name"
        raise ConfigError(f"{what} {paths[0]} and {paths[1]}. {remedy}")
    console.info(f"{len(table)} images: {paths[0]} and {paths[1]}")


def probabilities_path(out: Path) -> Path:
    """Return the file of probabilities: submission.csv → probabilities.csv, a.csv → probabilities-a.csv."""
    stem, count = re.subn("^(submission|predictions)(?=-|$)", "probabilities", out.stem)
    return out.with_name(f"{stem if count else f'probabilities-{out.stem}'}.csv")


def has_other_content(path: Path, text: str) -> bool:
    """Return True if something with another content than a text has this path."""
    if not os.path.lexists(path):
        return False
    content = text.encode()
    return not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content


def write_labels(predictions: Predictions, out: Path, overwrite: bool, task: Task) -> None:
    """Print and write class, attributes and probability of each image, and its expected number if there is one."""
    preds, columns = predictions.preds, number_columns(task)
    table = class_table(predictions, task)
    table["probability"] = predictions.probs[np.arange(len(preds)), preds].astype(float)
    shown = table.head(NUM_SHOWN).copy()
    shown.iloc[:, 0] = [Path(name).name for name in shown.iloc[:, 0]]
    if predictions.numbers is not None and task.number:
        table[columns] = predictions.numbers.astype(float)
        unit = task.number.unit or columns[0]
        texts = [f"{number:.0f} ± {sd:.0f}" for number, sd in predictions.numbers[:NUM_SHOWN]]
        shown.insert(shown.shape[1], unit, texts, allow_duplicates=True)  # an attribute may have the unit's name
    title = f"{len(table)} images, {len(np.unique(preds))} of {task.num_classes} classes"
    console.print_table(title, shown.columns.tolist(), shown.to_numpy().tolist())
    if len(table) > NUM_SHOWN:
        console.info(f"… and {len(table) - NUM_SHOWN} more")
    write_files(out, table, predictions, overwrite, task)
