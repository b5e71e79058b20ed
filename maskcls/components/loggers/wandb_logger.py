"""Weights & Biases."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import pandas as pd

from maskcls.components.loggers.base import (
    FindMistakes,
    LogContext,
    Logger,
    Mistake,
    SafeLogger,
    closing_scores,
    no_mistakes,
    past_epochs,
    run_name,
)
from maskcls.components.loggers.fold_curve import FoldCurve
from maskcls.core.errors import DataError
from maskcls.core.table import Note
from maskcls.imaging.image_io import read_pixels
from maskcls.imaging.resize import shrink_image
from maskcls.storage.run import Run
from maskcls.system.credentials import has_netrc

MODES = Literal["auto", "online", "offline", "disabled"]
LIMITS: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": 20, "finish_timeout": 60}  # seconds
MAX_ID = 64  # characters of a W&B id
SIDE = 160  # pixels, the longer side of the thumbnails


class Wandb(SafeLogger):
    """Weights & Biases logger: one W&B run per run, also after a kill; errors of W&B do not stop the training.

    A resumed run keeps its id and logs all of its epochs under the step numbers that they had: online, W&B ignores
    the steps that it has; offline, each process leaves a record, and the latest has all epochs.
    """

    service = "W&B"

    def __init__(
        self, note: Note, context: LogContext, init_args: Mapping[str, Any], mode: str, images: int = 0,
        weights: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(note)
        self.context, self.mode, self.images, self.weights = context, mode, images, weights
        self.init_args = dict(init_args) | {"group": init_args.get("group") or context.group}
        self.run: Any = None

    def drop(self) -> None:
        """Forget the W&B run."""
        self.run = None

    def of_finished(self) -> Logger | None:
        """Return this logger under `wandb agent`, which needs the metric of each of its runs."""
        return self if os.environ.get("WANDB_SWEEP_ID") else None

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start or resume the W&B run, with the resolved config and the epochs so far."""
        self.dir, self.fold = run, (fold := config["fold"])
        self.name = run_name(run, fold)
        has_id = "WANDB_RUN_ID" in os.environ  # set by `wandb agent`
        identity = {} if has_id else {"id": self.name[-MAX_ID:], "resume": "allow"}
        kind = {"name": self.name, "job_type": "run" if fold is None else "fold"}
        self.open(run.path, {**config, "choices": dict(self.context.choices)}, **kind, **identity)
        self.call_safely(lambda: self.define_metrics(config))
        for row in self.call_safely(lambda: past_epochs(run, fold)) or ():
            self.log(row)

    def open(self, folder: Path, config: Mapping[str, Any], **names: str) -> None:
        """Start a W&B run with its files in a folder, and print where it is."""
        self.run = self.call_safely(lambda: self.init(dict(config), **names, dir=str(folder)))
        self.call_safely(lambda: self.run and self.note(describe_location(self.run, folder)))

    def init(self, config: dict[str, Any], **names: str) -> Any:
        """Return a new W&B run; invalid W&B variables and settings raise here, too."""
        import wandb

        limits = {key: value for key, value in LIMITS.items() if key in wandb.Settings.model_fields}
        args = self.init_args | names | {"mode": resolve_mode(self.note, self.mode)}
        options: dict[str, Any] = {"reinit": "finish_previous", "allow_val_change": True}
        return wandb.init(config=config, settings=wandb.Settings(**limits), **options, **args)

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

    def define_metrics(self, config: Mapping[str, Any]) -> None:
        """Plot each fold's metrics over its own epochs, and their mean over all epochs of the run."""
        selects_best, monitor = config.get("select") == "best", config.get("monitor", "f1")
        at_once = (config.get("hardware") or {}).get("folds_at_once") or 1
        self.curve = FoldCurve(config.get("epochs", 1), selects_best, at_once, monitor)
        for k in range(config["folds"] if self.run else 0):
            self.run.define_metric(f"fold{k}/*", step_metric=f"fold{k}/epoch")
            if selects_best and monitor == "f1":
                self.run.define_metric(f"fold{k}/f1", step_metric=f"fold{k}/epoch", summary="max")
        if self.run:
            self.run.define_metric("val/f1", step_metric="val/epoch")  # summary="last" would rename it to val/f1.last

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch under its fold, fold0/f1, fold0/loss, …, and the mean of the folds, val/f1."""
        if self.run and self.is_new(row):
            values = {f"fold{row['fold']}/{key}": value for key, value in row.items() if key != "fold"}
            mean = {"val/f1": self.curve.add(row), "val/epoch": len(self.seen)}
            self.call_safely(lambda: self.log_step(values | mean, len(self.seen) - 1))

    def log_step(self, values: Mapping[str, Any], step: int) -> None:
        """Log the values of a step, unless a resumed W&B run has them."""
        if step >= self.run.starting_step:
            self.run.log(values, step=step, commit=True)

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Log summary, plots and tables and finish the W&B run, before another one can start.

        The epochs of folds that another process has trained meanwhile are logged first.
        """
        for row in (self.call_safely(lambda: past_epochs(self.dir, self.fold)) or ()) if self.run and metrics else ():
            self.log(row)
        if self.run and metrics:
            self.call_safely(lambda: self.log_summary(metrics, mistakes(self.images) if self.images else ()))
        if self.run and metrics and self.weights:
            self.call_safely(lambda: self.log_weights(metrics))
        if self.run:
            self.call_safely(lambda: self.run.finish(exit_code=int(failed)))
        self.run = None

    def log_summary(self, metrics: Mapping[str, Any], mistakes: Sequence[Mistake]) -> None:
        """Log the summary, confusion matrix, class scores, mistakes, plots and report of a finished run."""
        import wandb

        self.run.summary.update(closing_scores(metrics))
        classes = pd.DataFrame(metrics["per_class"])
        matrix = pd.DataFrame(metrics["confusion"], columns=list(classes["name"])).assign(truth=classes["name"])
        media: dict[str, Any] = {f"plots/{file.stem}": wandb.Image(str(file))
                                 for file in sorted(self.dir.plots_dir.glob("*.png"))}  # fmt: skip
        media |= {"per_class": wandb.Table(dataframe=classes), "confusion": wandb.Table(dataframe=matrix)}
        rows: list[Any] = [row for mistake in mistakes if (row := mistake_row(mistake))]
        if rows:
            columns: Any = ["image", "id", "fold", "label", "prediction", "confidence"]
            media["worst_mistakes"] = wandb.Table(columns, rows)
        mean = {"val/f1": metrics["folds_mean"]["f1"], "val/epoch": len(self.seen)}
        self.log_step(media | mean | {"report": wandb.Html(str(self.dir.report_path))}, len(self.seen))

    def log_weights(self, metrics: Mapping[str, Any]) -> None:
        """Log the weights of each fold that predict as one artifact."""
        import wandb

        artifact = wandb.Artifact(self.name[-MAX_ID:], "model", metadata={"oof/f1": metrics["oof"]["f1"]})
        for k in (row["fold"] for row in metrics["folds"]):
            artifact.add_file(str(self.dir.checkpoint_path(k)), name=f"fold{k}/best.pt")
        self.run.log_artifact(artifact)


def mistake_row(mistake: Mistake) -> list[Any] | None:
    """Return the row of a mistake with its thumbnail, None if the image is not readable."""
    import wandb

    try:
        image = shrink_image(read_pixels(mistake.path), SIDE)
    except DataError:
        return None
    row: list[Any] = [mistake.id, mistake.fold, mistake.label, mistake.pred, mistake.confidence]
    return [wandb.Image(image, file_type="jpg"), *row]


def describe_location(run: Any, folder: Path) -> str:
    """Return the mode of a W&B run with its address, or with its folder and the command that uploads it."""
    if run.disabled or run.settings.mode == "disabled":
        return "W&B: disabled"
    if not run.offline:
        return f"W&B: online, {run.url}"
    command = "maskcls sync" if folder.parent == Path("runs") else f"maskcls sync runs_dir={folder.parent}"
    return f"W&B: offline, {Path(run.dir).parent}; `{command}` uploads it when the run is finished"


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
