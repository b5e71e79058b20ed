"""Scores and predicted classes of many runs in little memory; paired differences equal those of `maskcls compare`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit

from maskcls.core.table import content_differs
from maskcls.core.task import FloatArray, IntArray, Task, TaskKey
from maskcls.evaluation.intervals import MIN_PEOPLE, PersonCounts, confidence_interval, f1_of_counts, person_counts
from maskcls.reporting.comparison import Record, mean_predictions, probs_per_fold
from maskcls.storage.run import Run

Classes = npt.NDArray[np.unsignedinteger[Any]]  # 8 bits, of many classes 16


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Images with a class that runs are scored on, in the order of their ids: validation rows or evaluation set."""

    number: int
    part: str  # oof | evaluation
    ids: list[str]
    labels: IntArray  # (N,)
    groups: list[str]  # person of each image
    contents: pd.Series  # by id: digest of the image file, empty if unknown
    task: Task

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The ids as a column."""
        return pd.DataFrame({"id": self.ids})

    @cached_property
    def people(self) -> IntArray:
        """The number of each image's person, from 0, (N,)."""
        return pd.factorize(np.asarray(self.groups, dtype=object))[0].astype(np.int64)

    @property
    def num_people(self) -> int:
        """Number of people."""
        return int(self.people.max(initial=-1)) + 1

    @property
    def t_quantile(self) -> float | None:
        """Student's t of a 95 % interval over the people, None if there are too few for an interval."""
        return float(stdtrit(self.num_people - 1, 0.975)) if self.num_people >= MIN_PEOPLE else None

    @cached_property
    def digests(self) -> tuple[bytes, bytes, bytes]:
        """Digests of the ids, of the labels and of the people."""
        ids, groups = ("\n".join(names).encode("utf-8", "surrogatepass") for names in (self.ids, self.groups))
        first, second, third = (hashlib.blake2b(text, digest_size=16) for text in (ids, self.labels.tobytes(), groups))
        return first.digest(), second.digest(), third.digest()


class Scored(NamedTuple):
    """The predicted classes of a run on some rows, one table per fold for an evaluation set, and their score."""

    rows: ScoredRows
    preds: Classes  # (tables, N)
    f1: float  # mean over the tables
    interval: Sequence[float] | None
    f1_sd: float | None  # over the tables, if there are several

    def tallies(self) -> list[PersonCounts]:
        """Return the counts per person of each table."""
        labels, groups, task = self.rows.labels, self.rows.groups, self.rows.task
        return [person_counts(labels, preds.astype(np.int64), groups, task) for preds in self.preds]


@dataclass(frozen=True)
class BoardScores:
    """The scores of a run: out of fold and, with a labelled evaluation set, of its single folds."""

    oof: Scored
    single: Scored | None
    folds: str  # digest of the folds of the validation rows
    data: str  # digest of the ids of all training rows

    @property
    def primary(self) -> Scored:
        """The predictions to compare by, as in `RunScores.primary`."""
        return self.single or self.oof

    def compare(self, other: BoardScores) -> Record:
        """Return the difference to other scores, as `RunScores.compare` does, or the reason why there is none."""
        for scored, reference in ((self.primary, other.primary), (self.oof, other.oof)):
            if is_comparable(scored.rows, reference.rows):
                interval = confidence_interval(scored.tallies(), reference.tallies())
                return {"f1": scored.f1 - reference.f1, "interval": interval, "rows": scored.rows.part}
        return {"why": explain(self, other)}


def is_comparable(rows: ScoredRows, other: ScoredRows) -> bool:
    """Return True if two kinds of rows are the same images of the same people, with the same labels of one task."""
    is_same = rows is other or (rows.digests == other.digests and rows.task.has_classes_of(other.task))
    return is_same and (rows is other or not content_differs(rows.contents, other.contents).any())


def explain(scores: BoardScores, other: BoardScores) -> str:
    """Return why two runs cannot be compared."""
    rows, others = scores.oof.rows, other.oof.rows
    if not rows.task.has_classes_of(others.task):
        return "another task"
    counts = f"{len(rows.ids)} and {len(others.ids)} images"
    if rows.digests[0] != others.digests[0]:
        return f"other folds are scored: {counts}" if scores.data == other.data else f"other rows: {counts}"
    if rows.digests[1] != others.digests[1]:
        return f"other labels: of {int((rows.labels != others.labels).sum())} images"
    if rows.digests[2] != others.digests[2]:
        return f"other people of the same images: {rows.num_people} and {others.num_people}"
    return f"other image files: {int(content_differs(rows.contents, others.contents).sum())} of the same names"


class TableRows(NamedTuple):
    """What all runs with one image table and task share."""

    table: pd.DataFrame
    val: ScoredRows
    evaluation: ScoredRows | None  # None without labels
    folds: str  # digest of the folds of the validation rows
    data: str  # digest of the ids of all training rows


@dataclass
class ScoreReader:
    """Reader of the scores of finished runs; equal rows are kept once."""

    rows: dict[tuple[Any, ...], ScoredRows] = field(default_factory=dict)
    tables: dict[tuple[int, TaskKey], TableRows] = field(default_factory=dict)  # by the identity of the table

    def read(self, run: Run) -> BoardScores:
        """Return the scores of a run, from its prediction files; RunError or DataError if they are damaged."""
        rows = self.tables.get((id(run.table), run.task.key)) or self.split(run)
        oof = mean_predictions([run], rows.val.frame, "oof")
        rest = rows.evaluation
        single = None if rest is None else score(rest, probs_per_fold(run, rest.ids))
        return BoardScores(score(rows.val, [oof]), single, rows.folds, rows.data)

    def split(self, run: Run) -> TableRows:
        """Return the rows of a run's table that it is scored on."""
        val, evaluation = (rows.query("label >= 0").sort_values("id") for rows in (run.val_table, run.eval_table))
        ids = run.table.loc[run.table["part"] == "train", "id"].sort_values()
        scored = None if evaluation.empty else self.share("evaluation", evaluation, run.task)
        own = self.share("oof", val, run.task)
        found = TableRows(run.table, own, scored, digest_of(val["fold"]), digest_of(ids))
        return self.tables.setdefault((id(run.table), run.task.key), found)

    def share(self, part: str, table: pd.DataFrame, task: Task) -> ScoredRows:
        """Return the rows of a table, the same object for equal ones."""
        labels, contents = table["label"].to_numpy(np.int64), table.set_index("id")["content"]
        digests = (digest_of(table[name]) for name in ("id", "person", "content"))
        key = (part, labels.tobytes(), *digests, task.key)
        new = ScoredRows(len(self.rows), part, table["id"].tolist(), labels, table["person"].tolist(), contents, task)
        return self.rows.setdefault(key, new)


def score(rows: ScoredRows, probs: Sequence[FloatArray]) -> Scored:
    """Return the predicted classes of some tables of probabilities (N, C), with their score."""
    kind = np.uint8 if rows.task.num_classes <= 256 else np.uint16
    preds: Classes = np.stack([table.argmax(1) for table in probs]).astype(kind)
    tallies = Scored(rows, preds, 0.0, None, None).tallies()
    f1 = [float(f1_of_counts(people.sum(0))) for people in tallies]
    sd = float(np.std(f1, ddof=1)) if len(f1) > 1 else None
    return Scored(rows, preds, float(np.mean(f1)), confidence_interval(tallies), sd)


def digest_of(values: pd.Series[Any]) -> str:
    """Return 16 hexadecimal digits of a column."""
    text = "\n".join(map(str, values)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()
