"""The image table: column names, row selections, digest, summary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import FloatArray, IntArray, Task

PATCH_COLUMNS = ["tier", "person", "photo", "field", "old", "new", "source"]  # patches.csv and lists of errors
DECISIONS = ("accepted", "refused")  # on the rows of a list of errors
FOLD_LABEL, FOLD_SOFT = "pseudo{}", "soft{}_{}"  # columns: a row's label and probabilities in a fold
SOFT_TARGET = "soft{}"  # columns: target probabilities, NaN for a hard label
OWN_LABEL, NOT_TRAINED = -1, -2  # fold labels: the row keeps its label; the fold does not train on the row
GROUP_PREFIX = "group."  # of the columns that no training uses: scores are shown for each of their values
NEARLY_ALL = 0.9  # of the groups with several images
Note = Callable[[str], None]  # reports a remark about the data


def group_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns by whose values the report groups images, such as group.race."""
    return [name for name in table.columns if name.startswith(GROUP_PREFIX)]


def table_columns(task: Task) -> list[str]:
    """Return the columns of the image table, as data sources write them."""
    return ["id", "path", "person", *(attribute.source for attribute in task), "label", "part"]


def scoring_columns(task: Task) -> list[str]:
    """Return the columns of the image table that determine scores."""
    return ["id", "person", *(attribute.source for attribute in task), "label", "part", "fold", "scored"]


def soft_target_columns(task: Task) -> list[str]:
    """Return the columns with the target probability of each class."""
    return [SOFT_TARGET.format(i) for i in range(task.num_classes)]


def value_indices(table: pd.DataFrame, task: Task) -> IntArray:
    """Return the index of each attribute's value, (N, A), −1 without a label: of the class if known, else of columns.

    A number counts by the borders for scoring.
    """
    label = table["label"].to_numpy(np.int64)
    decoded = np.stack(task.decode(label.clip(0)), 1).reshape(len(table), -1)
    return np.where(label[:, None] >= 0, decoded, column_indices(table, task))


def column_indices(table: pd.DataFrame, task: Task) -> IntArray:
    """Return the index of each attribute's value, (N, A), of its own column; −1 without a label."""
    indices = np.full((len(table), len(task.attributes)), -1, np.int64)
    for axis, attribute in enumerate(task):
        if attribute.source in table:
            values = table[attribute.source].to_numpy(float)
            is_known = ~np.isnan(values) if attribute.is_number else values >= 0
            known = values[is_known]
            indices[is_known, axis] = attribute.bin(known) if attribute.is_number else known
    return indices


def group_axes(values: IntArray, persons: Sequence[str], task: Task) -> tuple[int, ...]:
    """Return the positions of the attributes that belong to the group, such as a person's gender and age.

    The task says it with `per`, else the data: one value in nearly each group of several images. `values` (N, A) are
    indices, −1 without a label.
    """
    found = pd.DataFrame(np.where(values < 0, np.nan, values)).groupby(np.asarray(persons, dtype=object))
    counts = found.nunique()[(found.size() > 1)]
    shares = (counts <= 1).mean() if len(counts) else pd.Series(1.0, range(len(task.attributes)))
    return tuple(axis for axis, attribute in enumerate(task)
                 if (attribute.per == "group" if attribute.per else shares[axis] >= NEARLY_ALL))  # fmt: skip


def has_missing_labels(table: pd.DataFrame, task: Task) -> bool:
    """Return True if a training row lacks the label of an attribute."""
    return bool(((table["label"] < 0) & (table["part"] != "eval")).any())


def with_fold_labels(table: pd.DataFrame, k: int, task: Task) -> pd.DataFrame:
    """Return the table with the labels that pseudo-labelled rows have in fold k."""
    if (column := FOLD_LABEL.format(k)) not in table:
        return table
    rows = (table[column] >= 0).to_numpy()
    label = table["label"].where(~rows, table[column])
    changed: dict[str, pd.Series | np.ndarray] = {"label": label}
    for attribute, index in zip(task, task.decode(label.clip(0)), strict=True):
        if attribute.is_number:
            one_hot = np.eye(len(attribute.values))[index]
            soft = np.where(rows[:, None], one_hot, table[attribute.soft_columns]).astype(np.float32)
            changed |= dict(zip(attribute.soft_columns, soft.T, strict=True))
            changed[attribute.source] = table[attribute.source].where(~rows)
            changed[attribute.class_column] = np.where(rows, index, table[attribute.class_column])
        else:
            changed[attribute.source] = np.where(rows, index, table[attribute.source])
    columns = [FOLD_SOFT.format(k, i) for i in range(task.num_classes)]
    return table.assign(**changed).rename(columns=dict(zip(columns, soft_target_columns(task), strict=True)))


def has_train_label(table: pd.DataFrame, k: int) -> pd.Series[bool]:
    """Return the mask of rows with a label in fold k; a pseudo-labelled row may lack one."""
    column = FOLD_LABEL.format(k)
    return table[column] != NOT_TRAINED if column in table else pd.Series(True, index=table.index)


def count_split_people(table: pd.DataFrame) -> int:
    """Count the people with images in more than one fold."""
    return int((table[table["part"] == "train"].groupby("person")["fold"].nunique() > 1).sum())


def num_folds(table: pd.DataFrame) -> int:
    """Return the number of scored folds."""
    return int(table["fold"].max()) + 1


def train_indices(table: pd.DataFrame, k: int) -> np.ndarray:
    """Return the positions of the training rows of fold k."""
    return np.flatnonzero(table["trained"] & (table["fold"] != k) & has_train_label(table, k))


def attribute_targets(table: pd.DataFrame, task: Task) -> list[FloatArray]:
    """Return the target distribution of each row over each attribute's values, (N, values) each.

    A word is hard, a number is as `labels` says; an attribute without a label has zeros.
    """
    indices = value_indices(table, task)
    targets = []
    for axis, attribute in enumerate(task):
        known = (indices[:, axis] >= 0)[:, None]
        one_hot = np.eye(len(attribute.values), dtype=np.float32)[indices[:, axis].clip(0)]
        soft = table[attribute.soft_columns].to_numpy(np.float32) if attribute.is_number else one_hot
        targets.append(np.where(known, soft, np.float32(0)))
    return targets


def train_targets(table: pd.DataFrame, task: Task) -> FloatArray:
    """Return the target distribution of each row over the classes, (N, C): of its attributes, or its soft targets.

    A row that lacks the label of an attribute has zeros.
    """
    first, *others = attribute_targets(table, task)
    targets = first
    for other in others:
        targets = (targets[:, :, None] * other[:, None]).reshape(len(table), -1)
    if (columns := soft_target_columns(task))[0] in table:
        is_soft = table[columns[0]].notna().to_numpy()
        targets[is_soft] = table.loc[is_soft, columns].to_numpy(np.float32)
    return targets


def train_labels(table: pd.DataFrame, task: Task) -> IntArray:
    """Return the hard class of each row, (N,), also where its target is soft; an unknown value counts as the first."""
    indices = value_indices(table, task).clip(0)
    for axis, attribute in enumerate(task):
        if attribute.is_number:
            indices[:, axis] = table[attribute.class_column].to_numpy()
    return task.encode(*indices.T)


def val_indices(table: pd.DataFrame, k: int) -> np.ndarray:
    """Return the positions of the validation rows of fold k, also of those that lack the label of an attribute."""
    has_label = table["scored"] | table["partial"] if "partial" in table else table["scored"]
    return np.flatnonzero((table["part"] == "train") & (table["fold"] == k) & has_label)


def eval_indices(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the evaluation set."""
    return np.flatnonzero(table["part"] == "eval")


def table_digest(table: pd.DataFrame, task: Task) -> str:
    """Return 8 hexadecimal digits of a table's rows and image contents, without paths and the report's groups."""
    scoring = scoring_columns(task)
    training = table[sorted(set(table.columns) - {*scoring, "content", "path", *group_columns(table)})]
    numbers = training.select_dtypes(["number", "bool"])
    texts = table[[*scoring, "content", *training.columns.difference(numbers.columns)]]
    digest = hashlib.sha256(texts.to_csv(index=False, lineterminator="\n").encode())
    values = numbers.to_numpy(np.float64, copy=True)
    values[np.isnan(values)] = np.nan  # one of the many bit patterns
    digest.update(" ".join(numbers.columns).encode() + values.tobytes())
    return digest.hexdigest()[:8]


def size_digest(table: pd.DataFrame, task: Task) -> str:
    """Return the digest of a table's rows and file sizes, as stored by runs of older versions."""
    sizes = [os.stat(path).st_size for path in table["path"]]
    text = table[scoring_columns(task)].assign(size=sizes).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe_table(table: pd.DataFrame, task: Task) -> str:
    """Return one line with the numbers of images, people, folds and classes."""
    train, evaluation = table[table["part"] == "train"], table[table["part"] == "eval"]
    num_classes = len(np.unique(train.loc[train["label"] >= 0, "label"]))
    people = f" of {train['person'].nunique()} {task.groups}" if task.group else ""
    num_labelled = int(evaluation["scored"].sum())
    return (
        f"{len(train)} images{people} in {num_folds(table)} folds, {num_classes} of "
        f"{task.num_classes} classes; evaluation set: {len(evaluation)} images, {num_labelled} with labels"
    )


def content_differs(contents: pd.Series, other: pd.Series) -> npt.NDArray[np.bool_]:
    """Return the mask of rows where two columns `content` differ; unknown contents count as equal."""
    return ((contents != other) & (contents != "") & (other != "")).to_numpy(bool)
