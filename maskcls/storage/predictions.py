"""Predictions: image ids, class probabilities and expected ages, as CSV and npz."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from maskcls.core.errors import DataError, RunError
from maskcls.core.task import CLASSES, FloatArray, IntArray
from maskcls.system.files import write_npz, write_text
from maskcls.system.safe_reading import FormatError, read_csv, read_npz, wrap_read_errors

if TYPE_CHECKING:
    import pandas as pd

PROB_COLUMNS = [f"p{i}" for i in range(len(CLASSES))]
YEARS_COLUMNS = ["expected_age", "age_sd"]  # in years
TOLERANCE = 1e-3  # largest difference of a sum of probabilities from one


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of images, (N, 18), with the images' ids; of a head over years also the age."""

    ids: npt.NDArray[np.str_]
    probs: FloatArray
    source: Path | str = "predictions"  # the file, for messages
    ages: FloatArray | None = None  # (N, 2): expected age and its standard deviation, in years
    classes: IntArray | None = None  # (N,): the predicted classes, if they are not the most probable ones

    @classmethod
    def of_columns(cls, ids: npt.NDArray[np.str_], columns: npt.NDArray[Any]) -> Predictions:
        """Return the predictions whose columns are those of a head, (N, 18), or (N, 20) with E[age] and E[age²]."""
        probs = np.ascontiguousarray(columns[:, : len(CLASSES)], np.float32)
        moments = columns[:, len(CLASSES) :]
        return cls(ids, probs, ages=mean_and_sd(moments) if moments.shape[1] else None)

    @property
    def columns(self) -> npt.NDArray[Any]:
        """The columns (N, 18) or (N, 20), whose mean over several predictions is the prediction of their mixture."""
        if self.ages is None:
            return self.probs
        age, sd = self.ages.astype(np.float64).T
        return np.column_stack([self.probs, age, age**2 + sd**2])

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read the columns id, p0 … p17 and ages of a CSV; `select` checks that ids are unique."""
        try:
            types = {"id": str} | dict.fromkeys(PROB_COLUMNS, np.float32)
            table = read_csv(path, types, dict.fromkeys(YEARS_COLUMNS, np.float32))
            probs = table[PROB_COLUMNS].to_numpy()
            check_probs(probs)
            ages = table[YEARS_COLUMNS].to_numpy() if {*YEARS_COLUMNS} <= {*table} else None
            check_ages(ages)
        except (OSError, ValueError, ArithmeticError, MemoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"cannot read predictions from {path} ({reason}). Delete it and run again") from error
        return cls(table["id"].to_numpy(str), probs, path, ages)

    def write(self, path: Path, rows: pd.DataFrame | None = None, plain: IntArray | None = None) -> None:
        """Write the columns of `to_frame` as CSV; with rows of the image table also some of theirs and the class.

        `plain` are the predicted classes without a decision, which are then written, too.
        """
        table = self.to_frame()
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
        """Return the probabilities (N, 18) of `ids` in their order; DataError for a missing or duplicate id."""
        return self.probs[self.find(ids)]

    def reorder(self, ids: Sequence[str]) -> Predictions:
        """Return the predictions of `ids` in their order; DataError for a missing or duplicate id."""
        positions = self.find(ids)
        ages = None if self.ages is None else self.ages[positions]
        classes = None if self.classes is None else self.classes[positions]
        return Predictions(self.ids[positions], self.probs[positions], self.source, ages, classes)

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

    def to_frame(self) -> pd.DataFrame:
        """Return id, p0 … p17 and, if known, ages as columns."""
        import pandas as pd

        table = pd.DataFrame(self.probs.astype(np.float64), columns=PROB_COLUMNS)
        table.insert(0, "id", self.ids.astype(object))
        if self.ages is not None:
            table[YEARS_COLUMNS] = self.ages.astype(np.float64)
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
    def read(cls, path: Path) -> FoldPredictions:
        """Read a fold's oof.npz."""
        arrays = read_npz(path)
        with wrap_read_errors(path):
            val, rest = (read_pair(arrays, prefix, path) for prefix in ("", "eval_"))
            for name, expected, ndim in (("epochs", "an integer", 0), ("epoch", "a list of integers", 1)):
                read_array(arrays, name, np.integer, (None,) * ndim, expected)
            return cls(val, rest, int(arrays["epochs"]), arrays["epoch"].tolist(), "concluded" in arrays)

    def write(self, path: Path) -> None:
        """Write a fold's oof.npz."""
        mark: dict[str, Any] = {"concluded": True} if self.is_concluded else {}
        ages = {"ages": self.val.ages, "eval_ages": self.eval.ages}
        mark |= {name: values for name, values in ages.items() if values is not None}
        write_npz(
            path, ids=self.val.ids, probs=self.val.probs, eval_ids=self.eval.ids, eval_probs=self.eval.probs,
            epochs=self.num_epochs, epoch=self.selected_epochs, **mark,
        )  # fmt: skip


def read_pair(arrays: dict[str, npt.NDArray[Any]], prefix: str, path: Path) -> Predictions:
    """Return the arrays ids and probs of an npz; FormatError for another type, shape or range."""
    import pandas as pd

    ids = read_array(arrays, f"{prefix}ids", np.str_, (None,), "a list of text")
    probs = read_matrix(arrays, f"{prefix}probs", (len(ids), len(CLASSES)))
    check_ids(pd.Series(ids, dtype=str))
    check_probs(probs)
    ages = None
    if f"{prefix}ages" in arrays:
        ages = read_matrix(arrays, f"{prefix}ages", (len(ids), len(YEARS_COLUMNS)))
    check_ages(ages)
    return Predictions(ids, probs, path, ages)


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
    """Return expected ages and standard deviations (N, 2) from E[age] and E[age²], (N, 2)."""
    age, square = moments.astype(np.float64).T
    return np.stack([age, np.sqrt(np.maximum(square - age**2, 0))], 1).astype(np.float32)


def check_ids(ids: pd.Series[str]) -> None:
    """Raise FormatError for an empty or duplicate id."""
    if not ids.all():
        raise FormatError("an id is empty")
    if ids.duplicated().any():
        raise FormatError(f"duplicate id {ids[ids.duplicated()].iloc[0][:40]!r}")


def check_probs(probs: npt.NDArray[Any]) -> None:
    """Raise FormatError for rows (N, 18) that are not probabilities."""
    with np.errstate(invalid="ignore", over="ignore"):
        valid = (probs >= 0).all(1) & (np.abs(probs.sum(1, dtype=np.float64) - 1) <= TOLERANCE)  # False for NaN, inf
    if not valid.all():
        i = int(np.flatnonzero(~valid)[0])
        got = f"a sum of {probs[i].sum(dtype=np.float64):g}" if (probs[i] >= 0).all() else f"{probs[i].min():g}"
        raise FormatError(f"row {i + 1}: expected probabilities that sum to 1, got {got}")


def check_ages(ages: npt.NDArray[Any] | None) -> None:
    """Raise FormatError for rows (N, 2) that are not an age and its standard deviation."""
    if ages is None:
        return
    valid = (np.isfinite(ages) & (ages >= 0)).all(1)
    if not valid.all():
        i = int(np.flatnonzero(~valid)[0])
        got = f"{ages[i, 0]:g} and {ages[i, 1]:g}"
        raise FormatError(f"row {i + 1}: expected an age and its standard deviation in years, got {got}")
