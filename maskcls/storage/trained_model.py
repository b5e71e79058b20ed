"""TrainedModel: the weights that a prediction uses, from a finished run, from some folds of a run, or from one file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from maskcls.core.config import UNHASHED_OPTIONS
from maskcls.core.errors import MAX_MESSAGE, RunError
from maskcls.core.table import num_folds
from maskcls.core.task import Task
from maskcls.storage.checkpoint import checkpoint_task, load_fold_checkpoint
from maskcls.storage.run import PRECISIONS, Run, find_run

FOLD = re.compile(r"fold(0|[1-9][0-9]{0,3})")
NO_OOF = "no out-of-fold score"


@dataclass(frozen=True)
class TrainedModel:
    """Checkpoints of one or several folds, and the run that they belong to."""

    path: Path  # of the run, the fold or the checkpoint, as the user named it
    files: list[Path]  # one checkpoint per fold
    run: Run | None  # None: a checkpoint outside a run directory
    note: str = ""  # what the model is, unless it is a finished run

    @property
    def name(self) -> str:
        """The name for tables and messages: fold and file with the run that they belong to."""
        below = [] if self.run is None else self.path.absolute().relative_to(self.run.path.absolute()).parts
        return "/".join([self.run.path.absolute().name, *below]) if self.run else self.path.name

    @property
    def has_oof(self) -> bool:
        """True if there are predictions out of fold: the model is a finished run."""
        return not self.note

    @cached_property
    def contents(self) -> list[dict[str, Any]]:
        """The content of each checkpoint, read once."""
        contents = [load_fold_checkpoint(file) for file in self.files]
        for content, file in zip(contents, self.files, strict=True):
            if self.run and content["classes"] != list(self.run.task.classes):
                raise RunError(f"{file} was trained for other classes than its run: {content['classes']}"[:MAX_MESSAGE])
        return contents

    @property
    def config(self) -> Mapping[str, Any]:
        """The options of the run, of which a checkpoint repeats those that prediction needs."""
        return self.run.config if self.run else self.contents[0]

    @property
    def task(self) -> Task:
        """The task: the attributes and classes that the model predicts."""
        return self.run.task if self.run else checkpoint_task(self.contents[0], self.files[0])

    @property
    def precision(self) -> str:
        """The precision of the training; checkpoints of older versions do not have it."""
        precision = self.config.get("precision", PRECISIONS[0])
        if precision not in list(PRECISIONS):
            raise RunError(f"{self.config_path}: precision must be one of {', '.join(PRECISIONS)}")
        return str(precision)

    @property
    def bias(self) -> list[float] | None:
        """The bias of each class's log-probability, (C,), of a finished run that has fitted one."""
        return self.run.bias if self.run and self.has_oof else None

    @property
    def config_path(self) -> Path:
        """The file that `config` comes from."""
        return self.run.config_path if self.run else self.files[0]

    def with_note(self, note: str) -> TrainedModel:
        """Return the model with a note on what it is and the epochs of its checkpoints."""
        plain = UNHASHED_OPTIONS["decision"]
        has_decision = self.run is not None and self.config.get("decision", plain) != plain
        without = "; predicts without the run's decision, which needs all folds" * has_decision
        return TrainedModel(self.path, self.files, self.run, f"{note}{describe_epochs(self)}; {NO_OOF}{without}")


def open_model(name: str | Path, runs_dir: str | Path = "runs") -> TrainedModel:
    """Return a finished run, the trained folds of an unfinished one, a fold's folder or a checkpoint file.

    `name` is its path or its path in `runs_dir`; RunError if it is something else or has no weights.
    """
    for path in (Path(name), Path(runs_dir) / name):
        if path.is_file():
            return open_checkpoint(path)
        if path.is_dir() and FOLD.fullmatch(path.absolute().name):
            return open_fold(path)
    run = Run(find_run(name, Path(runs_dir)))
    return open_whole_run(run) if os.path.lexists(run.metrics_path) else open_folds(run)


def open_whole_run(run: Run) -> TrainedModel:
    """Return the model of a finished run."""
    run = Run.open(run.path)
    return TrainedModel(run.path, [run.checkpoint_path(k) for k in range(num_folds(run.table))], run)


def open_folds(run: Run) -> TrainedModel:
    """Return the model of an unfinished run: the best weights so far of each fold that has any."""
    run.check()
    files = [file for k in range(num_folds(run.table)) if (file := find_weights(run, k))]
    if not files:
        raise RunError(f"run {run.path} is not finished and has no weights yet. Run it again to resume")
    model = TrainedModel(run.path, files, run)
    return model.with_note(f"run is not finished: {len(files)} of {num_folds(run.table)} folds, ")


def open_fold(folder: Path) -> TrainedModel:
    """Return the model of a fold's folder: its best weights so far."""
    run = Run(folder.absolute().parent)
    file = find_weights(run, fold_index(folder))
    if file is None:
        raise RunError(f"{folder} has no weights (best.pt, epoch*.pt or last.pt)")
    return name_model(folder, folder / file.name)


def open_checkpoint(path: Path) -> TrainedModel:
    """Return the model of one checkpoint file."""
    return name_model(path, path)


def name_model(path: Path, file: Path) -> TrainedModel:
    """Return the model of one checkpoint, with its run if it is in a run directory."""
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    run = Run(folder.parent)
    if not FOLD.fullmatch(folder.name) or not run.config_path.is_file():
        return TrainedModel(path, [file], None).with_note("one checkpoint outside a run directory, ")
    run.check()
    k, count = fold_index(folder), num_folds(run.table)
    if k >= count:
        raise RunError(f"{folder} is not a fold of {run.path}, which has {count} folds")
    return TrainedModel(path, [file], run).with_note(f"1 of {count} folds, ")


def fold_index(folder: Path) -> int:
    """Return the index of a fold by the name of its folder."""
    return int(folder.absolute().name.removeprefix("fold"))


def find_weights(run: Run, k: int) -> Path | None:
    """Return the checkpoint of fold k that predicts best: of a finished fold, else of its best or last epoch so far.

    A fold that was concluded and is trained on has a best.pt of its earlier epochs.
    """
    epochs = stored_epochs(run, k)
    if run.checkpoint_path(k).is_file() and (run.fold_is_done(k) or not epochs):
        return run.checkpoint_path(k)
    if not epochs:
        return run.state_path(k) if run.state_path(k).is_file() else None
    config = run.config if run.config_path.is_file() else {}
    key, sign = ("val_loss", -1.0) if config.get("monitor") == "val_loss" else ("f1", 1.0)
    rows = [row for row in run.history() if row["fold"] == k and key in row] if config.get("select") == "best" else []
    scores = {row["epoch"]: sign * row[key] for row in rows}
    return run.epoch_path(k, max(epochs, key=lambda epoch: (scores.get(epoch, -inf), -epoch if scores else epoch)))


def stored_epochs(run: Run, k: int) -> list[int]:
    """Return the epochs whose weights fold k keeps."""
    names = [re.fullmatch(r"epoch(\d{1,9})\.pt", path.name) for path in run.fold_dir(k).glob("epoch*.pt")]
    return sorted(int(name[1]) for name in names if name)


def describe_epochs(model: TrainedModel) -> str:
    """Return the epochs of a model's checkpoints, of how many."""
    total = f" of {model.run.config.get('epochs')}" if model.run else ""
    texts = [f"epoch{'s' * (len(epochs) > 1)} {', '.join(map(str, epochs))}"
             for epochs in map(checkpoint_epochs, model.contents)]  # fmt: skip
    if len(set(texts)) > 1:
        texts = [f"fold {fold_index(file.parent)} {text}" for file, text in zip(model.files, texts, strict=True)]
    return f"{', '.join(dict.fromkeys(texts))}{total}"


def checkpoint_epochs(content: Mapping[str, Any]) -> list[int]:
    """Return the epochs whose weights a checkpoint has."""
    epochs = content.get("epoch")
    return [epoch for epoch in (epochs if isinstance(epochs, list) else [epochs]) if type(epoch) is int]
