"""CSV files of predicted and true classes, joined by the names of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from maskcls.core.csv_cells import parse_number
from maskcls.core.csv_reader import Row, raise_errors, read_rows
from maskcls.core.csv_values import are_codes, find_index, find_meaning
from maskcls.core.errors import DataError, and_others
from maskcls.core.table import Note
from maskcls.core.task import Attribute, FloatArray, IntArray, Task
from maskcls.core.task_options import read_task
from maskcls.storage.predictions import check_probs, number_columns, prob_columns
from maskcls.storage.run import Run, find_run
from maskcls.system.safe_reading import FormatError

NAME_COLUMNS = ("ImageID", "id", "path", "photo")
ANSWER_COLUMNS, TRUTH_COLUMNS = ("ans", "guess", "label"), ("label", "ans")  # the first that a file has
OTHER_COLUMNS = ("person", "part", "scored")
IGNORED = ("fold", "content", "probability", "race", "plain", "name")
UNKNOWN = ("", "-1", "-1.0")  # a true class that is not known
NUM_SHOWN = 10  # names in one message


@dataclass(frozen=True)
class ScoreFile:
    """The rows of a CSV of predicted or true classes."""

    source: Path
    columns: str  # what was read, for messages
    names: list[str]
    classes: IntArray  # (N,)
    probs: FloatArray | None = None  # (N, C)
    persons: list[str] | None = None
    parts: list[str] | None = None

    def select(self, indices: Sequence[int]) -> ScoreFile:
        """Return some of the rows, in this order."""
        lists = {key: values and [values[i] for i in indices] for key, values in
                 (("names", self.names), ("persons", self.persons), ("parts", self.parts))}  # fmt: skip
        rows = np.asarray(indices, dtype=np.int64)
        return replace(self, classes=self.classes[rows], probs=None if self.probs is None else self.probs[rows],
                       **lists)  # type: ignore[arg-type]  # fmt: skip


def find_task(truth: Path, task_of: str | None) -> Task:
    """Return the task of a run, or of the truth if it is one; the competition's for files alone."""
    if task_of is not None:
        return Run(find_run(task_of, Path("runs"))).task
    return Run(truth).task if Run(truth).config_path.is_file() else read_task(None)


def read_predictions(source: Path, note: Note, task: Task) -> ScoreFile:
    """Read predictions: p0 … p(C−1), or else a class number or name in ans, guess or label, or each attribute."""
    rows, names = read_named_rows(source, note, task)
    if "p0" in rows[0].cells:
        probs = parse_probs(source, rows, task)
        return ScoreFile(source, "probabilities", names, probs.argmax(1), probs)
    classes, column = parse_classes(source, rows, ANSWER_COLUMNS, task)
    empty = [row.location for row, label in zip(rows, classes, strict=True) if label < 0]
    raise_errors([f"{location}: expected a class, got an empty cell" for location in empty])
    return ScoreFile(source, column, names, np.array(classes, np.int64))


def read_labels(source: Path, note: Note, task: Task) -> ScoreFile:
    """Read true classes: a class number or name in label or ans, or each attribute; and person, if present.

    A run's folder stands for its table.csv. Rows without a class, or that the run does not score, are left out.
    """
    source = Run(source).table_path if source.is_dir() else source
    rows, names = read_named_rows(source, note, task)
    classes, column = parse_classes(source, rows, TRUTH_COLUMNS, task)
    cells = rows[0].cells
    columns = ["person", *filter(None, [task.group]), *(["path"] if "ImageID" in cells else [])]
    person_column = next((name for name in columns if name in cells), None)
    persons = person_column and [row.cells[person_column] or name for row, name in zip(rows, names, strict=True)]
    parts = [row.cells["part"] for row in rows] if "part" in cells else None
    truth = ScoreFile(source, column, names, np.array(classes, np.int64), None, persons or None, parts)
    is_used = [label >= 0 and row.cells.get("scored", "").lower() != "false"
               for row, label in zip(rows, classes, strict=True)]  # fmt: skip
    if not any(is_used):
        raise DataError(f"{source}: no row has a true class")
    if unused := len(rows) - sum(is_used):
        note(f"{source}: {unused} of {len(rows)} rows have no true class or are not scored")
    return truth.select(np.flatnonzero(is_used).tolist())


def read_named_rows(source: Path, note: Note, task: Task) -> tuple[list[Row], list[str]]:
    """Return the rows of a CSV and the name of the image in each."""
    own = (*(attribute.source for attribute in task), *task.names, *filter(None, [task.group]))
    probs = prob_columns(task.num_classes)
    columns = dict.fromkeys((*NAME_COLUMNS, *ANSWER_COLUMNS, *own, *OTHER_COLUMNS, *probs))
    rows = read_rows(source, (), tuple(columns), (*IGNORED, *number_columns(task)), note)
    if not rows:
        raise DataError(f"{source} has a header but no rows")
    cells = rows[0].cells
    column = next((name for name in NAME_COLUMNS if name in cells), None)
    if column is None:
        raise DataError(f"{source}: expected a column {' or '.join(NAME_COLUMNS)}, got columns {', '.join(cells)}")
    raise_errors([f"{row.location}: {column} is empty" for row in rows if not row.cells[column]])
    names = [str(PurePosixPath(row.cells[column].replace("\\", "/"))) for row in rows]
    if duplicates := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{source}: {len(duplicates)} images have several rows: {and_others(duplicates, NUM_SHOWN)}")
    return rows, names


def parse_probs(source: Path, rows: Sequence[Row], task: Task) -> FloatArray:
    """Return the probabilities (N, C) of some rows."""
    columns = prob_columns(task.num_classes)
    if missing := [name for name in columns if name not in rows[0].cells]:
        raise DataError(f"{source}: expected columns p0 … {columns[-1]}, got none named {and_others(missing)}")
    try:
        probs = np.array([[row.cells[name] for name in columns] for row in rows]).astype(np.float32)
        check_probs(probs)
    except FormatError as error:
        raise DataError(f"{source}: {error}") from error
    except ValueError as error:
        raise DataError(f"{source}: expected numbers as probabilities ({error})") from error
    return probs


def parse_classes(source: Path, rows: Sequence[Row], columns: Sequence[str], task: Task) -> tuple[list[int], str]:
    """Return the class of each row (−1: unknown) from the first of `columns` or the attributes, and what was read."""
    cells, errors = rows[0].cells, list[str]()
    column = next((name for name in columns if name in cells), None)
    if column is not None:
        codes = class_codes(task)
        classes = [parse_class(row, column, codes, errors) for row in rows]
        raise_errors(errors)
        return classes, f"column {column}"
    names = [one.name if one.source not in cells and one.name in cells else one.source for one in task]
    text = f"column{'s' * (len(names) > 1)} {', '.join(names)}"
    if not set(names) <= cells.keys():
        expected = f"expected a column {' or '.join(columns)}, or {text}"
        raise DataError(f"{source}: {expected}, got columns {', '.join(cells)}")
    for attribute, name in zip(task, names, strict=True):
        if attribute.is_number and are_codes([row.cells[name] for row in rows], attribute):
            what = f"expected {attribute.unit or 'numbers'} or {attribute.name} classes, got only numbers up to"
            raise DataError(f"{source}: column {name}: {what} {len(attribute.values) - 1}")
    classes = [combine_attributes(row, names, errors, task) for row in rows]
    raise_errors(errors)
    return classes, text


def class_codes(task: Task) -> dict[str, int]:
    """Return the class of each spelling: its number, or else its name in lower case."""
    names = {name.casefold(): i for i, name in enumerate(task.classes)}
    return names | {text: i for i in range(task.num_classes) for text in (str(i), f"{i}.0")}


def parse_class(row: Row, column: str, codes: Mapping[str, int], errors: list[str]) -> int:
    """Return the class in a column, −1 if it is empty; add a message for an invalid one."""
    value = row.cells[column].casefold()
    if value not in codes and value not in UNKNOWN:
        last = max(codes.values())
        errors.append(f"{row.location}: {column} must be a class from 0 to {last}, got {value!r}")
    return codes.get(value, -1)


def combine_attributes(row: Row, names: Sequence[str], errors: list[str], task: Task) -> int:
    """Return the class of the attributes in some columns, −1 if one is empty; a number may be written as its class."""
    if not all(row.cells[name] for name in names):
        return -1
    indices = [find_value(row.cells[name], attribute, task) for attribute, name in zip(task, names, strict=True)]
    wrong = [name for name, index in zip(names, indices, strict=True) if index is None]
    errors += [f"{row.location}: unknown {name} {row.cells[name]!r}" for name in wrong]
    return -1 if wrong else int(task.encode(*indices))  # type: ignore[arg-type]


def find_value(text: str, attribute: Attribute, task: Task) -> int | None:
    """Return the index of an attribute's value, None if the text has no meaning."""
    if not attribute.is_number:
        return None if (word := find_meaning(attribute.name, text, {}, task)) is None else attribute.values.index(word)
    number = parse_number(text, attribute)
    return find_index(text, attribute) if number is None else int(attribute.bin(number))


def join_files(answers: ScoreFile, truth: ScoreFile, skip_missing: bool, note: Note) -> tuple[ScoreFile, ScoreFile]:
    """Return the rows of the images in both files, in the truth's order; DataError for images without an answer."""
    answer_keys, truth_keys = match_names(answers, truth, note)
    if truth.parts is not None:
        answered = set(answer_keys)
        parts = {part for part, key in zip(truth.parts, truth_keys, strict=True) if key in answered}
        indices = [i for i, part in enumerate(truth.parts) if part in parts]
        truth, truth_keys = truth.select(indices), [truth_keys[i] for i in indices]
    positions = {key: i for i, key in enumerate(answer_keys)}
    missing = [name for name, key in zip(truth.names, truth_keys, strict=True) if key not in positions]
    if missing:
        message = (f"{answers.source}: {len(missing)} of the {len(truth.names)} images of {truth.source} have no "
                   f"answer: {and_others(missing, NUM_SHOWN)}")  # fmt: skip
        if not skip_missing:
            raise DataError(f"{message}. Set missing=skip to score the others")
        note(message)
    extra = set(answer_keys) - set(truth_keys)
    if names := [name for name, key in zip(answers.names, answer_keys, strict=True) if key in extra]:
        note(f"{answers.source}: {len(names)} of {len(answers.names)} images have no true class in {truth.source} "
             f"and are not scored: {and_others(names, NUM_SHOWN)}")  # fmt: skip
    indices = [i for i, key in enumerate(truth_keys) if key in positions]
    return answers.select([positions[truth_keys[i]] for i in indices]), truth.select(indices)


def match_names(answers: ScoreFile, truth: ScoreFile, note: Note) -> tuple[list[str], list[str]]:
    """Return comparable names: full paths if any is in both files, else as few of their last parts as are unique."""
    if set(answers.names) & set(truth.names):
        return answers.names, truth.names
    for depth in range(1, max(name.count("/") for name in [*answers.names, *truth.names]) + 2):
        ours, theirs = ([last_parts(name, depth) for name in file.names] for file in (answers, truth))
        answered = set(ours)
        shared = [key for key in theirs if key in answered]
        if len(answered) == len(ours) and len(set(shared)) == len(shared) > 0:
            note(f"images are joined by the last {depth} parts of their paths" if depth > 1
                 else "images are joined by file name, without folders")  # fmt: skip
            return ours, theirs
    raise DataError(f"{answers.source} and {truth.source} have no image in common. Their first images are "
                    f"{answers.names[0]} and {truth.names[0]}")  # fmt: skip


def last_parts(name: str, depth: int) -> str:
    """Return the last parts of a path."""
    return "/".join(name.split("/")[-depth:])
