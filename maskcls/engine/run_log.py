"""Logging of a run: its epochs, its closing metrics and its worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from maskcls.components.loggers.base import LogContext, Logger, Mistake
from maskcls.core.config import Config
from maskcls.reporting.run_report import load_oof_rows, worst_errors
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.signals import ends_early


def build_logger(cfg: Config, context: LogContext) -> Logger | None:
    """Return the logger of a config, on rank 0; raise ConfigError if its package is not installed."""
    return cfg.logger.build(console.info, context) if console.is_main_process() else None


class RunLog:
    """Context manager that opens the logger of a run, on rank 0, and closes it with the metrics or as failed."""

    def __init__(self, cfg: Config, run: Run, table: pd.DataFrame, logger: Logger | None) -> None:
        self.cfg, self.run, self.table, self.logger = cfg, run, table, logger
        self.metrics: Mapping[str, Any] = {}  # the closing metrics, once the run is finished

    def __enter__(self) -> RunLog:
        if self.logger:
            self.logger.begin(self.run, self.cfg.to_dict() | {"run": self.run.id})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if self.logger:
            failed = kind is not None and not ends_early(error)
            self.logger.end(self.metrics, failed, self.find_mistakes)

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch."""
        if self.logger:
            self.logger.log(row)

    def find_mistakes(self, count: int) -> list[Mistake]:
        """Return the most confident wrong predictions out of fold, at most `count`."""
        rows, classes = worst_errors(load_oof_rows(self.run, self.table), count), self.run.task.classes
        return [Mistake(row["id"], row["path"], row["fold"], classes[row["label"]], classes[row["guess"]], row["sure"])
                for row in rows]  # fmt: skip


def log_finished(cfg: Config, run: Run, table: pd.DataFrame, metrics: Mapping[str, Any], context: LogContext) -> None:
    """Log a run that was already finished to the loggers that need it again, such as that of a sweep agent."""
    logger = build_logger(cfg, context)
    with RunLog(cfg, run, table, logger and logger.of_finished()) as log:
        log.metrics = metrics
