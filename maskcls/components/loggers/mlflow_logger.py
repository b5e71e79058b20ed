"""MLflow, in a local database or on a tracking server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from maskcls.components.loggers.base import (
    FindMistakes,
    LogContext,
    SafeLogger,
    closing_scores,
    flatten,
    no_mistakes,
    past_epochs,
    run_name,
)
from maskcls.core.table import Note
from maskcls.storage.run import Run

MAX_VALUE = 500  # characters of a parameter's value


class MLflow(SafeLogger):
    """Logs to one MLflow run per run, found again by its name after a kill; no epoch is logged twice."""

    service = "MLflow"

    def __init__(self, note: Note, context: LogContext, experiment: str, uri: str | None) -> None:
        super().__init__(note)
        self.context, self.experiment, self.uri = context, experiment, uri
        self.client: Any = None

    def drop(self) -> None:
        """Log no more."""
        self.client = None

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start or resume the MLflow run, with the config and the epochs so far."""
        self.call_safely(lambda: self.connect(run, config))
        for row in (self.call_safely(lambda: past_epochs(run, config["fold"])) or ()) if self.client else ():
            self.log(row)

    def connect(self, run: Run, config: Mapping[str, Any]) -> None:
        """Find the run in its experiment, or create it; note the epochs that it has."""
        from mlflow import MlflowClient

        folder, name = run.path.parent.absolute(), run_name(run, config["fold"])
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(self.experiment)
        place = (folder / "mlflow").as_uri() if uri.startswith("sqlite:") else None
        experiment = found.experiment_id if found else client.create_experiment(self.experiment, place)
        runs = client.search_runs([experiment], f"attributes.run_name = '{name}'", max_results=1)
        self.client, self.id = client, runs[0].info.run_id if runs else self.create(client, experiment, name, config)
        for k in range(config["folds"] if runs else 0):
            self.seen |= {(k, metric.step) for metric in client.get_metric_history(self.id, f"fold{k}/f1")}
        self.note(f"MLflow: {uri}, experiment {self.experiment}, run {name}")

    def create(self, client: Any, experiment: str, name: str, config: Mapping[str, Any]) -> str:
        """Return the id of a new MLflow run with the config as its parameters."""
        from mlflow.entities import Param

        run_id = str(client.create_run(experiment, run_name=name).info.run_id)
        values = dict(flatten({**config, "choices": self.context.choices}))
        params = [Param(key, str(value)[:MAX_VALUE]) for key, value in values.items()]
        client.log_batch(run_id, params=params)
        if self.context.group:
            client.set_tag(run_id, "group", self.context.group)
        return run_id

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch under its fold: fold0/f1, fold0/loss, …"""
        if self.client and self.is_new(row):
            values = {f"fold{row['fold']}/{key}": value for key, value in row.items() if key not in ("fold", "epoch")}
            self.call_safely(lambda: self.log_values(values, row["epoch"]))

    def log_values(self, values: Mapping[str, Any], step: int) -> None:
        """Log numbers at a step."""
        for key, value in values.items():
            if isinstance(value, int | float):
                self.client.log_metric(self.id, key, value, step=step)

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Log the closing scores and end the MLflow run."""
        if self.client and metrics:
            self.call_safely(lambda: self.log_values(closing_scores(metrics), 0))
        if self.client:
            self.call_safely(lambda: self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED"))
