"""TensorBoard event files, one series per fold."""

from __future__ import annotations

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
)
from maskcls.core.table import Note
from maskcls.storage.run import Run


class TensorBoard(SafeLogger):
    """Writes tensorboard/fold0, … and the closing scores with the config to tensorboard/ in the run directory.

    A resumed run replaces the files of its folds by files with all epochs, so that no step is doubled.
    """

    service = "TensorBoard"

    def __init__(self, note: Note, context: LogContext) -> None:
        super().__init__(note)
        self.context, self.is_open = context, False
        self.writers: dict[str, Any] = {}

    def drop(self) -> None:
        """Write no more."""
        self.is_open = False

    def begin(self, run: Run, config: Mapping[str, Any]) -> None:
        """Write the epochs of a resumed run."""
        self.folder, self.config, self.is_open = run.tensorboard_dir, config, True
        for row in self.call_safely(lambda: past_epochs(run, config["fold"])) or ():
            self.log(row)
        self.note(f"TensorBoard: tensorboard --logdir {run.path.parent}")

    def log(self, row: Mapping[str, Any]) -> None:
        """Write the numbers of an epoch to its fold."""
        if self.is_open and self.is_new(row):
            self.call_safely(lambda: self.write_epoch(row))

    def write_epoch(self, row: Mapping[str, Any]) -> None:
        """Write the scalars of an epoch."""
        writer = self.writer(f"fold{row['fold']}")
        for key, value in row.items():
            if key not in ("fold", "epoch") and isinstance(value, int | float):
                writer.add_scalar(key, value, row["epoch"])
        writer.flush()

    def writer(self, name: str) -> Any:
        """Return the writer of a fold, whose earlier files are deleted when it opens."""
        from torch.utils.tensorboard import SummaryWriter

        if name not in self.writers:
            folder = self.folder / name
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
            self.writers[name] = SummaryWriter(str(folder))
        return self.writers[name]

    def end(self, metrics: Mapping[str, Any], failed: bool = False, mistakes: FindMistakes = no_mistakes) -> None:
        """Write the closing scores with the config and the options as hyperparameters, and close."""
        if self.is_open and metrics:
            self.call_safely(lambda: self.write_closing(metrics))
        for writer in self.writers.values():
            self.call_safely(writer.close)
        self.writers = {}

    def write_closing(self, metrics: Mapping[str, Any]) -> None:
        """Write the closing scores to the page of hyperparameters."""
        values = flatten({**self.config, "choices": self.context.choices})
        params = {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values}
        self.writer(".").add_hparams(params, closing_scores(metrics), run_name=".")
