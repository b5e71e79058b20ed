"""A finished run as a function: photos → probabilities, with the preprocessing that its checkpoints carry."""

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
from maskcls.storage.checkpoint import SAID, check_names, load_fold_checkpoint, load_weights
from maskcls.storage.run import Run

Photo = str | Path | npt.NDArray[np.uint8]
FRESH = {"pretrained": False, "init": None}  # the checkpoint has the weights: nothing is fetched


def restore_component(run: Run, group: str) -> Component:
    """Return what a run's config has for a group; a run from before there was a tta has none."""
    return check_component(group, run.config.get(group, {"name": "none"}), run.config_path)


def check_component(group: str, raw: Any, where: Path) -> Component:
    """Return the word that a file of a run holds; RunError for one that is not known here."""
    faults: list[str] = []
    word = GROUPS[group].check(raw, faults)
    if word is None:  # a run's own plugins are not imported: its folder may come from anybody
        hint = "its words may be a plugin's: give plugins=[…], or import them, first"
        raise RunError(*[f"{where}: {fault}"[:SAID] for fault in faults], hint)
    return word


class Predictor:
    """The folds of a run, called with photos; models are built at the first call, for the size of its photos."""

    def __init__(
        self, run: Run, hardware: Hardware, precision: str | None = None, tta: Component | None = None
    ) -> None:
        self.hardware, self.views = hardware, (tta or restore_component(run, "tta")).build()
        self.precision: str = precision or run.config["precision"]
        self.files = [run.checkpoint_path(k) for k in range(num_folds(run.table))]
        self.contents = [load_fold_checkpoint(file) for file in self.files]
        self.crop_word = check_component("crop", self.contents[0]["crop"], self.files[0])
        if any(content["crop"] != self.contents[0]["crop"] for content in self.contents):
            raise RunError(f"the folds of {run.path} were trained with different crops")
        self.heads = [check_component("head", content["head"], file).build() for content, file in self.pairs()]
        self.crop: Crop | None = None
        self.size: tuple[int, int] = (0, 0)
        self.models: list[nn.Module] = []

    def pairs(self) -> Iterable[tuple[dict[str, Any], Path]]:
        """Return each fold's checkpoint and where it lies."""
        return zip(self.contents, self.files, strict=True)

    def __call__(self, images: Photo | Iterable[Photo]) -> FloatArray:
        """Return the probabilities (N, 18) of photos, uint8 RGB arrays (H, W, 3) or paths: the mean of the folds."""
        self.crop = self.crop or self.crop_word.build()
        several = [images] if isinstance(images, str | Path) else images
        cropped = [self.crop(as_image(image, i)) for i, image in enumerate(several)]
        if not cropped:
            return np.zeros((0, len(CLASSES)), np.float32)
        if len(sizes := {image.shape for image in cropped}) > 1:
            raise DataError(f"photos of different sizes are left after the crop {self.crop_word.name}: {sorted(sizes)}")
        return self.predict(np.stack(cropped))

    def predict(self, pixels: Pixels) -> FloatArray:
        """Return the probabilities (N, 18) of photos that are cropped already, (N, H, W, 3)."""
        size, every = (pixels.shape[1], pixels.shape[2]), np.arange(len(pixels))
        if size != self.size:
            self.models = [self.build_model(content, file, size) for content, file in self.pairs()]
            self.size = size
        photos, total = self.hardware.to_device_memory(pixels), np.zeros((len(pixels), len(CLASSES)))
        for model, head in zip(self.models, self.heads, strict=True):
            total += predict_probs(model, head, photos, every, self.hardware, self.precision, self.views)
        return (total / len(self.models)).astype(np.float32)

    def build_model(self, content: Mapping[str, Any], file: Path, size: tuple[int, int]) -> nn.Module:
        """Return a fold's model with its weights, for photos of `size` (height, width)."""
        raw = content["model_word"]
        fresh = {key: value for key, value in FRESH.items() if isinstance(raw, dict) and key in raw}
        word = check_component("model", raw | fresh if fresh else raw, file)
        head = check_component("head", content["head"], file).build()
        try:
            check_names(lambda: word.build(head.outputs, *size, 0), content["model"])
            model = word.build(head.outputs, *size, 0)
            load_weights(model, content["model"])
        except (RuntimeError, ValueError, TypeError, ConfigError) as error:
            reason = str(error).partition("\n")[0][:SAID]
            raise RunError(f"{file} does not fit photos of {size[0]} × {size[1]} pixels: {reason}") from error
        model.mean, model.std = tuple(content["mean"]), tuple(content["std"])
        return self.hardware.to_device(model).eval()


def as_image(image: Photo, index: int) -> Pixels:
    """Return a photo as uint8 RGB (H, W, 3); DataError for what is none."""
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise DataError(f"there is no file {image}")
        return read_image(str(image))
    given = np.asarray(image)
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3:
        what = f"{given.dtype} of shape {given.shape}"
        raise DataError(f"photo {index} is neither a path nor a uint8 RGB array (height, width, 3): {what}")
    return given


def load(run: str | Path, runs_dir: str | Path = "runs") -> Predictor:
    """Return a run's predictor on the GPU where there is one, given its folder or its name below `runs_dir`."""
    return Predictor(Run.open(run, runs_dir), auto(workers=0))
