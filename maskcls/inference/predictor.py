"""Predictor: a finished run as a function from images to class probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from maskcls.components.crop import Crop
from maskcls.components.hardware import Hardware, auto
from maskcls.config.groups import GROUPS
from maskcls.core.errors import ConfigError, DataError, RunError
from maskcls.core.registry import Component
from maskcls.core.table import num_folds
from maskcls.core.task import CLASSES, FloatArray
from maskcls.data.pixel_cache import Pixels
from maskcls.imaging.image_io import read_image
from maskcls.inference.forward import predict_probs
from maskcls.storage.checkpoint import MAX_MESSAGE, check_shapes, load_fold_checkpoint, load_weights
from maskcls.storage.run import Run

ImageInput = str | Path | npt.NDArray[np.uint8]
NO_WEIGHTS = {"pretrained": False, "init": None}  # the checkpoint has the weights


def restore_component(run: Run, group: str) -> Component:
    """Return the component of a group in a run's config; runs of older versions have no tta."""
    return check_component(group, run.config.get(group, {"name": "none"}), run.config_path)


def check_component(group: str, raw: Any, path: Path) -> Component:
    """Return a component from a file of a run; RunError if it is unknown or invalid."""
    errors: list[str] = []
    component = GROUPS[group].check(raw, errors)
    if component is None:  # the plugins of a run are not imported: the run may be untrusted
        hint = "If the run uses plugins, set plugins=[…] or import them first"
        raise RunError(*[f"{path}: {error}"[:MAX_MESSAGE] for error in errors], hint)
    return component


class Predictor:
    """The folds of a run, called with images; models are built at the first call, for the size of its images."""

    def __init__(
        self, run: Run, hardware: Hardware, precision: str | None = None, tta: Component | None = None
    ) -> None:
        self.hardware, self.tta_views = hardware, (tta or restore_component(run, "tta")).build()
        self.precision: str = precision or run.config["precision"]
        self.files = [run.checkpoint_path(k) for k in range(num_folds(run.table))]
        self.contents = [load_fold_checkpoint(file) for file in self.files]
        self.crop_component = check_component("crop", self.contents[0]["crop"], self.files[0])
        if any(content["crop"] != self.contents[0]["crop"] for content in self.contents):
            what = f"the folds of {run.path} were trained with different crops"
            raise RunError(f"{what}. Delete the outdated folds and run again")
        self.heads = [check_component("head", content["head"], file).build() for content, file in self.checkpoints()]
        self.crop: Crop | None = None
        self.image_size: tuple[int, int] = (0, 0)
        self.models: list[nn.Module] = []

    def checkpoints(self) -> Iterable[tuple[dict[str, Any], Path]]:
        """Return content and path of each fold's checkpoint."""
        return zip(self.contents, self.files, strict=True)

    def __call__(self, images: ImageInput | Iterable[ImageInput]) -> FloatArray:
        """Return the mean probabilities (N, 18) of the folds for images, uint8 RGB arrays (H, W, 3) or paths."""
        self.crop = self.crop or self.crop_component.build()
        image_list = [images] if isinstance(images, str | Path) else images
        cropped = [self.crop(as_image(image, i)) for i, image in enumerate(image_list)]
        if not cropped:
            return np.zeros((0, len(CLASSES)), np.float32)
        if len(sizes := {image.shape for image in cropped}) > 1:
            raise DataError(f"crop={self.crop_component.name}: images must have one size, got {sorted(sizes)}")
        return self.predict(np.stack(cropped))

    def predict(self, pixels: Pixels) -> FloatArray:
        """Return the mean probabilities (N, 18) of the folds for cropped images, (N, H, W, 3)."""
        image_size, indices = (pixels.shape[1], pixels.shape[2]), np.arange(len(pixels))
        if image_size != self.image_size:
            self.models = [self.build_model(content, file, image_size) for content, file in self.checkpoints()]
            self.image_size = image_size
        data, total = self.hardware.to_device_memory(pixels), np.zeros((len(pixels), len(CLASSES)))
        for model, head in zip(self.models, self.heads, strict=True):
            total += predict_probs(model, head, data, indices, self.hardware, self.precision, self.tta_views)
        return (total / len(self.models)).astype(np.float32)

    def build_model(self, content: Mapping[str, Any], file: Path, image_size: tuple[int, int]) -> nn.Module:
        """Return a fold's model with its weights, for images of (height, width)."""
        raw = content["model_word"]
        overrides = {key: value for key, value in NO_WEIGHTS.items() if isinstance(raw, dict) and key in raw}
        component = check_component("model", raw | overrides if overrides else raw, file)
        head = check_component("head", content["head"], file).build()
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


def as_image(image: ImageInput, index: int) -> Pixels:
    """Return an image as uint8 RGB (H, W, 3); DataError for any other value."""
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise DataError(f"image {index}: {image} does not exist")
        return read_image(str(image))
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} of shape {pixels.shape}"
        raise DataError(f"image {index}: expected a path or a uint8 RGB array (H, W, 3), got {got}")
    return pixels


def load(run: str | Path, runs_dir: str | Path = "runs") -> Predictor:
    """Return the predictor of a finished run, by its folder or its name in `runs_dir`, on the GPU if there is one."""
    return Predictor(Run.open(run, runs_dir), auto(workers=0))
