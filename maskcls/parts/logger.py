"""Sinks of a run's numbers beside log.jsonl and the terminal."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol
from urllib.parse import urlparse

import pandas as pd

from maskcls.labels import CLASSES
from maskcls.registry import Registry
from maskcls.rundir import RunDir

word = Registry("logger")
Note = Callable[[str], None]
MODES = Literal["auto", "online", "offline", "disabled"]


class Sink(Protocol):
    """Where numbers go: begun once, logged to after each epoch, ended with the closing metrics."""

    def begin(self, run: RunDir, config: Mapping[str, Any]) -> None:
        """Open the sink for a run."""

    def log(self, numbers: Mapping[str, Any]) -> None:
        """Take the numbers of an epoch (fold, epoch, loss, f1, …)."""

    def end(self, metrics: Mapping[str, Any]) -> None:
        """Take the closing metrics and close."""


class Silence:
    """A sink that keeps nothing."""

    def begin(self, run: RunDir, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log(self, numbers: Mapping[str, Any]) -> None:
        """Do nothing."""

    def end(self, metrics: Mapping[str, Any]) -> None:
        """Do nothing."""


class Wandb:
    """A Weights & Biases run for each job; a failure of theirs ends the logging, never the training."""

    def __init__(
        self, note: Note, project: str, entity: str | None, group: str | None, tags: list[str], mode: str
    ) -> None:
        self.note, self.mode = note, mode
        self.place: dict[str, Any] = {"project": project, "entity": entity, "group": group, "tags": tags}
        self.run: Any = None

    def guard(self, call: Callable[[], Any]) -> Any:
        """Call wandb; report its failure once and stop logging to it."""
        try:
            return call()
        except Exception as error:
            self.note(f"wandb failed ({type(error).__name__}: {str(error)[:200]}); the run goes on without it")
            self.run = None

    def begin(self, run: RunDir, config: Mapping[str, Any]) -> None:
        """Start the run, in the mode that was decided beforehand, with the resolved config."""
        import wandb

        settings = wandb.Settings(silent=True, init_timeout=20, console="off")
        fold = config.get("fold")
        name = run.id if fold is None else f"{run.id}-fold{fold}"
        shared: dict[str, Any] = {
            "dir": str(run.path),
            "mode": self.mode,
            "job_type": "run" if fold is None else "fold",
        }
        self.run = self.guard(lambda: wandb.init(
            name=name, config=dict(config), settings=settings, reinit="finish_previous", **shared, **self.place))  # fmt: skip
        if self.run:
            self.guard(lambda: self.run.define_metric("*", step_metric="step"))

    def log(self, numbers: Mapping[str, Any]) -> None:
        """Log an epoch under its fold: fold0/f1, fold0/loss, …"""
        fold = numbers["fold"]
        row = {f"fold{fold}/{key}": value for key, value in numbers.items() if key not in ("fold", "step")}
        if self.run:
            self.guard(lambda: self.run.log(row | {"step": numbers["step"]}))

    def end(self, metrics: Mapping[str, Any]) -> None:
        """Write the summary and the tables, and finish: a second run never finds this one open."""
        if not self.run:
            return
        import wandb

        flat = pd.json_normalize(
            {key: metrics[key] for key in ("oof", "eval", "folds_mean") if metrics.get(key)}, sep="/"
        )
        self.guard(lambda: self.run.summary.update(flat.iloc[0].to_dict() if len(flat) else {}))
        if self.run and metrics.get("per_class"):
            rows = pd.DataFrame(metrics["per_class"])
            matrix = pd.DataFrame(metrics["confusion"], columns=list(CLASSES)).assign(truth=CLASSES)
            self.guard(
                lambda: self.run.log(
                    {"per_class": wandb.Table(dataframe=rows), "confusion": wandb.Table(dataframe=matrix)}
                )
            )
        if self.run:
            self.guard(lambda: self.run.finish())
        self.run = None


@word
def none(note: Note) -> Sink:
    """Nothing beside log.jsonl and the terminal."""
    return Silence()


@word
def wandb_(
    note: Note, *, project: str = "maskcls", entity: str | None = None, group: str | None = None, tags: list[str] = [],  # noqa: B006
    mode: MODES = "auto",
) -> Sink:  # fmt: skip
    """Weights & Biases: offline unless you are logged in or WANDB_MODE says otherwise; a sweep's jobs share a group."""
    return Wandb(note, project, entity, group or os.environ.get("MASKCLS_SWEEP"), tags, settle(note, mode))


def settle(note: Note, mode: str) -> str:
    """Return the mode beforehand, so that wandb never asks and never waits: no key or no way to its server is offline."""
    from wandb.sdk import wandb_setup

    mode = os.environ.get("WANDB_MODE", mode) if mode == "auto" else mode
    if mode not in ("auto", "online"):
        return mode
    settings = wandb_setup.singleton().settings
    address = urlparse(settings.base_url)
    if not (settings.api_key or has_netrc(address.hostname or "")):
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


def has_netrc(host: str) -> bool:
    """Tell whether the user's netrc file holds a login for a host."""
    import netrc

    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
