"""Predictions: image ids, class probabilities and expected numbers, as CSV and npz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskcls.core.errors import DataError, RunError
from maskcls.core.task import FloatArray, IntArray, Task
from maskcls.system.files import write_npz, write_text
from maskcls.system.safe_reading import FormatError, read_csv, read_npz, wrap_read_errors

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-3  # largest difference of a sum of probabilities from one


def prob_columns(num_classes: int) -> list[str]:
    """Return the columns of class probabilities: p0, p1, …."""
    return [f"p{i}" for i in range(num_classes)]


def number_columns(task: Task) -> list[str]:
    """Return the columns of the expected number of a head over years, such as an age, and of its standard deviation."""
    return [f"expected_{task.number.name}", f"{task.number.name}_sd"] if task.number else []


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of images, (N, C), with the images' ids; of a head over years also the expected number."""

    ids: npt.NDArray[np.str_]
    probs: FloatArray
    source: Path | str = "predictions"  # the file, for messages
    numbers: FloatArray | None = None  # (N, 2): expected number, such as an age in years, and its standard deviation
    classes: IntArray | None = None  # (N,): the predicted classes, if they are not the most probable ones

    @classmethod
    def of_columns(cls, ids: npt.NDArray[np.str_], columns: npt.NDArray[Any], num_classes: int) -> Predictions:
        """Return the predictions of a head's columns, (N, C), or (N, C + 2) with E[number] and E[number²]."""
        probs = np.ascontiguousarray(columns[:, :num_classes], np.float32)
        moments = columns[:, num_classes:]
        return cls(ids, probs, numbers=mean_and_sd(moments) if moments.shape[1] else None)

    @property
    def columns(self) -> npt.NDArray[Any]:
        """The columns (N, C) or (N, C + 2), whose mean over several predictions is the prediction of their mixture."""
        if self.numbers is None:
            return self.probs
        number, sd = self.numbers.astype(np.float64).T
        return np.column_stack([self.probs, number, number**2 + sd**2])

    @classmethod
    def read(cls, path: Path, task: Task) -> Predictions:
        """Read the columns id, p0 … p(C−1) and the expected number of a CSV; `select` checks that ids are unique."""
        try:
            columns, optional = prob_columns(task.num_classes), number_columns(task)
            types = {"id": str} | dict.fromkeys(columns, np.float32)
            table = read_csv(path, types, dict.fromkeys(optional, np.float32))
            probs = table[columns].to_numpy()
            check_probs(probs)
            numbers = table[optional].to_numpy() if optional and {*optional} <= {*table} else None
            check_numbers(numbers)
        except (OSError, ValueError, ArithmeticError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"cannot read predictions from {path} ({reason}). Delete it and run again") from error
        return cls(table["id"].to_numpy(str), probs, path, numbers)

    def write(
        self, path: Path, task: Task, rows: pd.DataFrame | None = None, plain: IntArray | None = None
    ) -> None:
        """Write the columns of `to_frame` as CSV; with rows of the image table also some of theirs and the class.

        `plain` are the predicted classes without a decision, which are then written, too.
        """
        table = self.to_frame(task)
        if rows is not None:
            for position, name in enumerate(("person", "fold", "label"), 1):
                table.insert(position, name, rows[name].to_numpy())
            table.insert(4, "guess", self.preds)
            if plain is not None:
                table.insert(5, "plain", plain)
        write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))

    @property
    def preds(self) -> IntArray:
        """The predicted class of each image, (N,): the most probable one, before a calibration."""
        return self.probs.argmax(1) if self.classes is None else self.classes

    def calibrate(self, apply: Callable[[FloatArray], FloatArray]) -> Predictions:
        """Return the predictions with other probabilities, `apply(probs)`, and the same predicted classes."""
        return replace(self, probs=apply(self.probs), classes=self.preds)

    def select(self, ids: Sequence[str]) -> FloatArray:
        """Return the probabilities (N, C) of `ids` in their order; DataError for a missing or duplicate id."""
        return self.probs[self.find(ids)]

    def reorder(self, ids: Sequence[str]) -> Predictions:
        """Return the predictions of `ids` in their order; DataError for a missing or duplicate id."""
        positions = self.find(ids)
        numbers = None if self.numbers is None else self.numbers[positions]
        classes = None if self.classes is None else self.classes[positions]
        return Predictions(self.ids[positions], self.probs[positions], self.source, numbers, classes)

    def find(self, ids: Sequence[str]) -> IntArray:
        """Return the positions (N,) of `ids`; DataError for a missing or duplicate id."""
        import pandas as pd

        if len(set(ids)) == len(ids) and self.ids.tolist() == list(ids):  # as stored, the usual case
            return np.arange(len(ids))
        for values, where in ((pd.Series(list(ids), dtype=str), "in the images to predict"), (pd.Series(self.ids), "")):
            if (duplicates := values[values.duplicated()]).size:
                raise DataError(f"{self.source}: id {duplicates.iloc[0]!r} occurs more than once {where}".rstrip())
        positions = pd.Index(self.ids).get_indexer(pd.Index(list(ids), dtype=object))
        if (missing := np.flatnonzero(positions < 0)).size:
            what = f"{self.source} has no probabilities for {len(missing)} of {len(ids)} images"
            raise DataError(f"{what}, first {ids[int(missing[0])]}")
        return positions

    def to_frame(self, task: Task) -> pd.DataFrame:
        """Return id, p0 … p(C−1) and, if known, the expected numbers as columns."""
        import pandas as pd

        table = pd.DataFrame(self.probs.astype(np.float64), columns=prob_columns(self.probs.shape[1]))
        table.insert(0, "id", self.ids.astype(object))
        if self.numbers is not None:
            table[number_columns(task)] = self.numbers.astype(np.float64)
        return table


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions by one fold's model: of its validation rows and of the evaluation rows."""

    val: Predictions
    eval: Predictions
    num_epochs: int
    selected_epochs: list[int]  # whose averaged weights predict
    is_concluded: bool = False  # True: the fold was concluded before its last epoch

    @classmethod
    def read(cls, path: Path, task: Task) -> FoldPredictions:
        """Read a fold's oof.npz."""
        arrays = read_npz(path)
        with wrap_read_errors(path):
            val, rest = (read_pair(arrays, prefix, path, task) for prefix in ("", "eval_"))
            for name, expected, ndim in (("epochs", "an integer", 0), ("epoch", "a list of integers", 1)):
                read_array(arrays, name, np.integer, (None,) * ndim, expected)
            return cls(val, rest, int(arrays["epochs"]), arrays["epoch"].tolist(), "concluded" in arrays)

    def write(self, path: Path) -> None:
        """Write a fold's oof.npz."""
        mark: dict[str, Any] = {"concluded": True} if self.is_concluded else {}
        numbers = {"ages": self.val.numbers, "eval_ages": self.eval.numbers}
        mark |= {name: values for name, values in numbers.items() if values is not None}
        write_npz(
            path, ids=self.val.ids, probs=self.val.probs, eval_ids=self.eval.ids, eval_probs=self.eval.probs,
            epochs=self.num_epochs, epoch=self.selected_epochs, **mark,
        )  # fmt: skip


def read_pair(arrays: dict[str, npt.NDArray[Any]], prefix: str, path: Path, task: Task) -> Predictions:
    """Return the arrays ids and probs of an npz; FormatError for another type, shape or range."""
    import pandas as pd

    ids = read_array(arrays, f"{prefix}ids", np.str_, (None,), "a list of text")
    probs = read_matrix(arrays, f"{prefix}probs", (len(ids), task.num_classes))
    check_ids(pd.Series(ids, dtype=str))
    check_probs(probs)
    numbers = None
    if f"{prefix}ages" in arrays:
        numbers = read_matrix(arrays, f"{prefix}ages", (len(ids), 2))
    check_numbers(numbers)
    return Predictions(ids, probs, path, numbers)


def read_matrix(arrays: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, int]) -> FloatArray:
    """Return a float32 array of an npz; FormatError if it is missing or of another type or shape."""
    return read_array(arrays, name, np.float32, shape, f"float32 of {shape[0]} × {shape[1]}")


def read_array(
    arrays: dict[str, npt.NDArray[Any]], name: str, kind: type[Any], shape: tuple[int | None, ...], expected: str
) -> npt.NDArray[Any]:
    """Return an array of an npz; FormatError if it is missing, or of another type or shape (None: any length)."""
    if name not in arrays:
        raise FormatError(f"expected an array {name}, got {', '.join(arrays) or 'none'}")
    array = arrays[name]
    fits = len(shape) == array.ndim and all(n in (None, size) for n, size in zip(shape, array.shape, strict=True))
    if not fits or not np.issubdtype(array.dtype, kind) or not array.dtype.isnative:
        size = " × ".join(map(str, array.shape)) or "one value"
        raise FormatError(f"{name}: expected {expected}, got {array.dtype} of {size}")
    return array


def mean_and_sd(moments: npt.NDArray[Any]) -> FloatArray:
    """Return expected numbers and standard deviations (N, 2) from E[number] and E[number²], (N, 2)."""
    number, square = moments.astype(np.float64).T
    return np.stack([number, np.sqrt(np.maximum(square - number**2, 0))], 1).astype(np.float32)


def check_ids(ids: pd.Series[str]) -> None:
    """Raise FormatError for an empty or duplicate id."""
    if not ids.all():
        raise FormatError("an id is empty")
    if ids.duplicated().any():
        raise FormatError(f"duplicate id {ids[ids.duplicated()].iloc[0][:40]!r}")


def check_probs(probs: npt.NDArray[Any]) -> None:
    """Raise FormatError for rows (N, C) that are not probabilities."""
    with np.errstate(invalid="ignore", over="ignore"):
        valid = (probs >= 0).all(1) & (np.abs(probs.sum(1, dtype=np.float64) - 1) <= TOLERANCE)  # False for NaN, inf
    if not valid.all():
        i = int(np.flatnonzero(~valid)[0])
        got = f"a sum of {probs[i].sum(dtype=np.float64):g}" if (probs[i] >= 0).all() else f"{probs[i].min():g}"
        raise FormatError(f"row {i + 1}: expected probabilities that sum to 1, got {got}")


def check_numbers(numbers: npt.NDArray[Any] | None) -> None:
    """Raise FormatError for rows (N, 2) that are not a number and its standard deviation."""
    if numbers is None:
        return
    valid = np.isfinite(numbers).all(1) & (numbers[:, 1] >= 0)
    if not valid.all():
        i = int(np.flatnonzero(~valid)[0])
        got = f"{numbers[i, 0]:g} and {numbers[i, 1]:g}"
        raise FormatError(f"row {i + 1}: expected a number and its standard deviation, got {got}")
