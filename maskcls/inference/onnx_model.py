"""OnnxModel: an exported file as a function from images to predictions, by onnxruntime alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskcls.core.errors import DataError, RunError
from maskcls.core.task import Attribute, FloatArray, Task
from maskcls.data.pixel_cache import Pixels
from maskcls.inference.image_inputs import ImageInput, as_image, list_inputs
from maskcls.system.packages import import_package
from maskcls.system.processes import num_cpus

Outputs = dict[str, npt.NDArray[Any]]


class OnnxModel:
    """An exported model, called with images: paths, PIL images, uint8 RGB arrays (H, W, 3) of any sizes."""

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        self.path = Path(path)
        self.session = open_session(self.path, threads or num_cpus())
        self.metadata = read_metadata(self.path, self.session)
        self.task = read_task(self.path, self.session, self.metadata)
        self.takes_crops = self.session.get_inputs()[0].name == "crops"
        self.names = [output.name for output in self.session.get_outputs()]

    def __repr__(self) -> str:
        """Return what the file is."""
        facts = {key: self.metadata[key] for key in ("run", "folds", "precision") if key in self.metadata}
        return f"<maskcls ONNX model {self.path.name}: {', '.join(f'{key} {value}' for key, value in facts.items())}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns of the probabilities."""
        return self.task.classes

    def __call__(self, images: ImageInput | Iterable[ImageInput]) -> FloatArray:
        """Return the probabilities (N, C) of images."""
        found = [self.predict_pixels(as_image(image, i)[None])["class"] for i, image in enumerate(list_inputs(images))]
        return np.concatenate([np.zeros((0, self.task.num_classes), np.float32), *found])

    def predict_pixels(self, pixels: Pixels) -> Outputs:
        """Return the outputs by name for uint8 photos of one size, (N, H, W, 3), or crops for input=crops."""
        try:
            outputs = self.session.run(None, {self.session.get_inputs()[0].name: pixels})
        except Exception as error:  # onnxruntime's errors share no class
            size = f"{pixels.shape[1]} × {pixels.shape[2]}"
            reason = " ".join(str(error).split())[-150:]
            raise DataError(f"{self.path.name} cannot predict images of {size} pixels ({reason})") from error
        return dict(zip(self.names, outputs, strict=True))


def open_session(path: Path, threads: int) -> Any:
    """Return onnxruntime's session of a file on the CPU; RunError for a file that is not a model."""
    runtime = import_package("onnxruntime", "deploy", f"{path.name} (ONNX)")
    if not path.is_file():
        raise RunError(f"{path} does not exist")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class
        reason = " ".join(str(error).split())[:150]
        raise RunError(f"{path} is not an ONNX model that onnxruntime loads ({reason}). Export it again") from error


def read_metadata(path: Path, session: Any) -> dict[str, Any]:
    """Return the metadata of an export; RunError if another program wrote the file."""
    found = session.get_modelmeta().custom_metadata_map
    try:
        metadata = json.loads(found["maskcls"])
        return {**metadata, "classes": list(metadata["classes"])}
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} was not written by maskcls export: it has no classes in its metadata") from error


def read_task(path: Path, session: Any, metadata: dict[str, Any]) -> Task:
    """Return the attributes that an export predicts, its outputs before `class`; RunError if its classes are others."""
    outputs = [output.name for output in session.get_outputs()]
    values = metadata.get("attributes", metadata)
    try:
        names = outputs[: outputs.index("class")]
        task = Task(tuple(Attribute(name, tuple(map(str, values[name]))) for name in names))
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} was not written by maskcls export: it does not name its attributes' values") from error
    classes = metadata["classes"]
    if not names or len(classes) != task.num_classes or classes != list(task.classes):
        raise RunError(f"{path} has other classes or another order of classes: {str(classes)[:200]}")
    return task
