"""Prediction with one or more trained models: runs, folds, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from maskcls.data.pixel_cache import load_pixels
from maskcls.evaluation.calibration import compare_view
from maskcls.evaluation.temperature import Temperatures
from maskcls.inference.ensemble import blend_models, member_weights, mix_numbers, print_labelled_scores
from maskcls.inference.evaluation_set import (
    check_run,
    current_evaluation,
    load_evaluation,
    load_own_evaluation,
    stored_predictions,
)
from maskcls.inference.photos import list_photos, name_output
from maskcls.inference.predictor import Predictor
from maskcls.inference.run_components import restore_component
from maskcls.inference.submission import write_labels, write_submission
from maskcls.inference.uncertainty import finished_runs, fit_calibration
from maskcls.reporting.reliability_tables import describe_calibration
from maskcls.storage.predictions import Predictions
from maskcls.storage.trained_model import TrainedModel, open_model
from maskcls.system import console, distributed
from maskcls.system.file_digests import file_digests

CALIBRATE = "calibrate=true"
PLACEHOLDERS = {"data": {"name": "synthetic"}, "tta": {"name": "none"}}  # validated instead of the runs' own


def check_not_empty(names: list[str]) -> list[str]:
    """Return the names; ValueError if there are none."""
    if not names:
        raise ValueError("expected at least one run, got none. Set runs='[runs/a-1234]'")
    return names


@dataclass(frozen=True)
class PredictConfig:
    """A checked prediction command; conf/predict.yaml describes its keys."""

    runs: Annotated[list[str], AfterValidator(check_not_empty)]
    photos: str | list[str] | None
    out: str | None
    overwrite: bool
    calibrate: bool
    runs_dir: str
    cache_dir: str
    precision: Literal["fp32", "bf16", "fp16"] | None
    plugins: list[str]
    data: Component
    tta: Component
    blend: Component
    hardware: Component


def predict(raw: DictConfig | Mapping[str, Any]) -> float | None:
    """Predict the images of a config, write the files and return the ensemble's out-of-fold macro F1.

    Return None if a model is not a finished run: it has no predictions out of fold.
    """
    values = to_container(raw)
    unset = {group for group in PLACEHOLDERS if values.get(group) is None}
    cfg = validate(values | {group: PLACEHOLDERS[group] for group in unset}, PredictConfig)
    sources = [cfg.photos] if isinstance(cfg.photos, str) else cfg.photos
    out = Path(cfg.out) if cfg.out else name_output(sources) if sources else Path("submission.csv")
    if out.is_dir():
        raise ConfigError(f"out={out} is a folder. Set out=<file>")
    models = [open_model(name, cfg.runs_dir) for name in cfg.runs]
    images = list_photos(sources, models[0].task) if sources else None
    hardware = cfg.hardware.build()
    distributed.init_process_group(hardware.device)
    if cfg.calibrate:
        finished_runs(models, CALIBRATE)  # before any work
    ensemble, score = blend_models(cfg.blend, models)
    temperatures = fit_calibration(models, CALIBRATE, ensemble.oof, ensemble) if cfg.calibrate else None
    tta = None if "tta" in unset else cfg.tta
    if tta and any(tta != restore_component(model, "tta") for model in models):
        console.info(f"tta={tta.name} applies to the predictions; out-of-fold scores use each run's own tta", "yellow")
    if images is None:
        predict_eval(cfg, models, ensemble, temperatures, tta, hardware, out, use_run_data="data" in unset)
    else:
        found = [compute_predictions(model, images, cfg, tta, hardware) for model in models]
        members = np.stack([one.probs for one in found])
        probs, numbers = ensemble(members), mix_numbers(found, member_weights(cfg.blend, ensemble))
        if (images["label"] >= 0).any():
            images = images.assign(content=file_digests(list(images["path"]), Path(cfg.cache_dir)))
        print_labelled_scores("photos", images, models, cfg.blend, members, probs)
        predictions = Predictions(images["id"].to_numpy(str), probs, numbers=numbers)
        write_labels(apply_temperatures(predictions, images, temperatures), out, cfg.overwrite, models[0].task)
    return score


def predict_eval(
    cfg: PredictConfig, models: Sequence[TrainedModel], ensemble: Blend, temperatures: Temperatures | None,
    tta: Component | None, hardware: Hardware, out: Path, use_run_data: bool,
) -> None:  # fmt: skip
    """Write the submission of the evaluation set, from stored predictions where they apply."""
    cache, data = Path(cfg.cache_dir), replace(cfg.data, task=models[0].task)
    table = current_evaluation(check_run(models[0]), cache) if use_run_data else load_evaluation(data, cache)
    if table.empty:
        raise DataError("the data has no evaluation set. Set photos=<folder> to predict other images")
    stored = [stored_predictions(model, table, cfg.precision, tta) for model in models]
    if "path" not in table and any(one is None for one in stored):
        table = load_own_evaluation(check_run(models[0]), cache)  # raises the reason why there are no paths
    found = [compute_predictions(model, table, cfg, tta, hardware) if one is None else one
             for model, one in zip(models, stored, strict=True)]  # fmt: skip
    members = np.stack([one.probs for one in found])
    probs, numbers = ensemble(members), mix_numbers(found, member_weights(cfg.blend, ensemble))
    print_labelled_scores("evaluation", table, models, cfg.blend, members, probs)
    predictions = Predictions(table["id"].to_numpy(str), probs, out, numbers)
    write_submission(apply_temperatures(predictions, table, temperatures), out, cfg.overwrite, models[0].task)


def apply_temperatures(
    predictions: Predictions, table: pd.DataFrame, temperatures: Temperatures | None
) -> Predictions:
    """Return calibrated predictions of the rows of a table, with the same classes; print what it changes on labels."""
    if temperatures is None:
        return predictions
    calibrated = predictions.calibrate(temperatures.apply)
    if (has_label := (table["label"] >= 0).to_numpy()).any():
        rows = table[has_label]
        scores = compare_view(
            rows["label"].to_numpy(np.int64), predictions.probs[has_label], calibrated.probs[has_label],
            rows["person"].tolist(),
        )  # fmt: skip
        console.info(f"{CALIBRATE}: {describe_calibration(scores)}, on {len(rows)} images with labels")
    return calibrated


def compute_predictions(
    model: TrainedModel, table: pd.DataFrame, cfg: PredictConfig, tta: Component | None, hardware: Hardware
) -> Predictions:
    """Return the mean predictions of a model's folds."""
    predictor = Predictor(model, hardware, cfg.precision, tta)
    console.info(f"{model.name}: {len(table)} images, {len(predictor.files)} folds")
    pixels = load_pixels(table, predictor.crop_component, Path(cfg.cache_dir), console.info)
    return predictor.predict_rows(table["id"].to_numpy(str), pixels)
