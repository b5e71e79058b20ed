"""Bootstrap intervals over people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from maskcls.core.task import CLASSES, IntArray

FEWEST = 20  # people below whom no interval is told: it would hold the truth too seldom
Tally = npt.NDArray[np.float64]  # (people, 3, 18): for each class its hits, photos and guesses


def person_counts(truth: IntArray, guess: IntArray, people: Sequence[str]) -> Tally:
    """Return the counts of each person, in the order of their names, which is all that F1 needs."""
    codes, names = pd.factorize(np.asarray(people, dtype=object), sort=True)
    hit, size = truth == guess, len(CLASSES)
    kinds = [codes[hit] * size + truth[hit], codes * size + truth, codes * size + guess]
    counts = [np.bincount(places, minlength=len(names) * size).reshape(-1, size) for places in kinds]
    return np.stack(counts, 1).astype(np.float64)


def bootstrap_ci(mine: Sequence[Tally], below: Sequence[Tally] = (), level: float = 0.95) -> list[float] | None:
    """Return the interval [low, high] of the mean F1 of `mine`, or of its difference to that of `below`.

    None below FEWEST people. It is the jackknife's over people, since a person's photos are no independent draws (Efron
    & Tibshirani 1993, chapter 11): the score, plus and minus Student's t times the standard error of leaving one person
    out, the same one in every tally. What another seed of the training would change is not in it.

    How often it holds the truth, in 2,000 simulated samples of the competition's shares of gender × age at a macro F1
    of 0.65 and of 0.91: 0.89 and 0.88 at 20 people, 0.88 and 0.89 at 40, 0.90 and 0.88 at 60, 0.92 and 0.91 at 100,
    0.95 and 0.96 at 200, 0.95 at 500; an interval of a difference 0.93 to 0.97 at any of them. Among few people a rare
    class has one person or none: a class that is only guessed counts as F1 0, which no resampling of these people
    shows. So bootstrap intervals hold it less often still (500 samples, at 20, 60 and 100 people, at 0.65 and 0.91):
    percentiles 0.77, 0.84, 0.88 and 0.86, 0.87, 0.91; BCa 0.79, 0.90, 0.91 and 0.78, 0.84, 0.91, and of a difference
    0.83, 0.93, 0.92 and 0.83, 0.88, 0.92. From 200 people on all agree.
    """
    people = len(mine[0])
    if people < FEWEST:
        return None
    values = mean_f1(mine) - (mean_f1(below) if below else 0.0)
    score, without = values[0], values[1:]
    error = np.sqrt((people - 1) * without.var())
    half = stdtrit(people - 1, (1 + level) / 2) * error
    return [float(max(score - half, -1.0 if below else 0.0)), float(min(score + half, 1.0))]


def f1_of_counts(counts: Tally) -> npt.NDArray[np.float64]:
    """Return the macro F1 (…) of hits, photos and guesses of the classes, (…, 3, 18)."""
    hits, photos, guesses = np.moveaxis(counts, -2, 0)
    there = photos + guesses > 0
    return (2 * hits / np.maximum(photos + guesses, 1)).sum(-1) / np.maximum(there.sum(-1), 1)


def mean_f1(tallies: Sequence[Tally]) -> npt.NDArray[np.float64]:
    """Return the mean macro F1 of some tallies: of all people, then without each of them, (1 + people,)."""
    whole = [counts.sum(0, keepdims=True) for counts in tallies]
    values = [f1_of_counts(np.concatenate([total, total - each])) for total, each in zip(whole, tallies, strict=True)]
    return np.mean(values, axis=0)
