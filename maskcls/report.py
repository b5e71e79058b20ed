"""What a run shows: a closing table, plots and one self-contained HTML page."""

from __future__ import annotations

from typing import Any

import pandas as pd

from maskcls import console
from maskcls.rundir import RunDir


def show(run: RunDir, metrics: dict[str, Any]) -> None:
    """Print the closing table and the run's path."""
    head = ["", "macro F1", "accuracy", "mask F1", "gender F1", "age F1", "photos"]
    names = ["f1", "accuracy", "mask_f1", "gender_f1", "age_f1", "photos"]
    lines = [[f"fold {row['fold']}", *[row[name] for name in names]] for row in metrics["folds"]]
    lines.append(["out of fold", *[metrics["oof"][name] for name in names]])
    if metrics["eval"]:
        lines.append(["evaluation", *[metrics["eval"][name] for name in names]])
    console.table(str(run.path), head, lines)


def write(run: RunDir, metrics: dict[str, Any], table: pd.DataFrame) -> None:
    """Write plots/ and report.html."""
