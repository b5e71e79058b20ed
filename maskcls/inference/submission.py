"""Prediction files: submission, labels and probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.errors import DataError
from maskcls.core.task import AGES, CLASSES, GENDERS, MASKS, decode
from maskcls.storage.predictions import Predictions
from maskcls.system import console
from maskcls.system.files import write_text

NUM_SHOWN = 20


def write_submission(predictions: Predictions, out: Path) -> None:
    """Write ImageID,ans for each evaluation image, and probabilities.csv; DataError for two images of one name."""
    names = pd.Series([Path(name).name for name in predictions.ids])
    if (duplicates := names[names.duplicated()]).size:
        raise DataError(f"{out}: two evaluation images have the name {duplicates.iloc[0]!r}. Rename one of them")
    write_files(out, pd.DataFrame({"ImageID": names, "ans": predictions.preds}), predictions)


def write_files(out: Path, table: pd.DataFrame, predictions: Predictions) -> None:
    """Write a table of classes and, in the same folder, probabilities.csv, from the main process only."""
    probs_path = out.parent / "probabilities.csv"
    if console.is_main_process():
        predictions.write(probs_path)
        write_text(out, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    console.info(f"{len(table)} images: {out} and {probs_path}")


def write_labels(predictions: Predictions, out: Path) -> None:
    """Print and write mask, gender, age and probability of each image."""
    preds, confidence = predictions.preds, predictions.probs.max(1).astype(float)
    mask, gender, age = decode(preds)
    labels = {"mask": np.array(MASKS)[mask], "gender": np.array(GENDERS)[gender], "age": np.array(AGES)[age]}
    ids = predictions.ids.astype(object)
    table = pd.DataFrame({"photo": ids, "ans": preds, **labels, "probability": confidence})
    title = f"{len(table)} images, {len(np.unique(preds))} of {len(CLASSES)} classes"
    shown = table.head(NUM_SHOWN).assign(photo=[Path(name).name for name in table["photo"].head(NUM_SHOWN)])
    console.print_table(title, shown.columns.tolist(), shown.to_numpy().tolist())
    if len(table) > NUM_SHOWN:
        console.info(f"… and {len(table) - NUM_SHOWN} more")
    write_files(out, table, predictions)
