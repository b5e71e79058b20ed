"""Scores of the best of several models: how much of the best score is due to the choice itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskcls.evaluation.intervals import MIN_PEOPLE, PersonCounts, f1_of_counts

RESAMPLES = 1000
CHUNK = 50  # resamples at once, for memory


def selection_bias(counts: Sequence[PersonCounts], seed: int = 0) -> float | None:
    """Return by how much the macro F1 of the best of several models exceeds what the choice is worth on other people.

    `counts` are those of each model on the same people, in one order. For each bootstrap sample of the people, the best
    model is chosen on it and scored on the people outside it, and so is the best model of all people: the mean
    difference is the bias. It is that of bootstrap bias corrected cross-validation (Tsamardinos, Greasidou and
    Borboudakis 2018, Machine Learning 107), taken as a difference on the same people, as a macro F1 of fewer people is
    lower in itself. Return None below MIN_PEOPLE people, and 0 for a single model.
    """
    table = np.stack(counts)  # (models, people, 3, C)
    num_models, num_people = table.shape[:2]
    if num_people < MIN_PEOPLE:
        return None
    flat = table.transpose(1, 0, 2, 3).reshape(num_people, -1)
    winner = int(f1_of_counts(table.sum(1)).argmax())
    rng, differences = np.random.default_rng(seed), []
    for _ in range(RESAMPLES // CHUNK):
        drawn = rng.multinomial(num_people, np.full(num_people, 1 / num_people), CHUNK).astype(np.float64)
        inside, outside = (f1_of_counts((weights @ flat).reshape(CHUNK, num_models, *table.shape[2:]))
                           for weights in (drawn, (drawn == 0).astype(np.float64)))  # fmt: skip
        differences.append(outside[:, winner] - outside[np.arange(CHUNK), inside.argmax(1)])
    return float(np.mean(differences))
