"""Several experiment loggers as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskcls.components.loggers.base import FindMistakes, Logger, no_mistakes
from maskcls.storage.run import Run


@dataclass(frozen=True)
class LoggerCollection:
    """Passes everything on to several loggers."""

    loggers: Sequence[Logger]

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Start all loggers."""
        for logger in self.loggers:
            logger.begin(run, config)

    def log(self, row: Mapping[str, Any]) -> None:
        """Log an epoch to all loggers."""
        for logger in self.loggers:
            logger.log(row)

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Close all loggers."""
        for logger in self.loggers:
            logger.end(metrics, failed, mistakes)

    def of_finished(self) -> Logger | None:
        """Return the loggers that need a finished run again."""
        loggers = [one for logger in self.loggers if (one := logger.of_finished())]
        return LoggerCollection(loggers) if loggers else None
