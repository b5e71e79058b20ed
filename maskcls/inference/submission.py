"""Prediction files: submission, labels and probabilities."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.errors import ConfigError, DataError
from maskcls.core.task import AGES, CLASSES, GENDERS, MASKS, decode
from maskcls.storage.predictions import YEARS_COLUMNS, Predictions
from maskcls.system import console
from maskcls.system.files import write_text

NUM_SHOWN = 20


def write_submission(predictions: Predictions, out: Path, overwrite: bool = False) -> None:
    """Write ImageID,ans for each evaluation image, and their probabilities; DataError for two images of one name."""
    names = pd.Series([Path(name).name for name in predictions.ids])
    if (duplicates := names[names.duplicated()]).size:
        raise DataError(f"{out}: two evaluation images have the name {duplicates.iloc[0]!r}. Rename one of them")
    write_files(out, pd.DataFrame({"ImageID": names, "ans": predictions.preds}), predictions, overwrite)


def write_files(out: Path, table: pd.DataFrame, predictions: Predictions, overwrite: bool) -> None:
    """Write a table of classes and beside it the probabilities, from the main process only.

    Files with other content are not replaced unless `overwrite`: the new ones get a number, and ConfigError names both.
    """
    if not console.is_main_process():
        return
    texts = [frame.to_csv(index=False, float_format="%.8g", lineterminator="\n")
             for frame in (table, predictions.to_frame())]  # fmt: skip
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


def write_labels(predictions: Predictions, out: Path, overwrite: bool = False) -> None:
    """Print and write mask, gender, age and probability of each image, and its expected age if there is one."""
    preds = predictions.preds
    confidence = predictions.probs[np.arange(len(preds)), preds].astype(float)
    mask, gender, age = decode(preds)
    labels = {"mask": np.array(MASKS)[mask], "gender": np.array(GENDERS)[gender], "age": np.array(AGES)[age]}
    ids = predictions.ids.astype(object)
    table = pd.DataFrame({"photo": ids, "ans": preds, **labels, "probability": confidence})
    if predictions.ages is not None:
        table[YEARS_COLUMNS] = predictions.ages.astype(float)
    title = f"{len(table)} images, {len(np.unique(preds))} of {len(CLASSES)} classes"
    shown = table.head(NUM_SHOWN).assign(photo=[Path(name).name for name in table["photo"].head(NUM_SHOWN)])
    if predictions.ages is not None:
        years = [f"{age:.0f} ± {sd:.0f}" for age, sd in predictions.ages[:NUM_SHOWN]]
        shown = shown.drop(columns=YEARS_COLUMNS).assign(years=years)
    console.print_table(title, shown.columns.tolist(), shown.to_numpy().tolist())
    if len(table) > NUM_SHOWN:
        console.info(f"… and {len(table) - NUM_SHOWN} more")
    write_files(out, table, predictions, overwrite)
