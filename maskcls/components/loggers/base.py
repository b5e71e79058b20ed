"""What all experiment loggers share: their protocol, their inputs, and errors that end the logging alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from maskcls.core.table import Note
from maskcls.storage.run import Run

LogFn = Callable[[Mapping[str, Any]], None]  # logs one epoch


@dataclass(frozen=True)
class LogContext:
    """What a logger shows besides the config: the group of runs, such as a sweep, and the options as typed."""

    group: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)  # {"loss": "smoothing"}: its section says name: ce

    def facts(self) -> dict[str, Any]:
        """Return what is set, for a run's about.json; a run that is resumed alone keeps its group."""
        return {key: value for key, value in (("group", self.group), ("choices", dict(self.choices))) if value}


class Mistake(NamedTuple):
    """An image with a confident wrong prediction."""

    id: str
    path: str
    fold: int
    label: str
    pred: str
    confidence: float


FindMistakes = Callable[[int], Sequence[Mistake]]  # the worst ones, at most a number of them


def no_mistakes(count: int) -> Sequence[Mistake]:
    """Return no mistakes: those of an unfinished run are unknown."""
    return ()


class Logger(Protocol):
    """An experiment logger: opened once, called after each epoch, closed with the closing metrics."""

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start logging a run; a resumed run has epochs in its history already."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch (fold, epoch, loss, f1, …)."""

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Log the closing metrics, if any, and close."""

    def of_finished(self) -> Logger | None:
        """Return the logger of a run that was already finished, None if there is nothing to log again."""


class SafeLogger:
    """Base of loggers of a service: its errors stop the logging, not the training."""

    service = ""

    def __init__(self, note: Note) -> None:
        self.note = note
        self.seen: set[tuple[int, int]] = set()  # fold and epoch of each logged row

    def call_safely(self, call: Callable[[], Any]) -> Any:
        """Call the service; on an error, report it once and stop logging."""
        try:
            return call()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.note(f"{self.service} logging stopped ({reason}). Training continues; log.jsonl is complete")
            self.drop()

    def drop(self) -> None:
        """Forget the connection, which has failed."""

    def is_new(self, row: Mapping[str, Any]) -> bool:
        """Return True the first time for each fold and epoch: a killed process may have logged one before saving it."""
        key = row["fold"], row["epoch"]
        is_new = key not in self.seen
        self.seen.add(key)
        return is_new

    def of_finished(self) -> Logger | None:
        """Return None: the service has the finished run."""
        return None


def past_epochs(run: Run, fold: int | None) -> list[dict[str, Any]]:
    """Return the epochs of a resumed run, or of the only fold that is trained."""
    return [row for row in run.history() if fold is None or row["fold"] == fold]


def run_name(run: Run, fold: int | None) -> str:
    """Return the name of a run, or of one of its folds that is trained alone."""
    return run.id if fold is None else f"{run.id}-fold{fold}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def closing_scores(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores of the closing metrics as oof/f1, eval/accuracy, folds_mean/f1, …, plain/oof/f1."""
    parts = {part: metrics[part] or {} for part in ("oof", "eval", "folds_mean")}
    if decision := metrics.get("decision"):
        parts["plain"] = decision["plain"]
    return {key.replace(".", "/"): value for key, value in flatten(parts) if isinstance(value, int | float)}
