"""The evaluation photos that a prediction is of, and what runs have stored of them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from maskcls.components.data import without_drawing
from maskcls.core.errors import DataError, RunError
from maskcls.core.registry import Component
from maskcls.core.table import content_differs
from maskcls.core.task import FloatArray
from maskcls.inference.predictor import restore_component
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.file_digests import file_digests


def load_evaluation(data: Component, cache: Path) -> pd.DataFrame:
    """Return the evaluation rows of the data, in info.csv's order, with the digests of their photos (`content`)."""
    table: pd.DataFrame = data.build(console.info)
    rest = table[table["part"] == "eval"].reset_index(drop=True)
    return rest.assign(content=file_digests(list(rest["path"]), cache))


def load_own_evaluation(run: Run, cache: Path) -> pd.DataFrame:
    """Return a run's evaluation rows with path and content of their photos as they are now.

    The run may come from anybody: what its config.yaml names is read, and no word of it gets into a message.
    """
    try:
        paths = without_drawing(restore_component(run, "data")).build(lambda text: None).set_index("id")["path"]
    except DataError:
        what = f"{run.path}: its photos cannot be read where its config.yaml says"
        raise RunError(f"{what}. Set data=<source> and the source's root or file") from None
    table = run.eval_table
    if lost := int((~table["id"].isin(paths.index)).sum()):
        what = f"{run.path}: {lost} of its {len(table)} evaluation photos are not where its config.yaml says"
        raise RunError(f"{what}. Set data=<source> and the source's root or file")
    table["path"] = paths[table["id"]].to_numpy()
    now = pd.Series(file_digests(list(table["path"]), cache), dtype=str)
    if changed := int(content_differs(table["content"], now).sum()):
        console.info(f"{run.path.name}: {changed} evaluation photos changed since it was trained", "yellow")
    return table.assign(content=now)


def stored_probs(run: Run, table: pd.DataFrame, precision: str | None, tta: Component | None) -> FloatArray | None:
    """Return the probabilities (N, 18) that a run has stored for these photos; None where they must be computed.

    They are the same photos only where their names and their contents are.
    """
    file, own = run.predictions_path("eval"), run.eval_table
    if tta not in (None, restore_component(run, "tta")) or precision not in (None, run.config["precision"]):
        return None
    if not file.is_file() or not same_photos(table, own):
        return None
    return run.predictions("eval").select(table["id"].tolist())


def same_photos(mine: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Return True if two tables hold the same ids with the same contents."""
    one, two = (dict(zip(table["id"], table["content"], strict=True)) for table in (mine, other))
    return one == two
