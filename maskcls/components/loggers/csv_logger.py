"""metrics.csv: the epochs of a run as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from maskcls.components.loggers.base import FindMistakes, Logger, no_mistakes
from maskcls.storage.run import Run
from maskcls.system.files import write_text


class CsvLogger:
    """Writes metrics.csv: one row for each fold and epoch of log.jsonl, each once, also after a resume."""

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Write the epochs of a resumed run."""
        self.run = run
        self.write()

    def log(self, row: Mapping[str, Any]) -> None:
        """Write all epochs: log.jsonl has the row already, and those of folds in other processes."""
        self.write()

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Do nothing: metrics.json has the closing metrics."""

    def of_finished(self) -> Logger | None:
        """Return this logger: the run may have been trained with another one."""
        return self

    def write(self) -> None:
        """Write the file if there are epochs that it does not have."""
        path, rows = self.run.epochs_csv_path, self.run.history()
        text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n") if rows else ""
        if rows and not (path.is_file() and path.read_bytes() == text.encode()):
            write_text(path, text)
