"""Prediction with one or more finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from pydantic import AfterValidator

from maskcls.components.blend import Blend
from maskcls.components.hardware import Hardware
from maskcls.config.validation import to_container, validate
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.registry import Component
from maskcls.core.task import FloatArray
from maskcls.data.pixel_cache import load_pixels
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.inference.ensemble import blend_runs, print_scores, score_rows
from maskcls.inference.evaluation_set import load_evaluation, load_own_evaluation, stored_probs
from maskcls.inference.predictor import Predictor, restore_component
from maskcls.inference.submission import write_labels, write_submission
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system import console, distributed

PLACEHOLDERS = {"data": {"name": "synthetic"}, "tta": {"name": "none"}}  # checked where the runs' own words are meant


def check_not_empty(names: list[str]) -> list[str]:
    """Return names, at least one."""
    if not names:
        raise ValueError("it names no run, as runs='[runs/a-1234]' would")
    return names


@dataclass(frozen=True)
class PredictConfig:
    """A prediction: which runs, of which photos, blended how."""

    runs: Annotated[list[str], AfterValidator(check_not_empty)]
    photos: str | list[str] | None  # files, folders, patterns; null: the evaluation part of the data
    out: str | None  # null: submission.csv, or photos.csv where photos are given
    runs_dir: str
    cache_dir: str
    precision: Literal["fp32", "bf16", "fp16"] | None  # null: each run's own
    plugins: list[str]
    data: Component
    tta: Component
    blend: Component
    hardware: Component


def predict(raw: DictConfig | Mapping[str, Any]) -> float:
    """Write the predictions that a config asks for and return the ensemble's out-of-fold macro F1."""
    values = to_container(raw)
    own = {group for group in PLACEHOLDERS if values.get(group) is None}
    cfg = validate(values | {group: PLACEHOLDERS[group] for group in own}, PredictConfig)
    out = Path(cfg.out or ("photos.csv" if cfg.photos else "submission.csv"))
    if out.name == "probabilities.csv":
        raise ConfigError("out: probabilities.csv is the name of the file beside it")
    listing = photos([cfg.photos] if isinstance(cfg.photos, str) else cfg.photos) if cfg.photos else None
    hardware = cfg.hardware.build()
    distributed.init_process_group(hardware.device)
    runs = [Run.open(name, cfg.runs_dir) for name in cfg.runs]
    ensemble, score = blend_runs(cfg.blend, runs)
    tta = None if "tta" in own else cfg.tta
    if tta and any(tta != restore_component(run, "tta") for run in runs):
        console.info(f"tta={tta.name} is for the photos below; out-of-fold scores are with each run's own", "yellow")
    if listing is None:
        predict_eval(cfg, runs, ensemble, tta, hardware, out, own_data="data" in own)
    else:
        probs = ensemble(np.stack([compute_probs(run, listing, cfg, tta, hardware) for run in runs]))
        write_labels(Predictions(listing["id"].to_numpy(str), probs), out)
    return score


def predict_eval(
    cfg: PredictConfig, runs: Sequence[Run], ensemble: Blend, tta: Component | None, hardware: Hardware, out: Path,
    own_data: bool,
) -> None:  # fmt: skip
    """Write the submission of the evaluation photos: stored predictions where they are what is asked for, else new."""
    cache = Path(cfg.cache_dir)
    table = runs[0].eval_table if own_data else load_evaluation(cfg.data, cache)
    if table.empty:
        raise DataError("the data has no evaluation photos: photos=<folder> predicts any others")
    kept = [stored_probs(run, table, cfg.precision, tta) for run in runs]
    if own_data and any(probs is None for probs in kept):
        table = load_own_evaluation(runs[0], cache)
        kept = [stored_probs(run, table, cfg.precision, tta) for run in runs]
    members = np.stack([compute_probs(run, table, cfg, tta, hardware) if probs is None else probs
                        for run, probs in zip(runs, kept, strict=True)])  # fmt: skip
    probs, known = ensemble(members), (table["label"] >= 0).to_numpy()
    if known.any():
        lines = [(name, part[known]) for name, part in score_rows(runs, cfg.blend, members, probs)]
        print_scores(f"evaluation: {known.sum()} photos with labels", table["label"].to_numpy(np.int64)[known], lines)
    write_submission(Predictions(table["id"].to_numpy(str), probs, out), out)


def compute_probs(
    run: Run, table: pd.DataFrame, cfg: PredictConfig, tta: Component | None, hardware: Hardware
) -> FloatArray:
    """Return the probabilities (N, 18) of photos by the mean of a run's folds."""
    predictor = Predictor(run, hardware, cfg.precision, tta)
    console.info(f"{run.path.name}: {len(table)} photos, {len(predictor.files)} folds")
    return predictor.predict(load_pixels(table, predictor.crop_word, Path(cfg.cache_dir), console.info))


def photos(sources: Sequence[str]) -> pd.DataFrame:
    """Return id and path of the photos in folders (with theirs below), files and patterns; DataError where none is."""
    found: list[str] = []
    for source in sources:
        images, left_out = find_images(source)
        others = describe_left_out(left_out)
        if not images:
            raise DataError(f"photos: there is no photo at {source!r}{': ' * bool(others)}{others}")
        if others:
            console.info(f"photos: {source}: {others}", "yellow")
        found += map(str, images)
    unique = list(dict.fromkeys(found))
    return pd.DataFrame({"id": unique, "path": unique})
