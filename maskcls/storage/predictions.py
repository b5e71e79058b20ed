"""Prediction tables: ids and probabilities as CSV and npz."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.errors import DataError
from maskcls.core.task import CLASSES, FloatArray
from maskcls.storage.run_files import PROBS
from maskcls.system.files import write_text


def write_predictions(path: Path, table: pd.DataFrame, probs: FloatArray) -> None:
    """Write photos with their truth, guess and 18 probabilities as a CSV."""
    columns = [f"p{i}" for i in range(len(CLASSES))]
    content = table[["id", "person", "fold", "label"]].assign(guess=probs.argmax(1)).reset_index(drop=True)
    content = content.join(pd.DataFrame(probs.astype(np.float64), columns=columns))
    write_text(path, content.to_csv(index=False, float_format="%.8g", lineterminator="\n"))


PROB_COLUMNS = PROBS


def select(wanted: Sequence[str], given: pd.DataFrame, where: Path | str) -> FloatArray:
    """Return the probabilities (N, 18) of the wanted ids in their order; a missing or double one is a DataError."""
    for ids, what in ((pd.Series(wanted, dtype=str), "is asked for"), (given["id"], f"stands in {where}")):
        if (twice := ids[ids.duplicated()]).size:
            raise DataError(f"{twice.iloc[0]} {what} more than once")
    probs = given.set_index("id")[PROB_COLUMNS].reindex(list(wanted))
    if (lost := probs.index[probs.isna().any(axis=1)]).size:
        raise DataError(f"{where} has no probabilities for {len(lost)} of {len(wanted)} photos, first {lost[0]}")
    return probs.to_numpy(np.float32)
