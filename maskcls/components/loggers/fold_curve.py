"""One curve over all folds of a run, which an early-terminating sweep can compare between runs."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any


class FoldCurve:
    """Mean F1 of the folds so far, one point for each trained epoch.

    During the first fold the curve is that fold's F1, with select=best that of its best epoch so far; afterwards it is
    the mean over the finished folds, so that the first epochs of a new fold do not lower it. All runs with the same
    number of epochs are comparable at each point, and the first `epochs` points are of the first fold alone: a bracket
    of W&B's early_terminate up to there stops a bad config before its other folds are trained.
    """

    def __init__(self, epochs: int, selects_best: bool, folds_at_once: int = 1, monitor: str = "f1") -> None:
        self.epochs, self.selects_best, self.folds_at_once = epochs, selects_best, folds_at_once
        self.monitor, self.best = monitor, dict[int, float]()  # the monitored score of each fold, higher is better
        self.scores: dict[int, float] = {}  # by fold, in the order of their start
        self.last_epoch: dict[int, int] = {}

    def add(self, row: Mapping[str, Any]) -> float:
        """Return the mean after another epoch of a fold."""
        k = row["fold"]
        score = -row["val_loss"] if self.monitor == "val_loss" else row["f1"]
        if not self.selects_best or score > self.best.get(k, -inf):
            self.best[k], self.scores[k] = score, row["f1"]
        self.last_epoch[k] = row["epoch"]
        running = {k for k in list(self.scores)[-self.folds_at_once :] if self.last_epoch[k] < self.epochs}
        finished = [score for k, score in self.scores.items() if k not in running]
        scores = finished or list(self.scores.values())
        return sum(scores) / len(scores)
