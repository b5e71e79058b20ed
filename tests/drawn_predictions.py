"""Predictions of drawn people, for the tests of calibration, prediction sets and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.competition import MASK18

TRIPLE = ((0,), (1,), (2,))


def drawn_predictions(people: int, images: int = 3, folds: int = 2, eval_people: int = 6) -> dict[str, Any]:
    """Return the arguments of `measure_reliability` for drawn people with a further column."""
    rng = np.random.default_rng(people)
    count = (people + eval_people) * images
    owner = np.arange(count) // images
    label = rng.integers(0, 3, count) * 6 + rng.integers(0, 6, people + eval_people)[owner]
    is_eval = owner >= people
    table = pd.DataFrame({
        "id": [f"i{i}" for i in range(count)], "person": [f"p{i}" for i in owner], "label": label,
        "part": np.where(is_eval, "eval", "train"), "fold": np.where(is_eval, -1, owner % folds), "scored": True,
        "group.colour": np.array(["red", "blue", ""])[owner % 3],
    })  # fmt: skip
    logits = rng.normal(0, 2, (count, 18))
    logits[np.arange(count), label] += 2
    probs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    rows = table[~is_eval]
    evaluation = np.stack([probs[is_eval]] * folds)
    return {"table": table, "rows": rows, "plain": probs[~is_eval], "probs": probs[~is_eval], "evaluation": evaluation,
            "bias": None, "axes": TRIPLE, "task": MASK18}  # fmt: skip
