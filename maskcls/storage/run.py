"""Run: one run directory, new, in progress or finished."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from maskcls.core.config import Config
from maskcls.core.errors import MAX_MESSAGE, RunError, unknown_message
from maskcls.core.table import group_columns, scoring_columns
from maskcls.core.task import Task
from maskcls.core.task_options import read_task
from maskcls.storage.predictions import FoldPredictions, Predictions
from maskcls.storage.run_files import read_about, read_history, read_metrics, read_table
from maskcls.storage.run_paths import Part, RunPaths
from maskcls.system.files import content_hash, remove_stale_parts, write_json, write_text
from maskcls.system.safe_reading import read_json, read_text, read_yaml

PRECISIONS = ("fp32", "bf16", "fp16")


class NoAliasDumper(yaml.SafeDumper):
    """Writes equal values in full, never as YAML aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: no value is written as an alias."""
        return True


def check_no_links(folder: Path) -> None:
    """Raise RunError if a folder to write to contains links, pipes or devices: writes could leave the folder."""
    for path in (folder, *folder.glob("fold*")) if folder.is_dir() else ():
        with os.scandir(path) as entries:
            for entry in entries:
                if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                    what = f"{entry.path} is not a regular file or folder"
                    raise RunError(f"{what}. Delete it: a run never writes through links")


def open_no_follow(name: str, flags: int) -> int:
    """Open a file to write to, never through a link."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


class Run(RunPaths):
    """A run directory, <runs_dir>/<name>-<hash>: new, in progress or finished."""

    @classmethod
    def of(cls, cfg: Config) -> Run:
        """Return the run of a config; its hash covers all that determines the results."""
        return cls(Path(cfg.runs_dir) / f"{cfg.name}-{content_hash(run_content(cfg))}")

    @classmethod
    def open(cls, name: str | Path, runs_dir: str | Path = "runs") -> Run:
        """Return a finished run by its folder or its name in `runs_dir`; RunError if it is not finished or broken."""
        run = cls(find_run(name, Path(runs_dir)))
        if not os.path.lexists(run.metrics_path):
            raise RunError(f"run {run.path} is not finished (no metrics.json). Run it again to resume")
        read_json(run.metrics_path)
        run.check()
        return run

    def check(self) -> None:
        """Raise RunError for a config that is truncated or has an unknown precision, and for a broken table."""
        if "hardware" not in self.config:  # the last key of the file
            raise RunError(f"{self.config_path} is truncated. Run it again under another name=")
        if (precision := self.config.get("precision")) not in list(PRECISIONS):  # it may be unhashable
            what = f"precision must be one of {', '.join(PRECISIONS)}, got {str(precision)[:40]!r}"
            raise RunError(f"{self.config_path}: {what}")
        self.task, self.table  # noqa: B018  # a broken table is reported now

    @cached_property
    def task(self) -> Task:
        """The task: the attributes and classes that the run predicts; RunError if the config has an invalid one."""
        try:
            return read_task(self.config.get("task"))
        except ValueError as error:
            raise RunError(f"{self.config_path}: {error}"[:MAX_MESSAGE]) from error

    @property
    def is_done(self) -> bool:
        """True if the closing metrics are on disk."""
        return os.path.isfile(self.metrics_path)

    @property
    def is_bound(self) -> bool:
        """True if the digest of the data is on disk."""
        return self.data_path.exists()

    def fold_is_done(self, k: int) -> bool:
        """Return True if the fold's predictions are on disk."""
        return self.fold_predictions_path(k).exists()

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The config as plain data, read once."""
        return read_yaml(self.config_path)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The image table, read once: id, person, label, part, fold, scored, content ("" in older runs), and groups."""
        return read_table(self.table_path, self.task)

    @property
    def val_table(self) -> pd.DataFrame:
        """The rows of the out-of-fold score."""
        return self.table[(self.table["part"] == "train") & self.table["scored"]].reset_index(drop=True)

    @property
    def eval_table(self) -> pd.DataFrame:
        """The evaluation rows, in info.csv's order."""
        return self.table[self.table["part"] == "eval"].reset_index(drop=True)

    def metrics(self) -> dict[str, Any] | None:
        """Return the closing metrics, None if the run is not finished."""
        return read_metrics(self.metrics_path, self.task) if os.path.lexists(self.metrics_path) else None

    @cached_property
    def bias(self) -> list[float] | None:
        """The bias of each class's log-probability that was fitted by `decision`, (C,), None if there is none."""
        decision = (self.metrics() or {}).get("decision")
        return decision and decision["bias"]

    @property
    def trained_on_eval(self) -> bool:
        """True if the run was trained on its evaluation images, with pseudo-labels; runs of older versions were not."""
        pseudo = self.config.get("pseudo", "none")
        return bool((pseudo.get("name") if isinstance(pseudo, Mapping) else pseudo) != "none")

    def history(self) -> list[dict[str, Any]]:
        """Return the numbers of each fold and epoch."""
        return read_history(self.history_path)

    def provenance(self) -> dict[str, Any]:
        """Return facts about machine, software and command, none if there is no file."""
        return read_about(self.about_path)

    def predictions(self, part: Part) -> Predictions:
        """Return the out-of-fold (oof) or evaluation (eval) predictions."""
        return Predictions.read(self.predictions_path(part), self.task)

    def fold_predictions(self, k: int) -> FoldPredictions:
        """Return the predictions of fold k."""
        return FoldPredictions.read(self.fold_predictions_path(k), self.task)

    def create(self, config: Mapping[str, Any]) -> None:
        """Create the directory, write the config, and delete unfinished files of a killed process."""
        check_no_links(self.path)
        remove_stale_parts(self.path)
        write_text(self.config_path, yaml.dump(dict(config), Dumper=NoAliasDumper, sort_keys=False, allow_unicode=True))

    def write_table(self, table: pd.DataFrame) -> None:
        """Write the image table without paths."""
        columns = table[[*scoring_columns(self.task), "content", *group_columns(table)]]
        write_text(self.table_path, columns.to_csv(index=False, lineterminator="\n"))

    def bind_data(
        self, digest: str, num_images: int, origins: Mapping[str, str] | None = None, by_size: Callable[[], str] = str
    ) -> str | None:
        """Record the data of a new run; raise RunError if a later call has other data, weights or runs.

        `origins` are digests of the weights and runs that it depends on. Return a note if the run is of an older
        version, which identified images by file size, with the digest `by_size()`.
        """
        current = dict(origins or {})
        if not self.is_bound:
            write_json(self.data_path, {"hash": digest, "photos": num_images, "by": "content", "from": current})
            return None
        recorded = read_json(self.data_path)
        is_older = recorded.get("by") != "content"
        now = by_size() if is_older else digest
        if (recorded.get("hash"), recorded.get("photos")) != (now, num_images):
            raise RunError(
                f"{self.path} was started on different data ({recorded.get('photos')} images, hash "
                f"{recorded.get('hash')}; now {num_images}, hash {now}). Choose another name= or delete the folder"
            )
        if changed := differing_origins(current, recorded.get("from")):
            what = f"{self.path} was started from different weights or predictions: {changed[0]} has changed"
            raise RunError(f"{what}. Choose another name= or delete the folder")
        note = f"{self.id} is of an older version, which identified images by file size: the sizes are unchanged, "
        return f"{note}the contents are unknown" if is_older else None

    def add_provenance(self, **facts: Any) -> None:
        """Add facts about machine and command to about.json; a broken file is replaced, for no result depends on it."""
        recorded = {}
        with contextlib.suppress(RunError):
            recorded = read_json(self.about_path) if self.about_path.exists() else {}
        write_json(self.about_path, recorded | facts)

    def append_epoch(self, numbers: Mapping[str, Any]) -> None:
        """Append the numbers of an epoch to log.jsonl."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.history_path, "ab+", opener=open_no_follow) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            is_cut = file.read(1) not in (b"", b"\n")  # a killed process wrote half a line
            file.write(("\n" * is_cut + json.dumps(dict(numbers)) + "\n").encode())


def differing_origins(current: Mapping[str, str], recorded: Any) -> list[str]:
    """Return the keys with different digests; a key without a recorded digest does not count."""
    digests = recorded if isinstance(recorded, Mapping) else {}
    return [key for key, digest in current.items() if digests.get(key, digest) != digest]


def run_content(cfg: Config) -> dict[str, Any]:
    """Return the content that a run's hash covers: of CSV files their rows, of another run its name and data."""
    content = cfg.hashed_items()
    for component in (cfg.data, cfg.extra, cfg.labels, cfg.augmentation):
        if component.content is not None:
            content[component.group] = component.content
    for group, key in (("model", "init"), ("pseudo", "run")):
        if other := content[group].get(key):
            content[group] = content[group] | {key: source_content(other)}
    if teachers := content["pseudo"].get("runs"):
        content["pseudo"] = content["pseudo"] | {"runs": [source_content(other) for other in teachers]}
    return content


def source_content(other: str) -> list[str]:
    """Return what identifies another run that a run depends on: its name, and the digest of its data."""
    source = Run(Path(other))
    return [source.id, *([read_text(source.data_path)] if os.path.lexists(source.data_path) else [])]


def find_run(name: str | Path, runs_dir: Path) -> Path:
    """Return a run's folder by its path or its name; RunError with a suggestion for an unknown name."""
    for path in (Path(name), runs_dir / name):
        if Run(path).config_path.is_file():
            return path
    if Path(name).is_absolute() or os.path.lexists(name):
        found = "has no config.yaml" if os.path.lexists(name) else "does not exist"
        raise RunError(f"{name} {found}: expected the folder of a run, or its name in {runs_dir}")
    names = [path.parent.name for path in runs_dir.glob("*/config.yaml")]
    message = unknown_message("run", Path(name).name, names)
    raise RunError(message if names else f"{message}: {runs_dir} contains no runs")


def check_finished(run: str | None) -> str | None:
    """Return the folder of a finished run, or None; ValueError for any other folder."""
    if run is not None and not Run(Path(run)).is_done:
        raise ValueError(f"{run!r} is not the folder of a finished run (no metrics.json)")
    return run


def check_has_eval(run: str) -> str:
    """Return the folder of a run that has predictions of an evaluation set; ValueError for any other folder."""
    if not os.path.isfile(Run(Path(run)).predictions_path("eval")):
        raise ValueError(f"{run!r} is not the folder of a finished run with an evaluation set (no eval.csv)")
    return run
