"""The task: the attributes that are read off a photo, and the classes, which are their combinations."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
TaskKey = tuple[tuple[str, tuple[str, ...], tuple[float, ...]], ...]


def bin_numbers(numbers: npt.ArrayLike, borders: Sequence[float]) -> IntArray:
    """Return the class of numbers, 0 … len(borders); a border belongs to the class above it."""
    return np.searchsorted(np.asarray(borders), np.asarray(numbers), side="right").astype(np.int64)


@dataclass(frozen=True)
class Attribute:
    """One attribute and its values; with `borders` it is made of a column of numbers, and its values are ranges."""

    name: str
    values: tuple[str, ...]
    column: str = ""  # of the numbers, empty for values that are words
    borders: tuple[float, ...] = ()  # the first number of each value but the first, by which images are scored
    train_borders: tuple[float, ...] = ()  # the same for training
    unit: str = ""  # of the numbers, such as years
    limits: tuple[float, float] = (-math.inf, math.inf)  # lowest and highest number that a table may hold
    per: Literal["", "group", "photo"] = ""  # whether it is the same for all photos of a group; "": as in the data
    short: str = ""  # the name in narrow tables and figures
    colour: str = ""  # in figures, as #rrggbb

    @property
    def is_number(self) -> bool:
        """True if the values are ranges of a number."""
        return bool(self.column)

    @property
    def in_unit(self) -> str:
        """The name and the unit of the number, if it has one: age in years."""
        return f"{self.name} in {self.unit}" if self.unit else self.name

    @property
    def more(self) -> str:
        """The word for numbers above a border: older, of years, else more."""
        return "older" if self.unit == "years" else "more"

    @property
    def source(self) -> str:
        """The column of the image table that holds its values, or its numbers."""
        return self.column or self.name

    @property
    def soft_columns(self) -> list[str]:
        """The columns of the image table with the training distribution over the values."""
        return [f"{self.name}{i}" for i in range(len(self.values))]

    @property
    def class_column(self) -> str:
        """The column of the image table with the value's index in training."""
        return f"{self.name}_class"

    def bin(self, numbers: npt.ArrayLike, borders: Sequence[float] | None = None) -> IntArray:
        """Return the value's index of numbers, by the borders for scoring or by others."""
        return bin_numbers(numbers, self.borders if borders is None else borders)


@dataclass(frozen=True)
class Task:
    """The attributes in their order; the classes are all combinations of their values, the last one changes fastest."""

    attributes: tuple[Attribute, ...]
    group: str | None = "person"  # column of a table that names what must be on one side of a fold

    def __iter__(self) -> itertools.chain[Attribute]:
        return itertools.chain(self.attributes)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the attributes."""
        return tuple(attribute.name for attribute in self.attributes)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each attribute."""
        return tuple(len(attribute.values) for attribute in self.attributes)

    @functools.cached_property
    def values(self) -> dict[str, tuple[str, ...]]:
        """The values of each attribute by its name."""
        return {attribute.name: attribute.values for attribute in self.attributes}

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in their order: the values of their attributes."""
        return tuple(" ".join(values) for values in itertools.product(*self.values.values()))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return math.prod(self.shape)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names of the scores: f1, accuracy, and the F1 of each attribute."""
        return ("f1", "accuracy", *(f"{name}_f1" for name in self.names))

    def has_classes_of(self, other: Task) -> bool:
        """Return True if another task has the same attributes, with the same values and borders for scoring."""
        return self.key == other.key

    @property
    def key(self) -> TaskKey:
        """What determines the classes of images: name, values and borders for scoring of each attribute."""
        return tuple((attribute.name, attribute.values, attribute.borders) for attribute in self.attributes)

    @property
    def groups(self) -> str:
        """What intervals are over and folds consist of: people, other groups of images, or images that are alone."""
        return "people" if self.group == "person" else "groups" if self.group else "images"

    @functools.cached_property
    def number(self) -> Attribute | None:
        """The attribute that is made of a number, None if there is none or more than one."""
        found = [attribute for attribute in self.attributes if attribute.is_number]
        return found[0] if len(found) == 1 else None

    def __getitem__(self, name: str) -> Attribute:
        return self.attributes[self.axis(name)]

    def axis(self, name: str) -> int:
        """Return the position of an attribute."""
        return self.names.index(name)

    def encode(self, *indices: npt.ArrayLike) -> IntArray:
        """Return the classes (N,) of the values' indices of each attribute, (N,) each; ValueError out of range."""
        arrays = np.broadcast_arrays(*(np.asarray(index, np.int64) for index in indices))
        return np.asarray(np.ravel_multi_index(arrays, self.shape), np.int64)

    def decode(self, label: npt.ArrayLike) -> tuple[IntArray, ...]:
        """Return the index of each attribute's value, (N,) each, of classes (N,); ValueError out of range."""
        return tuple(np.unravel_index(np.asarray(label, dtype=np.int64), self.shape))

    def marginals(self, probs: FloatArray) -> tuple[FloatArray, ...]:
        """Return the sums of class probabilities (N, classes) over the other attributes: (N, values) each."""
        cube = probs.reshape(-1, *self.shape)
        axes = range(len(self.shape))
        return tuple(cube.sum(tuple(i + 1 for i in axes if i != axis)) for axis in axes)

    def one_hot(self, label: npt.ArrayLike) -> FloatArray:
        """Return classes as distributions, (N, classes)."""
        return np.eye(self.num_classes, dtype=np.float32)[np.asarray(label, dtype=np.int64)]
