"""Sinks of a run's numbers beside log.jsonl and the terminal."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlparse

import pandas as pd

from maskcls.core.registry import Registry
from maskcls.core.table import Note
from maskcls.core.task import CLASSES
from maskcls.storage.run import Run
from maskcls.system.network import has_netrc

registry = Registry("logger")
LogFn = Callable[[Mapping[str, Any]], None]  # takes the numbers of an epoch
MODES = Literal["auto", "online", "offline", "disabled"]
LIMITS: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": 20, "finish_timeout": 60}  # seconds


class Logger(Protocol):
    """Where numbers go: begun once, logged to after each epoch, ended with the closing metrics."""

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Open the sink for a run."""

    def log(self, numbers: Mapping[str, Any]) -> None:
        """Take the numbers of an epoch (fold, epoch, loss, f1, …)."""

    def end(self, metrics: Mapping[str, Any], failed: bool = False) -> None:
        """Take the closing metrics, where there are any, and close."""


class Wandb:
    """A Weights & Biases run for each job; a failure of theirs ends the logging, never the training."""

    def __init__(
        self, note: Note, project: str, entity: str | None, group: str | None, tags: list[str], mode: str
    ) -> None:
        self.note, self.mode = note, mode
        self.init_args: dict[str, Any] = {"project": project, "entity": entity, "group": group, "tags": tags}
        self.run: Any = None

    def call_safely(self, call: Callable[[], Any]) -> Any:
        """Call wandb; report its failure once and stop logging to it."""
        try:
            return call()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.note(f"wandb failed ({reason}); the run goes on without it, and log.jsonl is whole")
            self.run = None

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start the run, in the mode that was decided beforehand, with the resolved config."""
        self.dir, fold = run, config["fold"]
        name = run.id if fold is None else f"{run.id}-fold{fold}"
        self.open(run.path, config, name=name, job_type="run" if fold is None else "fold")
        self.call_safely(lambda: self.define_metrics(config["folds"]))

    def open(self, folder: Path, config: Mapping[str, Any], **names: str) -> None:
        """Start a run whose files lie in a folder."""
        self.run = self.call_safely(lambda: self.init(dict(config), **names, dir=str(folder)))

    def init(self, config: dict[str, Any], **where: str) -> Any:
        """Return a new run of wandb; what it says against its own variables and settings is raised here too."""
        import wandb

        limits = {key: value for key, value in LIMITS.items() if key in wandb.Settings.model_fields}
        places = (
            self.init_args | where | {"mode": resolve_mode(self.note, self.mode), "settings": wandb.Settings(**limits)}
        )
        return wandb.init(config=config, reinit="finish_previous", **places)

    def log_tables(
        self, name: str, folder: Path, head: Sequence[str], tables: Mapping[str, Sequence[Sequence[str]]]
    ) -> None:
        """Log tables, with the plots and the page of a folder, as a run of their own."""
        self.open(folder, {}, name=name, job_type="table")
        columns: list[Any] = [" ".join(column.split()) for column in head]

        def fill() -> None:
            import wandb

            media: dict[str, Any] = {key: wandb.Table(columns, list(map(list, rows))) for key, rows in tables.items()}
            media |= {f"plots/{file.stem}": wandb.Image(str(file)) for file in folder.glob("*.png")}
            media |= {file.stem: wandb.Html(str(file)) for file in folder.glob("*.html")}
            self.run.log(media)

        if self.run:
            self.call_safely(fill)
        self.end({})

    def define_metrics(self, folds: int) -> None:
        """Draw each fold's numbers over its own epochs."""
        for k in range(folds if self.run else 0):
            self.run.define_metric(f"fold{k}/*", step_metric=f"fold{k}/epoch")

    def log(self, numbers: Mapping[str, Any]) -> None:
        """Log an epoch under its fold: fold0/f1, fold0/loss, …"""
        row = {f"fold{numbers['fold']}/{key}": value for key, value in numbers.items() if key != "fold"}
        self.call_safely(lambda: self.run and self.run.log(row))

    def end(self, metrics: Mapping[str, Any], failed: bool = False) -> None:
        """Write the summary, the plots and the tables, and finish: a second run never finds this one open."""
        if self.run and metrics:
            self.call_safely(lambda: self.log_summary(metrics))
        if self.run:
            self.call_safely(lambda: self.run.finish(exit_code=int(failed)))
        self.run = None

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Log what stands only at the end of a run: summary, confusion matrix, classes, plots, the report."""
        import wandb

        parts = {key: metrics[key] for key in ("oof", "eval", "folds_mean") if metrics[key]}
        self.run.summary.update(pd.json_normalize(parts, sep="/").iloc[0].to_dict())
        classes = pd.DataFrame(metrics["per_class"])
        matrix = pd.DataFrame(metrics["confusion"], columns=list(CLASSES)).assign(truth=CLASSES)
        media = {f"plots/{file.stem}": wandb.Image(str(file)) for file in sorted(self.dir.plots_dir.glob("*.png"))}
        tables = {"per_class": wandb.Table(dataframe=classes), "confusion": wandb.Table(dataframe=matrix)}
        self.run.log(media | tables | {"report": wandb.Html(str(self.dir.report_path))})


@registry.register
def none(note: Note) -> None:
    """Nothing beside log.jsonl and the terminal."""


@registry.register
def wandb_(
    note: Note, *, project: str = "maskcls", entity: str | None = None, group: str | None = None,
    tags: list[str] = [], mode: MODES = "auto",
) -> Logger:  # fmt: skip
    """Weights & Biases: offline unless you are logged in or WANDB_MODE says otherwise; a sweep's jobs share a group."""
    return Wandb(note, project, entity, group or os.environ.get("MASKCLS_SWEEP"), tags, mode)


def resolve_mode(note: Note, mode: str) -> str:
    """Return the mode beforehand, so that wandb never asks or waits: without a key or a way to its server, offline."""
    mode = os.environ.get("WANDB_MODE", mode) if mode == "auto" else mode
    if mode not in ("auto", "online"):
        return mode
    address = urlparse(os.environ.get("WANDB_BASE_URL") or server_url())
    if not (os.environ.get("WANDB_API_KEY") or has_netrc(address.hostname or "")):
        if mode == "online":
            note("wandb has no key here: this run is kept offline (wandb login, or WANDB_API_KEY)")
        return "offline"
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        note(f"wandb's server cannot be reached ({error}): this run is kept offline")
        return "offline"
    return "online"


def server_url() -> str:
    """Return the address of the server that wandb would speak to."""
    import wandb

    try:  # the user's own settings file is read here alone, which is no part of wandb's public face
        from wandb.sdk import wandb_setup

        return str(wandb_setup.singleton().settings.base_url)
    except (ImportError, AttributeError):
        return str(wandb.Settings().base_url)
