"""Predictor: a trained model as a function from images to class probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from maskcls.components.crop import Crop
from maskcls.components.hardware import Hardware, auto
from maskcls.components.heads.base import Head
from maskcls.core.errors import MAX_MESSAGE, ConfigError, DataError, MaskclsError, RunError
from maskcls.core.registry import Component
from maskcls.core.task import FloatArray, Task
from maskcls.data.pixel_cache import Pixels
from maskcls.evaluation.conformal import ConformalSets, check_coverage
from maskcls.evaluation.stacking import decide
from maskcls.evaluation.temperature import Temperatures
from maskcls.inference.forward import predict_columns
from maskcls.inference.image_inputs import ImageInput, as_image, list_inputs
from maskcls.inference.photo_answer import PhotoAnswer
from maskcls.inference.run_components import check_component, restore_component
from maskcls.inference.uncertainty import build_sets, fit_calibration
from maskcls.storage.checkpoint import check_shapes, load_weights, split_members
from maskcls.storage.predictions import Predictions
from maskcls.storage.trained_model import TrainedModel, open_model
from maskcls.system import console

NO_WEIGHTS = {"pretrained": False, "init": None}  # the checkpoint has the weights


class Predictor:
    """The folds of a model, called with images; networks are built at the first call, for the size of its images."""

    def __init__(
        self, model: TrainedModel, hardware: Hardware, precision: str | None = None, tta: Component | None = None
    ) -> None:
        self.source, self.task = model, model.task
        self.hardware, self.tta_views = hardware, (tta or restore_component(model, "tta")).build()
        self.precision: str = precision or model.precision
        self.files = model.files
        self.contents = [split_members(content) for content in model.contents]  # of each fold
        self.crop_component = check_component("crop", model.contents[0]["crop"], self.files[0], self.task)
        if any(content["crop"] != model.contents[0]["crop"] for content in model.contents):
            what = f"the folds of {model.path} were trained with different crops"
            raise RunError(f"{what}. Delete the outdated folds and run again")
        self.heads = [restore_head(content, file, self.task) for content, file in self.checkpoints()]
        self.crop: Crop | None = None
        self.image_size: tuple[int, int] = (0, 0)
        self.models: list[nn.Module] = []
        self.temperatures: Temperatures | None = None  # that calibrate its probabilities
        self.conformal: ConformalSets | None = None  # built when sets are first asked for

    def checkpoints(self) -> Iterable[tuple[dict[str, Any], Path]]:
        """Yield content and path of each network: one per fold, or several with ensemble_epochs."""
        return ((content, file) for fold, file in zip(self.contents, self.files, strict=True) for content in fold)

    def __repr__(self) -> str:
        """Return what the model is: its run, network, folds, crop and score."""
        network, crop = self.source.contents[0]["model_word"], self.crop_component
        size = " × ".join(str(crop.params[key]) for key in ("height", "width") if key in crop.params)
        arch = network.get("arch") or network.get("name") if isinstance(network, dict) else network
        folds = f"{len(self.files)} fold{'s' * (len(self.files) > 1)}"
        facts = [str(arch)[:40], folds, f"crop={crop.name} {size}".rstrip(), self.describe_score()]
        return f"<maskcls model {self.source.name}: {', '.join(facts)}>"

    def describe_score(self) -> str:
        """Return the out-of-fold score, or what the model is if it has none."""
        with suppress(MaskclsError, KeyError, TypeError):
            if self.source.run and self.source.has_oof:
                return f"out-of-fold macro F1 {(self.source.run.metrics() or {})['oof']['f1']:.3f}"
        return self.source.note or "no out-of-fold score"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns of the probabilities."""
        return self.task.classes

    def __call__(self, images: ImageInput | Iterable[ImageInput]) -> FloatArray:
        """Return the mean probabilities (N, C) of the folds for images: paths, PIL images, uint8 RGB (H, W, 3)."""
        return self.predict_images(images).probs

    def predict_numbers(self, images: ImageInput | Iterable[ImageInput]) -> FloatArray:
        """Return the expected number of each image and its standard deviation, (N, 2), of head=years only.

        It is the number that an attribute of the task is made of, in its unit.
        """
        if self.heads[0].num_columns == self.task.num_classes:
            raise ConfigError(f"{self.source.name} predicts no {describe_number(self.task)}")
        return self.predict_images(images).numbers  # type: ignore[return-value]

    predict_ages = predict_numbers  # the name of older versions

    def predict_images(self, images: ImageInput | Iterable[ImageInput]) -> Predictions:
        """Return the mean predictions of the folds for images; their ids are numbers."""
        pixels = self.crop_images(images)
        if pixels is None:
            none = np.zeros((0, self.heads[0].num_columns))
            return Predictions.of_columns(np.zeros(0, str), none, self.task.num_classes)
        return self.predict_rows(np.arange(len(pixels)).astype(str), pixels)

    def sets(self, images: ImageInput | Iterable[ImageInput], coverage: float = 0.9) -> list[tuple[str, ...]]:
        """Return the classes that each image may have, most probable first, of a finished run.

        The set of a random image of a new person has its class with about the probability `coverage` or a larger one
        (see evaluation.conformal). The first class is the predicted one, with the run's decision. ConfigError for a
        coverage outside (0, 1), and without a finished run.
        """
        check_coverage(coverage)
        if self.conformal is None:
            self.conformal = build_sets(self.source)
        pixels = self.crop_images(images)
        if pixels is None:
            return []
        folds = self.predict_folds(pixels)
        decided, names = self.decide_mean(np.arange(len(pixels)).astype(str), folds), np.array(self.classes)
        order = np.argsort(-decided.probs, axis=1, kind="stable")
        sets = self.conformal.predict(folds[..., : self.task.num_classes].astype(np.float32), coverage, decided.preds)
        pairs = zip(order, sets, strict=True)
        return [tuple(names[ranked[inside[ranked]]].tolist()) for ranked, inside in pairs]

    def crop_images(self, images: ImageInput | Iterable[ImageInput]) -> Pixels | None:
        """Return cropped images, (N, H, W, 3), None for no images; DataError for sizes that differ."""
        cropped = [self.crop_photo(as_image(image, i)) for i, image in enumerate(list_inputs(images))]
        if len(sizes := {image.shape for image in cropped}) > 1:
            raise DataError(f"crop={self.crop_component.name}: images must have one size, got {sorted(sizes)}")
        return np.stack(cropped) if cropped else None

    def crop_photo(self, photo: Pixels) -> Pixels:
        """Return the crop (H, W, 3) of a photo, uint8 RGB, as in training."""
        self.crop = self.crop or self.crop_component.build()
        return self.crop(photo)

    def show(self, image: ImageInput) -> PhotoAnswer:
        """Return the answer to one image; a notebook shows it with a thumbnail, the crop and a bar for each value."""
        photo = as_image(image, 0)
        crop = self.crop_photo(photo)
        answer = self.predict_rows(np.array(["0"]), crop[None])
        return PhotoAnswer(photo, crop, answer.probs[0], self.task, pred=int(answer.preds[0]))

    def predict_proba(self, images: ImageInput | Iterable[ImageInput]) -> FloatArray:
        """Return the probabilities (N, C), like calling the model; the name is scikit-learn's."""
        return self(images)

    def predict(self, images: ImageInput | Iterable[ImageInput]) -> npt.NDArray[np.str_]:
        """Return the name of the most probable class of each image, (N,); `predict_proba(…).argmax(1)` its number.

        Temperatures change no class: with calibrated=True it is the class that is best without them.
        """
        return np.array(self.classes)[self.predict_images(images).preds]

    def predict_pixels(self, pixels: Pixels) -> FloatArray:
        """Return the mean probabilities (N, C) of the folds for cropped images, (N, H, W, 3), with the run's bias."""
        return self.predict_rows(np.arange(len(pixels)).astype(str), pixels).probs

    def predict_rows(self, ids: npt.NDArray[np.str_], pixels: Pixels) -> Predictions:
        """Return the mean predictions of the folds for cropped images with ids, with the run's bias."""
        decided = self.decide_mean(ids, self.predict_folds(pixels))
        return decided.calibrate(self.temperatures.apply) if self.temperatures else decided

    def decide_mean(self, ids: npt.NDArray[np.str_], folds: npt.NDArray[np.float64]) -> Predictions:
        """Return the mean of the folds' columns (folds, N, C or C + 2) for images with ids, with the run's bias."""
        mean = Predictions.of_columns(ids, folds.mean(0), self.task.num_classes)
        return replace(mean, probs=decide(mean.probs, self.source.bias))

    def predict_folds(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """Return the heads' columns of each fold for cropped images, (folds, N, C), or (folds, N, C + 2) of numbers."""
        image_size, indices = (pixels.shape[1], pixels.shape[2]), np.arange(len(pixels))
        if image_size != self.image_size:
            self.models = [self.build_model(content, file, image_size) for content, file in self.checkpoints()]
            self.image_size = image_size
        data = self.hardware.to_device_memory(pixels)
        folds = np.zeros((len(self.files), len(pixels), self.heads[0].num_columns))
        members = [(k, 1 / len(fold)) for k, fold in enumerate(self.contents) for _ in fold]
        for model, head, (k, share) in zip(self.models, self.heads, members, strict=True):
            folds[k] += share * predict_columns(
                model, head, data, indices, self.hardware, self.precision, self.tta_views
            )
        return folds

    def build_model(self, content: Mapping[str, Any], file: Path, image_size: tuple[int, int]) -> nn.Module:
        """Return a fold's model with its weights, for images of (height, width)."""
        raw = content["model_word"]
        overrides = {key: value for key, value in NO_WEIGHTS.items() if isinstance(raw, dict) and key in raw}
        component = check_component("model", raw | overrides if overrides else raw, file, self.task)
        head = restore_head(content, file, self.task)
        try:
            check_shapes(lambda: component.build(head.outputs, *image_size, 0), content["model"])
            model = component.build(head.outputs, *image_size, 0)
            load_weights(model, content["model"])
        except (RuntimeError, ValueError, TypeError, ConfigError) as error:
            reason = str(error).partition("\n")[0][:MAX_MESSAGE]
            high, wide = image_size
            raise RunError(f"{file} does not fit images of {high} × {wide} pixels: {reason}") from error
        model.mean, model.std = tuple(content["mean"]), tuple(content["std"])
        return self.hardware.to_device(model).eval()


def describe_number(task: Task) -> str:
    """Return the number that a model lacks, and which models predict it, for a message."""
    if task.number is None:
        return "number: its task has no single attribute that is made of a number"
    return f"{task.number.in_unit}. Use a model trained with head=years"


def load(run: str | Path, runs_dir: str | Path = "runs", calibrated: bool = False) -> Predictor:
    """Return the predictor of a run, a fold's folder or a checkpoint, on the GPU if there is one.

    `calibrated` applies temperatures to its probabilities, not to expected numbers; ConfigError without a finished run.
    """
    model = open_model(run, runs_dir)
    if model.note:
        console.info(f"{model.name}: {model.note}", "yellow")
    predictor = Predictor(model, auto(workers=0))
    predictor.temperatures = fit_calibration([model], "calibrated=True") if calibrated else None
    return predictor


def restore_head(content: Mapping[str, Any], file: Path, task: Task) -> Head:
    """Return the head of a checkpoint."""
    head: Head = check_component("head", content["head"], file, task).build()
    return head
