"""The image table: column names, row selections, digest, summary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import AGES, CLASSES, SHAPE, FloatArray, IntArray, decode, encode

COLUMNS = ["id", "path", "person", "mask", "gender", "age", "label", "part"]
AGE_COLUMNS = [f"age{i}" for i in range(len(AGES))]
SOFT_TARGET_COLUMNS = [f"soft{i}" for i in range(len(CLASSES))]  # target probabilities, NaN for a hard label
SCORING_COLUMNS = ["id", "person", "mask", "gender", "age", "label", "part", "fold", "scored"]
PATCH_COLUMNS = ["tier", "person", "photo", "field", "old", "new", "source"]  # patches.csv and lists of errors
DECISIONS = ("accepted", "refused")  # on the rows of a list of errors
FOLD_LABEL, FOLD_SOFT = "pseudo{}", "soft{}_{}"  # columns: a row's label and probabilities in a fold
OWN_LABEL, NOT_TRAINED = -1, -2  # fold labels: the row keeps its label; the fold does not train on the row
GROUP_PREFIX = "group."  # of the columns that no training uses: scores are shown for each of their values
Note = Callable[[str], None]  # reports a remark about the data


def group_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns by whose values the report groups images, such as group.race."""
    return [name for name in table.columns if name.startswith(GROUP_PREFIX)]


def with_fold_labels(table: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the table with the labels that pseudo-labelled rows have in fold k."""
    if (column := FOLD_LABEL.format(k)) not in table:
        return table
    rows = (table[column] >= 0).to_numpy()
    label = table["label"].where(~rows, table[column])
    mask, gender, age = decode(label.clip(0))
    ages = np.where(rows[:, None], np.eye(len(AGES))[age], table[AGE_COLUMNS]).astype(np.float32)
    table = table.assign(label=label, mask=np.where(rows, mask, table["mask"]),
                         gender=np.where(rows, gender, table["gender"]),
                         age=table["age"].where(~rows), age_class=np.where(rows, age, table["age_class"]))  # fmt: skip
    table[AGE_COLUMNS] = ages
    soft = [FOLD_SOFT.format(k, i) for i in range(len(CLASSES))]
    return table.rename(columns=dict(zip(soft, SOFT_TARGET_COLUMNS, strict=True)))


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


def train_targets(table: pd.DataFrame) -> FloatArray:
    """Return the target distribution of each row, (N, 18): hard mask and gender, soft age; or its soft targets."""
    mask, gender, _ = decode(table["label"].clip(0))
    cube = np.zeros((len(table), *SHAPE), np.float32)
    cube[np.arange(len(table)), mask, gender] = table[AGE_COLUMNS].to_numpy()
    targets = cube.reshape(len(table), -1)
    if SOFT_TARGET_COLUMNS[0] in table:
        is_soft = table[SOFT_TARGET_COLUMNS[0]].notna().to_numpy()
        targets[is_soft] = table.loc[is_soft, SOFT_TARGET_COLUMNS].to_numpy(np.float32)
    return targets


def train_labels(table: pd.DataFrame) -> IntArray:
    """Return the hard class of each row, (N,), also where its target is soft."""
    mask, gender, _ = decode(table["label"].clip(0))
    return encode(mask, gender, table["age_class"])


def val_indices(table: pd.DataFrame, k: int) -> np.ndarray:
    """Return the positions of the validation rows of fold k."""
    return np.flatnonzero((table["part"] == "train") & (table["fold"] == k) & table["scored"])


def eval_indices(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the evaluation set."""
    return np.flatnonzero(table["part"] == "eval")


def table_digest(table: pd.DataFrame) -> str:
    """Return 8 hexadecimal digits of a table's rows and image contents, without paths and the report's groups."""
    training = table[sorted(set(table.columns) - {*SCORING_COLUMNS, "content", "path", *group_columns(table)})]
    numbers = training.select_dtypes(["number", "bool"])
    texts = table[[*SCORING_COLUMNS, "content", *training.columns.difference(numbers.columns)]]
    digest = hashlib.sha256(texts.to_csv(index=False, lineterminator="\n").encode())
    values = numbers.to_numpy(np.float64, copy=True)
    values[np.isnan(values)] = np.nan  # one of the many bit patterns
    digest.update(" ".join(numbers.columns).encode() + values.tobytes())
    return digest.hexdigest()[:8]


def size_digest(table: pd.DataFrame) -> str:
    """Return the digest of a table's rows and file sizes, as stored by runs of older versions."""
    sizes = [os.stat(path).st_size for path in table["path"]]
    text = table[SCORING_COLUMNS].assign(size=sizes).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe_table(table: pd.DataFrame) -> str:
    """Return one line with the numbers of images, people, folds and classes."""
    train, evaluation = table[table["part"] == "train"], table[table["part"] == "eval"]
    num_classes = len(np.unique(train["label"]))
    num_labelled = int(evaluation["scored"].sum())
    return (
        f"{len(train)} images of {train['person'].nunique()} people in {num_folds(table)} folds, {num_classes} of "
        f"{len(CLASSES)} classes; evaluation set: {len(evaluation)} images, {num_labelled} with labels"
    )


def content_differs(contents: pd.Series, other: pd.Series) -> npt.NDArray[np.bool_]:
    """Return the mask of rows where two columns `content` differ; unknown contents count as equal."""
    return ((contents != other) & (contents != "") & (other != "")).to_numpy(bool)
