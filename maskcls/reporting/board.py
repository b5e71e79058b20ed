"""The runs of a folder in the order of their scores, with what a leaderboard shows of each."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from maskcls.core.errors import ConfigError, MaskclsError, unknown_message
from maskcls.core.task import Task, TaskKey
from maskcls.reporting.board_scores import BoardScores, Scored, ScoreReader
from maskcls.reporting.comparison import Record, format_difference, format_score_ci
from maskcls.reporting.differing_parameters import Words, differing_parameters
from maskcls.reporting.summary import leak_warning
from maskcls.storage.index import IndexedRun

CURVES = {"f1": "validation F1", "val_loss": "validation loss", "loss": "training loss"}
MAX_POINTS = 100  # of a curve
MAX_WORD = 60  # characters in the terminal
SWEEP_FLAGS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


@dataclass(frozen=True)
class BoardRun:
    """A run on a leaderboard; without scores if it is unfinished or damaged."""

    indexed: IndexedRun
    scores: BoardScores | None = None
    words: Words = field(default_factory=dict)  # parameters in which it differs from other runs

    @property
    def name(self) -> str:
        """The path below the folder of runs."""
        return self.indexed.name

    @property
    def state(self) -> str:
        """State and detail, such as `stopped at fold 3, epoch 2 of 10; 3 of 5 folds finished`."""
        link = ": " if self.indexed.state in ("unreadable", "concluded") else " "
        return link.join(filter(None, [self.indexed.state, self.indexed.detail]))

    @property
    def group(self) -> str:
        """The sweep, ladder or search of the run, or else its folder."""
        facts, folder = self.indexed.facts, PurePosixPath(self.name).parent.as_posix()
        is_sweep = bool(SWEEP_FLAGS & set(facts.get("command") or ()))
        return facts.get("group") or (folder if folder != "." else "sweep" if is_sweep else "")

    @property
    def date(self) -> str:
        """When its last session began, empty if unknown."""
        begun = self.indexed.facts.get("begun")
        return begun[:16].replace("T", " ") if isinstance(begun, str) else ""

    @property
    def leak(self) -> str:
        """A warning about people in both training and validation, else an empty text."""
        count = self.indexed.metrics.get("people_on_both_sides")
        return f"LEAK: {leak_warning(count, self.indexed.task)}" if count else ""

    def curves(self) -> dict[str, list[float | None]]:
        """Return the numbers of each epoch, the mean over the folds that have it, of at most MAX_POINTS epochs."""
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in self.indexed.history:
            rows.setdefault(row["epoch"], []).append(row)
        epochs = sorted(rows)
        positions = np.linspace(0, len(epochs) - 1, min(len(epochs), MAX_POINTS)).astype(int)
        picked = [epochs[i] for i in np.unique(positions)]
        means = {key: [mean_of(row.get(key) for row in rows[epoch]) for epoch in picked] for key in CURVES}
        return {"epoch": [float(epoch) for epoch in picked], **means}


def mean_of(values: Iterable[Any]) -> float | None:
    """Return the mean of the finite numbers among some values, with four digits, None without any."""
    numbers = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    return float(f"{sum(value / len(numbers) for value in numbers):.4g}") if numbers else None


@dataclass(frozen=True)
class Board:
    """The runs of one task, and the one to compare the others with."""

    task: Task | None  # None: no file of the runs says it
    runs: list[BoardRun]  # the best first, then those with a leak, then unfinished and unreadable ones
    baseline: BoardRun | None = None

    @property
    def title(self) -> str:
        """The attributes, such as colour × size."""
        return " × ".join(self.task.names) if self.task else "unknown task"

    @property
    def people(self) -> str:
        """What intervals are over."""
        return self.task.groups if self.task else "people"


def build_boards(indexed: Iterable[IndexedRun], reader: ScoreReader, baseline: str | None = None) -> list[Board]:
    """Return the runs of each task with their scores; the task of most runs comes first.

    Runs of different tasks have different classes, so they are neither ranked nor compared. A run whose task is unknown
    is on the first board. `baseline` names the run to compare with, on the board of its task; ConfigError if there is
    no such finished run.
    """
    tasks: dict[TaskKey, Task] = {}
    groups: dict[TaskKey, list[BoardRun]] = {}
    unknown: list[BoardRun] = []
    for run in (score_run(one, reader) for one in indexed):
        if (task := run.indexed.task) is None:
            unknown.append(run)
        else:
            tasks.setdefault(task.key, task)
            groups.setdefault(task.key, []).append(run)
    ranked = sorted(groups, key=lambda key: -len(groups[key]))
    boards = [Board(tasks[key], rank_runs(groups[key] + unknown * (key == ranked[0]))) for key in ranked]
    return choose_baselines(boards or [Board(None, rank_runs(unknown))], baseline)


def rank_runs(runs: Sequence[BoardRun]) -> list[BoardRun]:
    """Return runs in their order, with the parameters in which they differ."""
    readable = [run for run in runs if run.indexed.state != "unreadable"]
    choices = [run.indexed.facts.get("choices") or {} for run in readable]
    words = differing_parameters([run.indexed.config for run in readable], choices)
    worded = [replace(run, words=row) for run, row in zip(readable, words, strict=True)]
    return sorted([*worded, *(run for run in runs if run.indexed.state == "unreadable")], key=rank)


def rank(run: BoardRun) -> tuple[bool, bool, float, str]:
    """Return the key by which runs are sorted: with scores, without a leak (it raises a score), and the best first."""
    return run.scores is None, bool(run.leak), -run.scores.oof.f1 if run.scores else 0.0, run.name


def score_run(indexed: IndexedRun, reader: ScoreReader) -> BoardRun:
    """Return a run with its scores; unreadable if its predictions are damaged or deleted meanwhile."""
    if not indexed.is_finished:
        return BoardRun(indexed)
    try:
        return BoardRun(indexed, reader.read(indexed.run))
    except (MaskclsError, OSError, ValueError, LookupError) as error:
        return BoardRun(replace(indexed, state="unreadable", detail=" ".join(str(error).split())))


def choose_baselines(boards: Sequence[Board], name: str | None) -> list[Board]:
    """Return the boards with the run to compare with: the named one on its board, else `choose_baseline`."""
    named = None if name is None else find_baseline([run for board in boards for run in board.runs], name)
    return [
        replace(board, baseline=named if any(run is named for run in board.runs) else choose_baseline(board.runs))
        for board in boards
    ]


def find_baseline(runs: Sequence[BoardRun], name: str) -> BoardRun:
    """Return the named run; raise ConfigError if there is no such finished run."""
    scored = {run.name: run for run in runs if run.scores}
    matches = [run for run in scored.values() if name in (run.name, run.indexed.run.id, str(run.indexed.run.path))]
    if len(matches) > 1:
        names = ", ".join(run.name for run in matches)
        raise ConfigError(f"baseline={name}: several runs have this name. Choose one of {names}")
    if not matches:
        unfinished = next((run for run in runs if name in (run.name, run.indexed.run.id)), None)
        what = f"run {name} has no scores ({unfinished.state})" if unfinished else unknown_message("run", name, scored)
        raise ConfigError(f"baseline: {what}")
    return matches[0]


def choose_baseline(runs: Sequence[BoardRun]) -> BoardRun | None:
    """Return the first run without a leak among those on the rows that most runs are scored on, None without scores."""
    scored = [(run, run.scores.oof.rows.digests) for run in runs if run.scores]
    fair = [pair for pair in scored if not pair[0].leak] or scored
    counts = Counter(digests for _, digests in fair)
    return max(fair, key=lambda pair: counts[pair[1]])[0] if fair else None


def difference_to(run: BoardRun, baseline: BoardRun | None) -> Record | None:
    """Return the paired difference of a run to the baseline, or why there is none; None for the baseline itself."""
    if baseline is None or baseline.scores is None or run.scores is None or run is baseline:
        return None
    return run.scores.compare(baseline.scores)


def format_scored(scored: Scored | None, spread: bool = False) -> str:
    """Return a score as `maskcls compare` shows it."""
    if scored is None:
        return ""
    sd = {} if scored.f1_sd is None else {"f1_sd": scored.f1_sd}
    return format_score_ci({"f1": scored.f1, "interval": scored.interval, **sd}, spread)


def terminal_row(run: BoardRun, baseline: BoardRun | None) -> list[str]:
    """Return the cells of a run in the terminal."""
    scores = run.scores
    difference = "baseline" if run is baseline else describe_difference(run, baseline)
    return [
        run.name, run.group, run.state, format_scored(scores.oof if scores else None) + (" LEAK" if run.leak else ""),
        format_scored(scores.single if scores else None, spread=True), difference,
        f"{run.indexed.seconds:.0f}" if run.indexed.history else "", run.date,
        " ".join(shorten(f"{key}={value}") for key, value in run.words.items()),
    ]  # fmt: skip


def describe_difference(run: BoardRun, baseline: BoardRun | None) -> str:
    """Return the difference of a run to the baseline as text, with a note if it is that of other folds."""
    difference = difference_to(run, baseline)
    is_oof = difference is not None and difference.get("rows") == "oof"
    folds = {one.scores.folds for one in (run, baseline) if one and one.scores}
    return format_difference(difference) + (", other folds" if is_oof and len(folds) > 1 else "")


TERMINAL_HEAD = ("run", "group", "state", "out-of-fold F1\n[95 %]", "evaluation F1\none fold",
                 "F1 to the baseline\n[95 %]", "seconds", "begun", "differs in")  # fmt: skip


def shorten(word: str) -> str:
    """Return a word of at most MAX_WORD characters."""
    return word if len(word) <= MAX_WORD else word[: MAX_WORD - 1] + "…"


def page_run(run: BoardRun, href: str | None) -> dict[str, Any]:
    """Return what the page shows of a run, without its predictions."""
    scores, metrics = run.scores, run.indexed.metrics
    row: dict[str, Any] = {
        "name": run.name, "href": href, "group": run.group, "state": run.indexed.state, "detail": run.indexed.detail,
        "seconds": round(run.indexed.seconds, 1) if run.indexed.history else None, "date": run.date, "leak": run.leak,
        "words": run.words, "curves": run.curves() if run.indexed.history else None,
        "ensemble": (metrics.get("eval") or {}).get("f1"), "maskcls": run.indexed.facts.get("maskcls"),
    }  # fmt: skip
    if scores:
        row |= {"oof": page_score(scores.oof), "single": page_score(scores.single)}
        row |= {"folds": scores.folds, "data": scores.data}
    return row


def page_score(scored: Scored | None) -> dict[str, Any] | None:
    """Return the score of a run on some rows for the page."""
    if scored is None:
        return None
    return {"rows": scored.rows.number, "f1": scored.f1, "interval": scored.interval, "sd": scored.f1_sd}


def current_time() -> str:
    """Return the time to the minute."""
    return time.strftime("%Y-%m-%d %H:%M")
