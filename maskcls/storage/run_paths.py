"""RunPaths: the names of the files in a run directory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Part = Literal["oof", "eval"]


class RunPaths:
    """Paths of the files in a run directory; no other class knows their names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """The checked config."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """The closing metrics, written last: they mark a finished run."""
        return self.path / "metrics.json"

    @property
    def table_path(self) -> Path:
        """The image table without paths."""
        return self.path / "table.csv"

    @property
    def data_path(self) -> Path:
        """The digest of the data and of the weights and runs that this run depends on."""
        return self.path / "data.json"

    @property
    def about_path(self) -> Path:
        """Facts about machine, software and command."""
        return self.path / "about.json"

    @property
    def history_path(self) -> Path:
        """One JSON line per fold and epoch."""
        return self.path / "log.jsonl"

    @property
    def epochs_csv_path(self) -> Path:
        """The epochs of log.jsonl as a table, with logger=csv."""
        return self.path / "metrics.csv"

    @property
    def tensorboard_dir(self) -> Path:
        """The event files of logger=tensorboard."""
        return self.path / "tensorboard"

    @property
    def report_path(self) -> Path:
        """The report page."""
        return self.path / "report.html"

    @property
    def plots_dir(self) -> Path:
        """The figures of the report."""
        return self.path / "plots"

    def predictions_path(self, part: Part) -> Path:
        """Return the CSV of the out-of-fold (oof) or evaluation (eval) predictions."""
        return self.path / f"{part}.csv"

    def fold_dir(self, k: int) -> Path:
        """Return the folder of fold k."""
        return self.path / f"fold{k}"

    def fold_predictions_path(self, k: int) -> Path:
        """Return the predictions of fold k, written last: they mark a finished fold."""
        return self.fold_dir(k) / "oof.npz"

    def checkpoint_path(self, k: int) -> Path:
        """Return the weights of fold k that predict."""
        return self.fold_dir(k) / "best.pt"

    def epoch_path(self, k: int, epoch: int) -> Path:
        """Return the weights of fold k after an epoch."""
        return self.fold_dir(k) / f"epoch{epoch}.pt"

    def state_path(self, k: int) -> Path:
        """Return the training state of fold k, from which it resumes."""
        return self.fold_dir(k) / "last.pt"

    def sessions_path(self, k: int) -> Path:
        """Return the facts about machine and software of each session that trained fold k."""
        return self.fold_dir(k) / "about.json"

    def lock_path(self, k: int | None = None) -> Path:
        """Return the lock file of fold k, or of the run."""
        return (self.path if k is None else self.fold_dir(k)) / "lock"
