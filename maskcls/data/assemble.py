"""The table of an experiment: its photos with their folds, checked for people on both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from maskcls.components import crop, split
from maskcls.core.config import Config
from maskcls.core.csv_reader import raise_errors
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.identities import note_doubtful_ids, note_same_photos
from maskcls.core.missing_files import skip_missing
from maskcls.core.table import count_split_people, num_folds, train_indices
from maskcls.data.image_check import inspect_images
from maskcls.data.selection import after_patches, prepared
from maskcls.system import distributed
from maskcls.system.console import escape_controls
from maskcls.system.file_digests import file_digests
from maskcls.system.files import write_text

NAMED = 20  # photos that one report names


def assemble_table(cfg: Config, note: Callable[[str], None]) -> pd.DataFrame:
    """Return the table with fold (−1: not scored in any fold) and scored; `note` is told what is worth knowing."""
    skip = cfg.on_error == "skip"
    with skip_missing(skip) as lost:
        given = cfg.data.build(note)
    note_missing(lost, note)
    table = drop_unreadable(cfg, prepared(cfg, given, note), note)
    with skip_missing(skip) as lost:
        grown = cfg.extra.build(table, note)
    note_missing(lost, note)
    if len(grown) > len(table):
        table = pd.concat([table, drop_unreadable(cfg, grown.iloc[len(table) :], note)], ignore_index=True)
    common_image_size(cfg, table)
    note_doubtful_ids(table, note)
    table = after_patches(cfg.labels).build(cfg.pseudo.build(table, note), note)
    train = table["part"] == "train"
    if (table.loc[train, "label"] < 0).any():
        raise DataError("a training photo has no label")
    folds = cfg.split.build(table[train], cfg.folds, cfg.seed)
    table["fold"] = folds.reindex(table.index, fill_value=-1).astype("int64")
    table["scored"] = np.where(train, table["fold"] >= 0, (table["part"] == "eval") & (table["label"] >= 0))
    both = count_split_people(table)
    if both and cfg.split.builder not in split.IMAGE_LEVEL_SPLITS:
        raise DataError(f"split {cfg.split.name}: {both} people stand on both sides of a fold")
    if both:
        note(f"LEAK: split {cfg.split.name} puts {both} people on both sides: this score is not one on new people")
    if beside := set(table.loc[train, "person"]) & set(table.loc[~train & table["scored"], "person"]):
        raise DataError(f"{len(beside)} people stand in train and among the scored evaluation photos: {min(beside)}, …")
    if "content" in table:
        note_same_photos(table, note)
    if cfg.fold is not None and cfg.fold >= num_folds(table):
        raise ConfigError(f"fold={cfg.fold} is out of range: split={cfg.split.name} has {num_folds(table)} folds")
    count_before, table = len(table), cfg.overlay.build(table, note, Path(cfg.cache_dir))
    if len(drawn := table.index[count_before:]):
        table.loc[drawn, "content"] = file_digests(list(table.loc[drawn, "path"]), Path(cfg.cache_dir))
    check_batch_size(table, cfg)
    return table


def note_missing(lost: Sequence[str], note: Callable[[str], None]) -> None:
    """Tell which rows were left out because their files are missing."""
    if lost:
        note(f"on_error: {len(lost)} rows were left out, their files are missing: {shortened(lost)}")


def shortened(told: Sequence[str]) -> str:
    """Return the first three of some sentences, and the number of the others."""
    return "; ".join(told[:3]) + (f"; … and {len(told) - 3} more" if len(told) > 3 else "")


def drop_unreadable(cfg: Config, table: pd.DataFrame, note: Callable[[str], None]) -> pd.DataFrame:
    """Return the rows whose photos can be used, with a column `content`, the digest of each photo's file.

    With on_error=skip the others are left out and noted, else told. It stands before folds are made, so that a table
    and its hash never speak of photos that are not there.
    """
    looks = inspect_images(table["path"], Path(cfg.cache_dir))
    faults = [seen.fault or crop.crop_error(cfg.crop, seen) for seen in looks]
    bad = np.array([fault is not None for fault in faults], bool)
    if not bad.any():
        return with_content(table, cfg)
    what = f"{bad.sum()} of {len(table)} photos cannot be used"
    column = "id" if cfg.on_error == "skip" else "path"
    told = [f"{name} {fault}" for name, fault in zip(table[column], faults, strict=True) if fault]
    if cfg.on_error == "stop":
        raise_errors([*told[:NAMED], f"{what}; on_error=skip leaves them out{write_error_list(cfg, told)}"], NAMED + 1)
    if bad.all():
        raise_errors([*told[:NAMED], f"{what}: none is left{write_error_list(cfg, told)}"], NAMED + 1)
    lost = int((bad & (table["part"] == "eval")).sum())
    unseen = f", {lost} of them evaluation photos, which get no prediction" if lost else ""
    note(f"on_error: {what} and were left out{unseen}: {shortened(told)}")
    return with_content(table[~bad].reset_index(drop=True), cfg)


def with_content(table: pd.DataFrame, cfg: Config) -> pd.DataFrame:
    """Return a table with the digest of each photo's file."""
    return table.assign(content=file_digests(list(table["path"]), Path(cfg.cache_dir)))


def write_error_list(cfg: Config, told: Sequence[str]) -> str:
    """Write more faults than a report names into a file, and return where they are."""
    if len(told) <= NAMED:
        return ""
    file = Path(cfg.cache_dir) / "unusable.txt"
    write_text(file, "".join(f"{escape_controls(fault, keep='')}\n" for fault in told))
    return f"; all of them are listed in {file}"


def common_image_size(cfg: Config, table: pd.DataFrame) -> tuple[int, int] | None:
    """Return the height and width of photos that crop=none leaves as they are; DataError where they have several.

    Any other crop makes the size its own: None.
    """
    if cfg.crop.builder is not crop.none:
        return None
    sizes: dict[tuple[int, int], str] = {}
    for path, seen in zip(table["path"], inspect_images(table["path"], Path(cfg.cache_dir)), strict=True):
        sizes.setdefault((seen.height, seen.width), path)
    if len(sizes) > 1:
        each = " and ".join(f"{h} × {w} ({path})" for (h, w), path in list(sizes.items())[:2])
        raise DataError(f"crop: photos of {each} pixels do not fit one array: choose crop=resize or crop=center")
    return next(iter(sizes))


def check_batch_size(table: pd.DataFrame, cfg: Config) -> None:
    """Raise a ConfigError where a fold has less than one batch to train on."""
    if cfg.batch % distributed.world_size():
        raise ConfigError(f"batch: {cfg.batch} photos cannot be shared equally by {distributed.world_size()} ranks")
    for k in range(num_folds(table)):
        have = len(train_indices(table, k))
        if have < cfg.batch:
            raise ConfigError(f"batch: {cfg.batch} photos are more than the {have} that fold {k} trains on")
        if have // cfg.batch < cfg.accumulate:
            raise ConfigError(f"accumulate: {cfg.accumulate} batches are more than the {have // cfg.batch} of an epoch")
