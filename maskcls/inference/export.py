"""Export of a trained model to a folder: the model as ONNX or for timm, compared with torch, and its model card."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskcls.components.hardware import cpu
from maskcls.config.groups import GROUPS
from maskcls.config.plugins import import_plugins
from maskcls.core.errors import ConfigError, RunError
from maskcls.inference import onnx_export, timm_export
from maskcls.inference.export_check import TOLERANCES, Agreement, compare, load_check_photos
from maskcls.inference.export_options import ExportOptions
from maskcls.inference.onnx_model import OnnxModel
from maskcls.inference.predictor import Predictor
from maskcls.reporting.model_card import write_card
from maskcls.storage.trained_model import TrainedModel, open_model
from maskcls.system import console

CARD = "card.md"
NUM_CHECKED = 64  # images, unless the precision is reduced
Predict = Callable[[Any], Any]


def export(options: ExportOptions) -> Path:
    """Export a model and return its folder; nothing is written if the export differs from torch by too much."""
    import_plugins(list(options.plugins), GROUPS)
    model = choose_fold(open_model(options.run, options.runs_dir), options.fold)
    check_options(options, model)
    folder = Path(options.out) if options.out else Path(default_name(options, model))
    names = (onnx_export.FILE,) if options.format == "onnx" else timm_export.FILES
    check_absent(folder, (*names, CARD), options.overwrite)
    if model.note:
        console.info(f"{model.name}: {model.note}", "yellow")
    predictor = Predictor(model, cpu(), "fp32") if options.format == "onnx" else timm_export.bare_predictor(model)
    with tempfile.TemporaryDirectory() as place:
        facts, predict = write_model(options, predictor, Path(place))
        agreement = check_agreement(options, predictor, predict)
        write_card(Path(place) / CARD, model, facts, agreement.to_dict(), options.license)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*names, CARD):
            shutil.move(Path(place) / name, folder / name)
    size = sum((folder / name).stat().st_size for name in names) / 1e6
    console.info(f"{folder}: {', '.join((*names, CARD))}; {size:.1f} MB", "bold")
    return folder


def write_model(options: ExportOptions, predictor: Predictor, folder: Path) -> tuple[dict[str, Any], Predict]:
    """Write the model to a folder; return facts about it, and the function from photos to its probabilities."""
    if options.format == "timm":
        facts = timm_export.export_timm(predictor, folder)
        return facts, timm_export.load_predict(folder, predictor)
    facts = onnx_export.export_onnx(predictor, folder / onnx_export.FILE, options.input, options.precision)
    written = OnnxModel(folder / onnx_export.FILE, torch.get_num_threads())
    crop = predictor.crop_component.build() if options.input == "crops" else None
    facts["size_mb"] = round((folder / onnx_export.FILE).stat().st_size / 1e6, 2)
    return facts, lambda photos: written([crop(photo) for photo in photos] if crop else photos)


def check_options(options: ExportOptions, model: TrainedModel) -> None:
    """Raise ConfigError for options that do not fit each other or the model."""
    if options.format == "timm":
        refused = [f"{key}={getattr(options, key)}" for key in ("precision", "input")
                   if getattr(options, key) != ExportOptions.__dataclass_fields__[key].default]  # fmt: skip
        if refused:
            raise ConfigError(f"format=timm: {' and '.join(refused)} applies to format=onnx only")
        timm_export.check_single_network(model)
    else:
        onnx_export.check_packages()


def choose_fold(model: TrainedModel, fold: int | None) -> TrainedModel:
    """Return the model of one fold, or the model itself for None; ConfigError if there is no such fold."""
    if fold is None:
        return model
    files = [file for file in model.files if file.parent.name == f"fold{fold}"]
    if not files:
        known = sorted(int(match[1]) for file in model.files if (match := re.fullmatch(r"fold(\d+)", file.parent.name)))
        raise ConfigError(f"fold={fold}: {model.name} has folds {', '.join(map(str, known)) or 'of no number'}")
    return model if len(model.files) == 1 else open_model(files[0].parent)


def default_name(options: ExportOptions, model: TrainedModel) -> str:
    """Return the name of an export's folder: of the run, the fold, the format and the precision."""
    precision = [options.precision] if options.precision != "fp32" else []
    return "-".join([re.sub(r"[^\w.-]+", "-", model.name), options.format, *precision])


def check_absent(folder: Path, names: tuple[str, ...], overwrite: bool) -> None:
    """Raise ConfigError if a file of an export exists, unless it is to be replaced."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out={folder} is a file. Set out=<folder>")
    existing = [name for name in names if (folder / name).exists()]
    if existing and not overwrite:
        raise ConfigError(f"{folder / existing[0]} exists. Set overwrite=true to replace it, or out=<folder>")


def check_agreement(options: ExportOptions, predictor: Predictor, predict: Predict) -> Agreement:
    """Return the differences to torch on evaluation images, printed; RunError if an fp32 export differs by too much.

    A probability that is not a finite number is an error in every precision.
    """
    count = options.check or (NUM_CHECKED if options.precision == "fp32" else None)
    is_reduced = options.precision != "fp32"
    photos = load_check_photos(predictor.source, count, Path(options.cache_dir), for_scores=is_reduced)
    agreement = compare(predictor, predict, photos, for_scores=is_reduced)
    console.info(agreement.describe(options.format, torch.get_num_threads()))
    largest, name = TOLERANCES[options.format], predictor.source.name
    if not np.isfinite(agreement.difference):
        hint = " Use precision=fp32" if is_reduced else ""
        raise RunError(f"{name}: probabilities of the export or of torch are not finite. Nothing was written.{hint}")
    if not is_reduced and not agreement.difference <= largest:
        what = f"probabilities differ from torch by up to {agreement.difference:.1e}, more than {largest:.0e}"
        raise RunError(f"{name}: {what}. Nothing was written")
    return agreement
