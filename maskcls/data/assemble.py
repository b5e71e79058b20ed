"""The image table of an experiment, with folds, checked for people in both training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.components import crop, split
from maskcls.components.data import synthetic
from maskcls.components.sampler import group_size
from maskcls.core.config import Config
from maskcls.core.csv_reader import raise_errors
from maskcls.core.errors import ConfigError, DataError, and_others
from maskcls.core.missing_files import SkipMissing
from maskcls.core.person_ids import note_doubtful_ids, note_duplicate_images
from maskcls.core.registry import Component
from maskcls.core.table import (
    Note,
    count_split_people,
    num_folds,
    train_indices,
    val_indices,
    value_indices,
)
from maskcls.core.task import Task
from maskcls.data.image_check import inspect_images
from maskcls.data.selection import prepare_rows, without_patches
from maskcls.system import distributed
from maskcls.system.console import escape_controls
from maskcls.system.file_digests import file_digests
from maskcls.system.files import write_text

COMPETITION_SIZE = (512, 384)  # height, width of the competition's images
MAX_LOWERED = 64
NUM_LISTED = 20  # images that one report lists


def assemble_table(cfg: Config, note: Note) -> pd.DataFrame:
    """Return the table with columns fold (−1: no validation rows of any fold) and scored, and note its oddities."""
    check_drawn_size(cfg)
    table = drop_unreadable(cfg, prepare_rows(cfg, build_source(cfg, cfg.data, note), note), note)
    grown = build_source(cfg, cfg.extra, note, table)
    if len(grown) > len(table):
        table = pd.concat([table, drop_unreadable(cfg, grown.iloc[len(table) :], note)], ignore_index=True)
    common_image_size(cfg, table)
    note_doubtful_ids(table, note)
    table = without_patches(cfg.labels).build(cfg.pseudo.build(table, note), note)
    train = table["part"] == "train"
    table = note_missing_labels(table, cfg, note)
    folds = cfg.split.build(table[train], cfg.folds, cfg.seed)
    table["fold"] = folds.reindex(table.index, fill_value=-1).astype("int64")
    in_score = (table["fold"] >= 0) | (table["part"] == "eval")
    table["scored"] = (train | (table["part"] == "eval")) & in_score & (table["label"] >= 0)
    check_people(cfg, table, note)
    check_fold_labels(table, cfg.task.build())
    if "content" in table:
        note_duplicate_images(table, note)
    if cfg.fold is not None and cfg.fold >= num_folds(table):
        raise ConfigError(f"fold={cfg.fold} is out of range: split={cfg.split.name} has {num_folds(table)} folds")
    count_before, table = len(table), cfg.overlay.build(table, note, Path(cfg.cache_dir))
    if len(drawn := table.index[count_before:]):
        table.loc[drawn, "content"] = file_digests(list(table.loc[drawn, "path"]), Path(cfg.cache_dir))
    note_batch_size(table, cfg, note)
    return table


def note_missing_labels(table: pd.DataFrame, cfg: Config, note: Note) -> pd.DataFrame:
    """Return the table, with a column `partial` if a row lacks the label of some attribute, which marks these rows.

    Note their number; raise DataError for a training row without any label, and ConfigError if the head needs all.
    """
    task, train = cfg.task.build(), (table["part"] != "eval").to_numpy()
    missing = value_indices(table, task) < 0
    if (is_empty := train & missing.all(1)).any():
        raise DataError(f"{is_empty.sum()} training images have no label")
    partial = missing.any(1) & ~missing.all(1)
    if not partial.any():
        return table
    cfg.head.build().for_table(table)
    for rows, name in ((train, "training"), (~train, "evaluation")):
        for axis, attribute in enumerate(task.names):
            if count := int((rows & partial & missing[:, axis]).sum()):
                others = "they are trained on and scored" if name == "training" else "they are scored"
                note(f"{count} of {rows.sum()} {name} images have no {attribute}: {others} by the other attributes")
    return table.assign(partial=np.asarray(partial))


def check_fold_labels(table: pd.DataFrame, task: Task) -> None:
    """Raise DataError for a fold whose validation rows have no whole label, or none of an attribute."""
    for k in range(num_folds(table) if "partial" in table else 0):
        has_label = value_indices(table.iloc[val_indices(table, k)], task) >= 0
        for name, known in (("all labels", has_label.all(1)), *zip(task.names, has_label.T, strict=True)):
            if not known.any():
                what = f"no validation image of fold {k} has {name if name == 'all labels' else f'a label of {name}'}"
                raise DataError(f"{what}, so it cannot be scored. Set fewer folds, or label more images")


def check_drawn_size(cfg: Config) -> None:
    """Raise ConfigError, before any drawing, if the synthetic images are smaller than crop=center; say what to add."""
    if cfg.data.builder is not synthetic or cfg.crop.builder is not crop.center:
        return
    (height, width), (h, w) = ([side.params["height"], side.params["width"]] for side in (cfg.crop, cfg.data))
    if h >= height and w >= width:
        return
    add = f"data.height={max(height, COMPETITION_SIZE[0])} data.width={max(width, COMPETITION_SIZE[1])}"
    raise ConfigError(f"{crop.crop_too_large(height, width, h, w)} of data=synthetic. Add {add}")


def build_source(cfg: Config, source: Component, note: Note, *tables: pd.DataFrame) -> pd.DataFrame:
    """Return the table of data or extra; with on_error=skip it lacks the rows whose file is missing, noted."""
    if cfg.on_error != "skip":
        return source.build(*tables, note)
    skip = SkipMissing(note)
    table: pd.DataFrame = source.build(*tables, skip)
    if skip.messages:
        note(f"on_error: {len(skip.messages)} rows were left out, their files are missing: {first_few(skip.messages)}")
    return table


def check_people(cfg: Config, table: pd.DataFrame, note: Note) -> None:
    """Raise DataError for people in both training and scored rows; an image-level split gets a note instead."""
    num_split_people, train = count_split_people(table), table["part"] == "train"
    if num_split_people and cfg.split.builder not in split.IMAGE_LEVEL_SPLITS:
        raise DataError(f"split={cfg.split.name}: {num_split_people} people are in both training and validation")
    if num_split_people:
        note(f"LEAK: split={cfg.split.name} puts {num_split_people} people in both training and validation, "
             "so out-of-fold scores are not scores on new people")  # fmt: skip
    if shared := set(table.loc[train, "person"]) & set(table.loc[~train & table["scored"], "person"]):
        raise DataError(
            f"{len(shared)} people are in both training and the scored evaluation set: {and_others(sorted(shared))}"
        )


def first_few(messages: Sequence[str]) -> str:
    """Return the first three messages and the number of the others."""
    return "; ".join(messages[:3]) + (f"; … and {len(messages) - 3} more" if len(messages) > 3 else "")


def drop_unreadable(cfg: Config, table: pd.DataFrame, note: Note) -> pd.DataFrame:
    """Return the rows with usable images, with a column `content`, the digest of each image file.

    With on_error=skip the others are left out and noted, otherwise they raise DataError. This happens before the split,
    so that folds and the digest of the table depend only on the remaining rows.
    """
    infos = inspect_images(table["path"], Path(cfg.cache_dir))
    reasons = [info.error or crop.crop_error(cfg.crop, info) for info in infos]
    is_bad = np.array([reason is not None for reason in reasons], bool)
    if not is_bad.any():
        return with_content(table, cfg)
    summary = f"{is_bad.sum()} of {len(table)} images are unreadable"
    skip = cfg.on_error == "skip"
    names = table["id" if skip else "path"]
    messages = [f"{name} {reason}" for name, reason in zip(names, reasons, strict=True) if reason]
    if not skip or is_bad.all():
        remedy = "No images are left" if skip else "Set on_error=skip to exclude them"
        report = f"{summary}. {remedy}{write_error_list(cfg, messages)}"
        raise_errors([*messages[:NUM_LISTED], report], NUM_LISTED + 1)
    num_eval = int((is_bad & (table["part"] == "eval")).sum())
    in_eval = f", {num_eval} of them in the evaluation set, without a prediction" if num_eval else ""
    note(f"on_error: {summary} and were left out{in_eval}: {first_few(messages)}")
    return with_content(table[~is_bad].reset_index(drop=True), cfg)


def with_content(table: pd.DataFrame, cfg: Config) -> pd.DataFrame:
    """Return a table with the digest of each image file."""
    return table.assign(content=file_digests(list(table["path"]), Path(cfg.cache_dir)))


def write_error_list(cfg: Config, messages: Sequence[str]) -> str:
    """Write all messages to a file if there are more than a report lists, and return a reference to it."""
    if len(messages) <= NUM_LISTED:
        return ""
    file = Path(cfg.cache_dir) / "unusable.txt"
    write_text(file, "".join(f"{escape_controls(message, keep='')}\n" for message in messages))
    return f". All errors are listed in {file}"


def common_image_size(cfg: Config, table: pd.DataFrame) -> tuple[int, int] | None:
    """Return the (height, width) of all images for crop=none, None for other crops; sizes that differ are an error."""
    if cfg.crop.builder is not crop.none:
        return None
    paths: dict[tuple[int, int], str] = {}
    for path, info in zip(table["path"], inspect_images(table["path"], Path(cfg.cache_dir)), strict=True):
        paths.setdefault((info.height, info.width), path)
    if len(paths) > 1:
        raise DataError(crop.mixed_sizes_message("none", [f"{h} × {w} ({path})" for (h, w), path in paths.items()]))
    return next(iter(paths))


def fit_batch_size(table: pd.DataFrame, cfg: Config) -> int:
    """Return the batch size: at most the training images of the smallest fold; ConfigError if no batch fits.

    A batch of more than MAX_LOWERED images is not lowered: no default is so large, so somebody asked for it.
    """
    world_size = distributed.world_size()
    if cfg.batch_size % world_size:
        raise ConfigError(f"batch_size={cfg.batch_size} is not divisible by the {world_size} processes")
    num_images, k = min((len(train_indices(table, k)), k) for k in range(num_folds(table)))
    unit = world_size * group_size(cfg.sampler)
    batch_size = min(cfg.batch_size, num_images // unit * unit)
    if batch_size < cfg.batch_size and (cfg.batch_size > MAX_LOWERED or batch_size < 2 * world_size):
        raise ConfigError(f"batch_size={cfg.batch_size} exceeds the {num_images} training images of fold {k}")
    if (num_batches := num_images // batch_size) < cfg.grad_accum_steps:
        steps = f"grad_accum_steps={cfg.grad_accum_steps}"
        raise ConfigError(f"{steps} exceeds the {num_batches} batches per epoch of fold {k}")
    return batch_size


def note_batch_size(table: pd.DataFrame, cfg: Config, note: Note) -> None:
    """Report a batch size that is lowered."""
    if (batch_size := fit_batch_size(table, cfg)) < cfg.batch_size:
        num_images = min(len(train_indices(table, k)) for k in range(num_folds(table)))
        note(f"batch_size={cfg.batch_size} was lowered to {batch_size}: a fold has only {num_images} training images")
