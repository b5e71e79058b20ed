"""Prediction files: submission, labels and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.core.errors import DataError
from maskcls.core.task import AGES, CLASSES, GENDERS, MASKS, FloatArray, decode
from maskcls.storage.predictions import PROB_COLUMNS, select
from maskcls.system import console
from maskcls.system.files import write_text

SHOWN = 20


def to_frame(ids: pd.Series, probs: FloatArray) -> pd.DataFrame:
    """Return id and p0 … p17."""
    table = pd.DataFrame(probs.astype(np.float64), columns=PROB_COLUMNS)
    table.insert(0, "id", ids.to_numpy())
    return table


def write_submission(wanted: Sequence[str], given: pd.DataFrame, out: Path) -> None:
    """Write ImageID,ans in the order of the wanted ids, and probabilities.csv; a missing or double row is refused."""
    probs = select(wanted, given, out)
    names = pd.Series([Path(name).name for name in wanted])
    if (twice := names[names.duplicated()]).size:
        raise DataError(f"{out}: two evaluation photos have the name {twice.iloc[0]}")
    write(out, pd.DataFrame({"ImageID": names, "ans": probs.argmax(1)}), to_frame(pd.Series(wanted), probs))


def write(out: Path, answers: pd.DataFrame, probs: pd.DataFrame) -> None:
    """Write the answers and, beside them, the probabilities, each whole or not at all, from the first rank only."""
    beside = out.parent / "probabilities.csv"
    for path, table in ((beside, probs), (out, answers)) if console.main_rank() else ():
        write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    console.info(f"{len(answers)} photos: {out} and {beside}")


def write_labels(listing: pd.DataFrame, probs: FloatArray, out: Path) -> None:
    """Print and write mask, gender, age and probability of each photo."""
    guess = probs.argmax(1)
    mask, gender, age = decode(guess)
    words = {"mask": np.array(MASKS)[mask], "gender": np.array(GENDERS)[gender], "age": np.array(AGES)[age]}
    table = pd.DataFrame({"photo": listing["id"], "ans": guess, **words, "probability": probs.max(1).astype(float)})
    title = f"{len(table)} photos, {len(np.unique(guess))} of {len(CLASSES)} classes"
    brief = table.head(SHOWN).assign(photo=[Path(name).name for name in table["photo"].head(SHOWN)])
    console.print_table(title, brief.columns.tolist(), brief.to_numpy().tolist())
    if len(table) > SHOWN:
        console.info(f"… and {len(table) - SHOWN} more")
    write(out, table, to_frame(listing["id"], probs))
