"""Experiment loggers besides log.jsonl and the terminal."""

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
from maskcls.system.credentials import has_netrc

registry = Registry("logger")
LogFn = Callable[[Mapping[str, Any]], None]  # logs one epoch
MODES = Literal["auto", "online", "offline", "disabled"]
LIMITS: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": 20, "finish_timeout": 60}  # seconds


class Logger(Protocol):
    """An experiment logger: opened once, called after each epoch, closed with the closing metrics."""

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start logging a run."""

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch (fold, epoch, loss, f1, …)."""

    def end(self, metrics: Mapping[str, Any], failed: bool = False) -> None:
        """Log the closing metrics, if any, and close."""


class Wandb:
    """Weights & Biases logger, one W&B run per job; an error of W&B stops the logging, not the training."""

    def __init__(
        self, note: Note, project: str, entity: str | None, group: str | None, tags: list[str], mode: str
    ) -> None:
        self.note, self.mode = note, mode
        self.init_args: dict[str, Any] = {"project": project, "entity": entity, "group": group, "tags": tags}
        self.run: Any = None

    def call_safely(self, call: Callable[[], Any]) -> Any:
        """Call wandb; on an error, report it once and stop logging."""
        try:
            return call()
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self.note(f"W&B logging stopped ({reason}). Training continues; log.jsonl is complete")
            self.run = None

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start the W&B run, with the resolved config."""
        self.dir, fold = run, config["fold"]
        name = run.id if fold is None else f"{run.id}-fold{fold}"
        self.open(run.path, config, name=name, job_type="run" if fold is None else "fold")
        self.call_safely(lambda: self.define_metrics(config["folds"]))

    def open(self, folder: Path, config: Mapping[str, Any], **names: str) -> None:
        """Start a W&B run with its files in a folder."""
        self.run = self.call_safely(lambda: self.init(dict(config), **names, dir=str(folder)))

    def init(self, config: dict[str, Any], **names: str) -> Any:
        """Return a new W&B run; invalid W&B variables and settings raise here, too."""
        import wandb

        limits = {key: value for key, value in LIMITS.items() if key in wandb.Settings.model_fields}
        args = self.init_args | names | {"mode": resolve_mode(self.note, self.mode)}
        return wandb.init(config=config, reinit="finish_previous", settings=wandb.Settings(**limits), **args)

    def log_tables(
        self, name: str, folder: Path, head: Sequence[str], tables: Mapping[str, Sequence[Sequence[str]]]
    ) -> None:
        """Log tables, with the plots and pages of a folder, as a separate W&B run."""
        self.open(folder, {}, name=name, job_type="table")
        columns: list[Any] = [" ".join(column.split()) for column in head]

        def log_media() -> None:
            import wandb

            media: dict[str, Any] = {key: wandb.Table(columns, list(map(list, rows))) for key, rows in tables.items()}
            media |= {f"plots/{file.stem}": wandb.Image(str(file)) for file in folder.glob("*.png")}
            media |= {file.stem: wandb.Html(str(file)) for file in folder.glob("*.html")}
            self.run.log(media)

        if self.run:
            self.call_safely(log_media)
        self.end({})

    def define_metrics(self, folds: int) -> None:
        """Plot each fold's metrics over its own epochs."""
        for k in range(folds if self.run else 0):
            self.run.define_metric(f"fold{k}/*", step_metric=f"fold{k}/epoch")

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch under its fold: fold0/f1, fold0/loss, …"""
        values = {f"fold{row['fold']}/{key}": value for key, value in row.items() if key != "fold"}
        self.call_safely(lambda: self.run and self.run.log(values))

    def end(self, metrics: Mapping[str, Any], failed: bool = False) -> None:
        """Log summary, plots and tables and finish the W&B run, before another one can start."""
        if self.run and metrics:
            self.call_safely(lambda: self.log_summary(metrics))
        if self.run:
            self.call_safely(lambda: self.run.finish(exit_code=int(failed)))
        self.run = None

    def log_summary(self, metrics: Mapping[str, Any]) -> None:
        """Log the summary, confusion matrix, class scores, plots and report of a finished run."""
        import wandb

        scores = {key: metrics[key] for key in ("oof", "eval", "folds_mean") if metrics[key]}
        self.run.summary.update(pd.json_normalize(scores, sep="/").iloc[0].to_dict())
        classes = pd.DataFrame(metrics["per_class"])
        matrix = pd.DataFrame(metrics["confusion"], columns=list(CLASSES)).assign(truth=CLASSES)
        media = {f"plots/{file.stem}": wandb.Image(str(file)) for file in sorted(self.dir.plots_dir.glob("*.png"))}
        tables = {"per_class": wandb.Table(dataframe=classes), "confusion": wandb.Table(dataframe=matrix)}
        self.run.log(media | tables | {"report": wandb.Html(str(self.dir.report_path))})


@registry.register
def none(note: Note) -> None:
    """Only log.jsonl and the terminal."""


@registry.register
def wandb_(
    note: Note, *, project: str = "maskcls", entity: str | None = None, group: str | None = None,
    tags: list[str] = [], mode: MODES = "auto",
) -> Logger:  # fmt: skip
    """Weights & Biases: offline unless you are logged in or WANDB_MODE is set; the jobs of a sweep share a group."""
    return Wandb(note, project, entity, group or os.environ.get("MASKCLS_SWEEP"), tags, mode)


def resolve_mode(note: Note, mode: str) -> str:
    """Return the W&B mode: offline without an API key or a reachable server, so that wandb never prompts or waits."""
    mode = os.environ.get("WANDB_MODE", mode) if mode == "auto" else mode
    if mode not in ("auto", "online"):
        return mode
    address = urlparse(os.environ.get("WANDB_BASE_URL") or server_url())
    if not (os.environ.get("WANDB_API_KEY") or has_netrc(address.hostname or "")):
        if mode == "online":
            note("W&B: no API key found; logging offline. Run `wandb login` or set WANDB_API_KEY")
        return "offline"
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        note(f"W&B: cannot reach the server ({error}); logging offline")
        return "offline"
    return "online"


def server_url() -> str:
    """Return the URL of the W&B server."""
    import wandb

    try:  # reads the user's settings file; not part of wandb's public API
        from wandb.sdk import wandb_setup

        return str(wandb_setup.singleton().settings.base_url)
    except (ImportError, AttributeError):
        return str(wandb.Settings().base_url)
