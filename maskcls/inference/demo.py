"""The models of the demo page: a run, a checkpoint or an .onnx file as a function from a photo to an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from maskcls.components.crop import least_size
from maskcls.components.hardware import auto
from maskcls.core.errors import ConfigError
from maskcls.core.task import Task
from maskcls.data.pixel_cache import Pixels
from maskcls.inference.grad_cam import grad_cam
from maskcls.inference.onnx_export import FILE as ONNX_FILE
from maskcls.inference.onnx_model import OnnxModel
from maskcls.inference.photo_answer import PhotoAnswer
from maskcls.inference.predictor import Predictor
from maskcls.inference.run_components import check_component
from maskcls.inference.timm_export import FILES as TIMM_FILES
from maskcls.storage.trained_model import open_model

WARM_UP = (512, 384)  # height and width of a blank photo, unless the crop needs a larger one
NO_MAP = "Where it looked is shown for convolutional networks in torch, not for this model"
Answer = Callable[[Pixels], PhotoAnswer]


def open_answer(name: str, runs_dir: str) -> tuple[str, Answer, Task]:
    """Return the name, the function from a photo to an answer, and the task of a run, a checkpoint or an .onnx file."""
    if Path(name).suffix == ".onnx":
        model = OnnxModel(name)
        return Path(name).name, onnx_answer(model), model.task
    check_no_export(name, runs_dir)
    predictor = Predictor(open_model(name, runs_dir), auto(workers=0))
    answer = torch_answer(predictor)
    size = np.maximum(WARM_UP, least_size(predictor.crop_component))
    answer(np.zeros((*size, 3), np.uint8))  # builds the networks now, and not for the first visitor
    return predictor.source.name, answer, predictor.task


def check_no_export(name: str, runs_dir: str) -> None:
    """Raise ConfigError if a name is the folder of an export, with the file in it that answers, if there is one."""
    for folder in (Path(name), Path(runs_dir) / name):
        if (folder / ONNX_FILE).is_file():
            raise ConfigError(f"run={name} is the folder of an export. Set run={folder / ONNX_FILE}")
        if all((folder / file).is_file() for file in TIMM_FILES):
            what = f"run={name} is the folder of an export for timm, without crop and head"
            raise ConfigError(f"{what}. Set run to the run itself, or to its export with format=onnx")


def torch_answer(predictor: Predictor) -> Answer:
    """Return the function of a run, with the map of Grad-CAM where its network has one."""

    def answer(photo: Pixels) -> PhotoAnswer:
        crop = predictor.crop_photo(photo)
        probs = predictor.predict_pixels(crop[None])[0]
        attention = grad_cam(predictor, crop, int(probs.argmax()))
        return PhotoAnswer(photo, crop, probs, predictor.task, attention, "" if attention is not None else NO_MAP)

    return answer


def onnx_answer(model: OnnxModel) -> Answer:
    """Return the function of an .onnx file; the crop, which the file does itself, is repeated for the picture."""
    crop = check_component("crop", model.metadata.get("crop"), model.path, model.task).build()

    def answer(photo: Pixels) -> PhotoAnswer:
        cropped = crop(photo)
        outputs = model.predict_pixels((cropped if model.takes_crops else photo)[None])
        return PhotoAnswer(photo, cropped, outputs["class"][0], model.task, note=NO_MAP)

    return answer
