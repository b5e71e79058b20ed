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
from maskcls.inference.evaluation_set import current_evaluation, load_evaluation, load_own_evaluation, stored_probs
from maskcls.inference.predictor import Predictor, restore_component
from maskcls.inference.submission import write_labels, write_submission
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system import console, distributed

PLACEHOLDERS = {"data": {"name": "synthetic"}, "tta": {"name": "none"}}  # validated instead of the runs' own


def check_not_empty(names: list[str]) -> list[str]:
    """Return the names; ValueError if there are none."""
    if not names:
        raise ValueError("expected at least one run, got none. Set runs='[runs/a-1234]'")
    return names


@dataclass(frozen=True)
class PredictConfig:
    """A checked prediction command."""

    runs: Annotated[list[str], AfterValidator(check_not_empty)]
    photos: str | list[str] | None  # files, folders, patterns; null: the evaluation set of the data
    out: str | None  # null: submission.csv, or photos.csv with photos=
    runs_dir: str
    cache_dir: str
    precision: Literal["fp32", "bf16", "fp16"] | None  # null: each run's own
    plugins: list[str]
    data: Component
    tta: Component
    blend: Component
    hardware: Component


def predict(raw: DictConfig | Mapping[str, Any]) -> float:
    """Predict the images of a config, write the files and return the ensemble's out-of-fold macro F1."""
    values = to_container(raw)
    unset = {group for group in PLACEHOLDERS if values.get(group) is None}
    cfg = validate(values | {group: PLACEHOLDERS[group] for group in unset}, PredictConfig)
    out = Path(cfg.out or ("photos.csv" if cfg.photos else "submission.csv"))
    if out.name == "probabilities.csv":
        raise ConfigError("out=probabilities.csv is the name of another output file. Choose another name")
    images = list_images([cfg.photos] if isinstance(cfg.photos, str) else cfg.photos) if cfg.photos else None
    hardware = cfg.hardware.build()
    distributed.init_process_group(hardware.device)
    runs = [Run.open(name, cfg.runs_dir) for name in cfg.runs]
    ensemble, score = blend_runs(cfg.blend, runs)
    tta = None if "tta" in unset else cfg.tta
    if tta and any(tta != restore_component(run, "tta") for run in runs):
        console.info(f"tta={tta.name} applies to the predictions; out-of-fold scores use each run's own tta", "yellow")
    if images is None:
        predict_eval(cfg, runs, ensemble, tta, hardware, out, use_run_data="data" in unset)
    else:
        probs = ensemble(np.stack([compute_probs(run, images, cfg, tta, hardware) for run in runs]))
        write_labels(Predictions(images["id"].to_numpy(str), probs), out)
    return score


def predict_eval(
    cfg: PredictConfig, runs: Sequence[Run], ensemble: Blend, tta: Component | None, hardware: Hardware, out: Path,
    use_run_data: bool,
) -> None:  # fmt: skip
    """Write the submission of the evaluation set, from stored predictions where they apply."""
    cache = Path(cfg.cache_dir)
    table = current_evaluation(runs[0], cache) if use_run_data else load_evaluation(cfg.data, cache)
    if table.empty:
        raise DataError("the data has no evaluation set. Set photos=<folder> to predict other images")
    stored = [stored_probs(run, table, cfg.precision, tta) for run in runs]
    if "path" not in table and any(probs is None for probs in stored):
        table = load_own_evaluation(runs[0], cache)  # raises the reason why there are no paths
    members = np.stack([compute_probs(run, table, cfg, tta, hardware) if probs is None else probs
                        for run, probs in zip(runs, stored, strict=True)])  # fmt: skip
    probs, has_label = ensemble(members), (table["label"] >= 0).to_numpy()
    if has_label.any():
        lines = [(name, part[has_label]) for name, part in score_rows(runs, cfg.blend, members, probs)]
        labels = table["label"].to_numpy(np.int64)[has_label]
        print_scores(f"evaluation: {len(labels)} images with labels", labels, lines)
    write_submission(Predictions(table["id"].to_numpy(str), probs, out), out)


def compute_probs(
    run: Run, table: pd.DataFrame, cfg: PredictConfig, tta: Component | None, hardware: Hardware
) -> FloatArray:
    """Return the mean probabilities (N, 18) of a run's folds."""
    predictor = Predictor(run, hardware, cfg.precision, tta)
    console.info(f"{run.path.name}: {len(table)} images, {len(predictor.files)} folds")
    return predictor.predict(load_pixels(table, predictor.crop_component, Path(cfg.cache_dir), console.info))


def list_images(sources: Sequence[str]) -> pd.DataFrame:
    """Return id and path of the images of files, patterns and folders, recursively; DataError for a source without."""
    paths: list[str] = []
    for source in sources:
        images, left_out = find_images(source)
        ignored = describe_left_out(left_out)
        if not images:
            raise DataError(f"photos: no images found at {source!r}{': ' * bool(ignored)}{ignored}")
        if ignored:
            console.info(f"photos: {source}: {ignored}", "yellow")
        paths += map(str, images)
    unique = list(dict.fromkeys(paths))
    return pd.DataFrame({"id": unique, "path": unique})
