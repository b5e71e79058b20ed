"""The image table: column names, row selections, digest, summary."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import numpy.typing as npt
import pandas as pd

from maskcls.core.task import AGES, CLASSES, SHAPE, FloatArray, IntArray, decode, encode

COLUMNS = ["id", "path", "person", "mask", "gender", "age", "label", "part"]
AGE_COLUMNS = [f"age{i}" for i in range(len(AGES))]
SOFT_TARGET_COLUMNS = [
    f"soft{i}" for i in range(len(CLASSES))
]  # what a row is trained towards, NaN where its label says that
FOLD_LABEL, FOLD_SOFT = "pseudo{}", "soft{}_{}"  # columns: a fold's label of a row; its probabilities
OWN, OUT = -1, -2  # in place of a fold's label: the row's own label is meant; the fold does not train on the row


def with_fold_labels(table: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return a table with the labels that fold k trains pseudo-labelled rows towards."""
    if (column := FOLD_LABEL.format(k)) not in table:
        return table
    rows = (table[column] >= 0).to_numpy()
    label = table["label"].where(~rows, table[column])
    mask, gender, age = decode(label.clip(0))
    ages = np.where(rows[:, None], np.eye(len(AGES))[age], table[AGE_COLUMNS]).astype(np.float32)
    table = table.assign(label=label, mask=np.where(rows, mask, table["mask"]),
                         gender=np.where(rows, gender, table["gender"]),
                         age_class=np.where(rows, age, table["age_class"]))  # fmt: skip
    table[AGE_COLUMNS] = ages
    soft = [FOLD_SOFT.format(k, i) for i in range(len(CLASSES))]
    return table.rename(columns=dict(zip(soft, SOFT_TARGET_COLUMNS, strict=True)))


def taken(table: pd.DataFrame, k: int) -> pd.Series[bool]:
    """Return which rows fold k may train on: of pseudo-labelled ones, those that its own source is sure of."""
    column = FOLD_LABEL.format(k)
    return table[column] != OUT if column in table else pd.Series(True, index=table.index)


SCORING_COLUMNS = ["id", "person", "mask", "gender", "age", "label", "part", "fold", "scored"]


def count_split_people(table: pd.DataFrame) -> int:
    """Count the people with photos in more than one fold."""
    return int((table[table["part"] == "train"].groupby("person")["fold"].nunique() > 1).sum())


def num_folds(table: pd.DataFrame) -> int:
    """Return the number of folds that are scored."""
    return int(table["fold"].max()) + 1


def train_indices(table: pd.DataFrame, k: int) -> np.ndarray:
    """Return the positions of the rows that fold k trains on."""
    return np.flatnonzero(table["trained"] & (table["fold"] != k) & taken(table, k))


def targets(table: pd.DataFrame) -> FloatArray:
    """Return what each row is trained towards, (N, 18): mask and gender as labelled, age as a distribution."""
    mask, gender, _ = decode(table["label"].clip(0))
    cube = np.zeros((len(table), *SHAPE), np.float32)
    cube[np.arange(len(table)), mask, gender] = table[AGE_COLUMNS].to_numpy()
    whole = cube.reshape(len(table), -1)
    if SOFT_TARGET_COLUMNS[0] in table:
        given = table[SOFT_TARGET_COLUMNS[0]].notna().to_numpy()
        whole[given] = table.loc[given, SOFT_TARGET_COLUMNS].to_numpy(np.float32)
    return whole


def train_labels(table: pd.DataFrame) -> IntArray:
    """Return the class that training counts each row to, (N,), however soft its target is."""
    mask, gender, _ = decode(table["label"].clip(0))
    return encode(mask, gender, table["age_class"])


def val_indices(table: pd.DataFrame, k: int) -> np.ndarray:
    """Return the positions of the rows that fold k is scored on."""
    return np.flatnonzero((table["part"] == "train") & (table["fold"] == k) & table["scored"])


def eval_indices(table: pd.DataFrame) -> np.ndarray:
    """Return the positions of the evaluation rows."""
    return np.flatnonzero(table["part"] == "eval")


def table_digest(table: pd.DataFrame) -> str:
    """Return 8 hexadecimal digits of all that a table says of its photos and of what their files hold.

    Where the files lie is left out.
    """
    more = table[sorted(set(table.columns) - {*SCORING_COLUMNS, "content", "path"})]  # what training alone goes by
    numbers = more.select_dtypes(["number", "bool"])
    words = table[[*SCORING_COLUMNS, "content", *more.columns.difference(numbers.columns)]]
    whole = hashlib.sha256(words.to_csv(index=False, lineterminator="\n").encode())
    values = numbers.to_numpy(np.float64, copy=True)
    values[np.isnan(values)] = np.nan  # of the many bit patterns, one
    whole.update(" ".join(numbers.columns).encode() + values.tobytes())
    return whole.hexdigest()[:8]


def size_digest(table: pd.DataFrame) -> str:
    """Return the digest of runs from before photos were known by content: of rows and the sizes of their files."""
    sizes = [os.stat(path).st_size for path in table["path"]]
    text = table[SCORING_COLUMNS].assign(size=sizes).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def describe_table(table: pd.DataFrame) -> str:
    """Return one line on what a table holds."""
    train, rest = table[table["part"] == "train"], table[table["part"] == "eval"]
    present = len(np.unique(train["label"]))
    return (
        f"{len(train)} photos of {train['person'].nunique()} people in {num_folds(table)} folds, {present} of "
        f"{len(CLASSES)} classes; {len(rest)} evaluation photos ({int(rest['scored'].sum())} with labels)"
    )


def differ(mine: pd.Series, other: pd.Series) -> npt.NDArray[np.bool_]:
    """Return where two columns `content` differ; a photo whose content one of them does not know is taken as equal."""
    return ((mine != other) & (mine != "") & (other != "")).to_numpy(bool)
