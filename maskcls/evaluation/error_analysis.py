"""Errors by attribute, and by the number that an attribute is made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import Attribute, Task
from maskcls.evaluation.intervals import mean_interval

MAX_BARS = 120  # of errors by a number


def count_wrong_attributes(preds: pd.DataFrame, task: Task) -> dict[str, int]:
    """Count the wrong predictions by their wrong attribute; empty for a task of one."""
    if len(task.names) == 1:
        return {}
    wrong = preds[preds["label"] != preds["guess"]]
    pairs = zip(task.decode(wrong["label"]), task.decode(wrong["guess"]), strict=True)
    differs = np.stack([a != b for a, b in pairs])  # (A, N)
    is_only = differs.sum(0) == 1
    counts = {f"{name} only": int((row & is_only).sum()) for name, row in zip(task.names, differs, strict=True)}
    return counts | {"several": int((~is_only).sum())}


def error_by_number(preds: pd.DataFrame, step: float) -> pd.DataFrame:
    """Return for each step of the number its images and the fractions predicted in a lower and in a higher value."""
    rows = preds[preds["number"].notna()]
    errors = {"low": rows["value_guess"] < rows["value_truth"], "high": rows["value_guess"] > rows["value_truth"]}
    start = np.floor(rows["number"] / step + 1e-9) * step
    frame = pd.DataFrame(errors | {"n": 1, "number": start}, index=rows.index)
    return frame.groupby("number").agg(low=("low", "mean"), high=("high", "mean"), n=("n", "sum"))


def bar_width(numbers: npt.ArrayLike, number: Attribute) -> float:
    """Return the width of a bar, 1, 2 or 5 times a power of ten: at most MAX_BARS cover the numbers and the borders.

    It is at least 1 if the borders are whole.
    """
    values = np.append(np.asarray(numbers, float), number.borders)
    span, is_whole = np.nanmax(values) - np.nanmin(values), all(float(border).is_integer() for border in number.borders)
    steps = (digit * 10.0**power for power in itertools.count(0 if is_whole else -9) for digit in (1, 2, 5))
    return next(step for step in steps if span <= MAX_BARS * step)


def number_error(
    truth: npt.NDArray[Any], expected: npt.NDArray[Any], is_open: npt.NDArray[np.bool_], groups: Sequence[str],
    name: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the mean absolute error of expected numbers, its interval over people, and the numbers of images.

    Images without a number (NaN), or with one that means "this or more" (`is_open`), have no error. The keys begin
    with the name of the attribute.
    """
    used = ~np.isnan(truth) & ~is_open
    numbers = {f"{name}_images": int(used.sum()), "open_ended": int(is_open.sum())}
    if not used.any():
        return numbers
    errors = np.abs(expected - truth)[used]
    interval = mean_interval(errors, np.asarray(groups, dtype=object)[used].tolist())
    return numbers | {f"{name}_mae": float(errors.mean())} | ({f"{name}_mae_interval": interval} if interval else {})
