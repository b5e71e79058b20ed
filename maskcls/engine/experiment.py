"""A run in progress and its folds, as the training loop sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from torch import Tensor

from maskcls.components.hardware import Hardware
from maskcls.components.head import Head
from maskcls.core import table as tables
from maskcls.core.config import Config
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.data.pixel_cache import Pixels
from maskcls.storage.run import Run


@dataclass(frozen=True)
class Fold:
    """The data of one fold: pixels, labels and the positions of its training and validation rows."""

    index: int
    pixels: Pixels  # (N, H, W, 3), all rows of the table
    unchanged: Pixels | Tensor  # the same for reading without augmentation; on the device if hardware.resident=true
    labels: IntArray  # (N,), for the scores; −1 without the label of an attribute
    values: IntArray  # (N, A), the index of each attribute's value, for the scores; −1 without a label
    targets: FloatArray  # (N, head.target_size), for the loss
    train_labels: IntArray  # (N,), the class that samplers and mixing use, also for soft targets
    people: IntArray  # (N,), the number of each row's person, from 0
    train_indices: IntArray
    val_indices: IntArray
    image_ids: Sequence[str]  # (N,)

    @classmethod
    def of(cls, table: pd.DataFrame, pixels: Pixels, k: int, hardware: Hardware, head: Head) -> Fold:
        """Return fold k of a table, with a head's targets.

        Raise RunError if hardware.resident=true and the images exceed device memory.
        """
        rows, train_indices = tables.with_fold_labels(table, k, head.task), tables.train_indices(table, k)
        return cls(
            k, pixels, hardware.to_device_memory(pixels), table["label"].to_numpy(),
            tables.value_indices(table, head.task), head.build_targets(rows, train_indices),
            tables.train_labels(rows, head.task), pd.factorize(table["person"])[0], train_indices,
            tables.val_indices(table, k), table["id"].to_list(),
        )  # fmt: skip

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.pixels.shape[1], self.pixels.shape[2]


@dataclass(frozen=True)
class Experiment:
    """A run in progress: its config and directory, the image table with its pixels, and the hardware."""

    cfg: Config
    run: Run
    table: pd.DataFrame
    pixels: Pixels
    hardware: Hardware

    @cached_property
    def task(self) -> Task:
        """The task: the attributes and classes that the experiment predicts."""
        task: Task = self.cfg.task.build()
        return task

    @cached_property
    def head(self) -> Head:
        """The head, for the labels that the table has."""
        head: Head = self.cfg.head.build()
        return head.for_table(self.table)

    @property
    def num_folds(self) -> int:
        """Number of folds."""
        return tables.num_folds(self.table)

    def fold(self, k: int) -> Fold:
        """Return the data of fold k."""
        return Fold.of(self.table, self.pixels, k, self.hardware, self.head)
