"""Checkpoints: save, load, check and average weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskcls.core.errors import MaskclsError, RunError
from maskcls.core.task import CLASSES
from maskcls.storage.run_files import check_colours
from maskcls.system.files import atomic_write
from maskcls.system.safe_reading import FormatError, check_plain, read_tensors, wrap_read_errors


def load_checkpoint(path: Path) -> Any:
    """Return a checkpoint's content, on the CPU; nothing in it is unpickled as code."""
    try:
        return read_tensors(path)
    except Exception as error:
        reason = str(error) if isinstance(error, FormatError) else type(error).__name__
        raise RunError(f"{path} is no readable checkpoint ({reason}): {retry_hint(path)}") from error


def load_weights(model: nn.Module, given: Any) -> None:
    """Fill a model with weights by name; a FormatError for such as it would take and not work with."""
    if not isinstance(given, Mapping):
        raise FormatError("its weights have no names")
    for name, own in model.state_dict().items():
        tensor = given.get(name)
        if not isinstance(tensor, torch.Tensor) or tensor.shape != own.shape:
            continue  # of this load_state_dict speaks itself
        if tensor.layout != torch.strided or tensor.is_floating_point() != own.is_floating_point():
            raise FormatError(f"{name} is {tensor.dtype}, expected {own.dtype}")
        if not torch.isfinite(tensor).all():
            raise FormatError(f"{name} holds numbers that are not finite")
    model.load_state_dict(given)


def check_names(build: Callable[[], nn.Module], given: Any) -> None:
    """Raise a FormatError where weights are another model's, before memory is taken for what a file claims to be of.

    A model that cannot be built without its numbers is left to load_weights.
    """
    try:
        with torch.device("meta"):
            own = build().state_dict()
    except (RuntimeError, NotImplementedError):
        return
    known = given if isinstance(given, Mapping) else {}
    wrong = [name for name, tensor in own.items() if getattr(known.get(name), "shape", None) != tensor.shape]
    if wrong:
        raise FormatError(f"{len(wrong)} of {len(own)} weights are missing or of another shape, first {wrong[0]}")


@contextlib.contextmanager
def wrap_load_errors(path: Path) -> Iterator[None]:
    """Make a RunError of whatever goes wrong in filling a model from a checkpoint."""
    try:
        yield
    except MaskclsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise RunError(f"{path} does not fit this run ({reason}): {retry_hint(path)}") from error


def retry_hint(path: Path) -> str:
    """Return how to train the fold of a broken checkpoint again."""
    return f"delete {path.parent} (and metrics.json if present) and run again; the other folds are kept"


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    whole = io.BytesIO()  # written by torch itself, a full disk would be an error without a reason
    torch.save(content, whole)
    atomic_write(path, lambda file: file.write(whole.getbuffer()))


def save_weights(model: nn.Module, path: Path, facts: dict[str, Any]) -> None:
    """Write the weights and the preprocessing that they were trained with: all that prediction needs."""
    save_tensors(path, {"model": model.state_dict(), **facts})


def average_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of the weights in some files; what is no floating-point number is the last file's."""
    models = []
    for file in files:
        with wrap_load_errors(file):
            models.append(load_checkpoint(file)["model"])
    if len(models) == 1:
        return models[0]
    return {key: torch.stack([model[key] for model in models]).mean(0) if value.is_floating_point() else value
            for key, value in models[-1].items()}  # fmt: skip


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REQUIRED_KEYS = ("model", "model_word", "head", "crop", "classes", "mean", "std")
SAID = 300  # letters of a sentence on what a file holds


def load_fold_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint that was made for these classes; nothing in it is unpickled as code."""
    if not path.is_file():
        raise RunError(f"there is no checkpoint {path}")
    content = load_checkpoint(path)
    lacking = [key for key in REQUIRED_KEYS if not isinstance(content, dict) or key not in content]
    if lacking:
        raise RunError(f"{path} is no checkpoint of a run: it lacks {', '.join(lacking)}")
    with wrap_read_errors(path):
        check_plain({key: value for key, value in content.items() if key != "model"})
        check_colours(content["mean"], content["std"])
    if content["classes"] != list(CLASSES):
        said = f"{path} was trained for other classes, or for these in another order: {content['classes']}"
        raise RunError(said[:SAID])
    return content
