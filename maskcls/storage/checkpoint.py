"""Checkpoints: save, load, check and average weights."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskcls.core.errors import MAX_MESSAGE, MaskclsError, RunError
from maskcls.core.task import Task
from maskcls.core.task_options import read_task
from maskcls.storage.run_files import check_normalization
from maskcls.system.files import atomic_write
from maskcls.system.safe_reading import FormatError, check_plain, read_tensors, wrap_read_errors


def load_checkpoint(path: Path) -> Any:
    """Return the content of a checkpoint, on the CPU; no code in it is executed."""
    try:
        return read_tensors(path)
    except Exception as error:
        reason = str(error) if isinstance(error, FormatError) else type(error).__name__
        raise RunError(f"cannot read checkpoint {path} ({reason}). {retry_hint(path)}") from error


def load_weights(model: nn.Module, state_dict: Any) -> None:
    """Load weights by name; FormatError for weights of another type and for non-finite values."""
    if not isinstance(state_dict, Mapping):
        raise FormatError(f"expected weights by name, got {type(state_dict).__name__}")
    for name, expected in model.state_dict().items():
        tensor = state_dict.get(name)
        if not isinstance(tensor, torch.Tensor) or tensor.shape != expected.shape:
            continue  # load_state_dict reports it
        if tensor.layout != torch.strided or tensor.is_floating_point() != expected.is_floating_point():
            raise FormatError(f"{name}: expected {expected.dtype}, got {tensor.dtype}")
        if not torch.isfinite(tensor).all():
            raise FormatError(f"{name} has non-finite values")
    model.load_state_dict(state_dict)


def check_shapes(build: Callable[[], nn.Module], state_dict: Any) -> None:
    """Raise FormatError if weights do not fit a model, before the model takes memory.

    A model that cannot be built on the meta device is left to load_weights.
    """
    try:
        with torch.device("meta"):
            expected = build().state_dict()
    except (RuntimeError, NotImplementedError):
        return
    weights = state_dict if isinstance(state_dict, Mapping) else {}
    wrong = [name for name, tensor in expected.items() if getattr(weights.get(name), "shape", None) != tensor.shape]
    if wrong:
        raise FormatError(f"{len(wrong)} of {len(expected)} weights are missing or of another shape, first {wrong[0]}")


@contextlib.contextmanager
def wrap_load_errors(path: Path) -> Iterator[None]:
    """Context manager that raises RunError for any error while a checkpoint is loaded."""
    try:
        yield
    except MaskclsError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:150]
        raise RunError(f"{path} does not fit this run ({reason}). {retry_hint(path)}") from error


def retry_hint(path: Path) -> str:
    """Return how to train the fold of a broken checkpoint again; outside a run there is no fold to delete."""
    if not path.absolute().parent.name.startswith("fold"):
        return "Copy it again from its run"
    return f"Delete {path.parent} (and metrics.json, if present) and run again; the other folds are kept"


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically."""
    buffer = io.BytesIO()  # torch reports a full disk without a reason
    torch.save(content, buffer)
    atomic_write(path, lambda file: file.write(buffer.getbuffer()))


def save_weights(model: nn.Module, path: Path, metadata: dict[str, Any]) -> None:
    """Write weights and preprocessing: all that prediction needs."""
    save_tensors(path, {"model": model.state_dict(), **metadata})


def average_weights(files: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of the weights in some files; integer buffers are the last file's."""
    models = []
    for file in files:
        with wrap_load_errors(file):
            models.append(load_checkpoint(file)["model"])
    if len(models) == 1:
        return models[0]
    return {key: torch.stack([model[key] for model in models]).mean(0) if value.is_floating_point() else value
            for key, value in models[-1].items()}  # fmt: skip


def split_members(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the content of a fold's checkpoint once for each network whose predictions are averaged."""
    return [{**content, "model": weights} for weights in (content["model"], *content.get("members", ()))]


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REQUIRED_KEYS = ("model", "model_word", "head", "crop", "classes", "mean", "std")


def load_fold_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a fold's checkpoint; RunError if it has other classes or lacks a key."""
    if not path.is_file():
        raise RunError(f"checkpoint {path} is missing. {retry_hint(path)}")
    content = load_checkpoint(path)
    if isinstance(content, dict) and content.keys() >= {"optimizer", "history", "ema"}:
        content = from_training_state(content, path)
    missing = [key for key in REQUIRED_KEYS if not isinstance(content, dict) or key not in content]
    if missing:
        raise RunError(f"{path} is not a maskcls checkpoint: missing keys {', '.join(missing)}")
    with wrap_read_errors(path):
        check_plain({key: value for key, value in content.items() if key not in ("model", "members")})
        if not isinstance(members := content.get("members", []), list):
            raise FormatError(f"members: expected a list, got {type(members).__name__}")
        check_normalization(content["mean"], content["std"])
    if content["classes"] != list(checkpoint_task(content, path).classes):
        message = f"{path} was trained for other classes or another order of classes: {content['classes']}"
        raise RunError(message[:MAX_MESSAGE])
    return content


def checkpoint_task(content: Mapping[str, Any], path: Path) -> Task:
    """Return the task of a checkpoint, the competition's in those of older versions; RunError for an invalid one."""
    try:
        return read_task(content.get("task"))
    except ValueError as error:
        raise RunError(f"{path}: {error}"[:MAX_MESSAGE]) from error


def from_training_state(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return a training state (last.pt) as a checkpoint: the weights that predict, their epoch, the preprocessing."""
    if "classes" not in content:
        what = f"{path} was written by an older version, without its preprocessing"
        raise RunError(f"{what}. Use best.pt or epoch*.pt of the same fold")
    metadata = {key: value for key, value in content.items() if key in (*REQUIRED_KEYS, "task", "tta", "precision")}
    weights, history = content["ema"] or content["model"], content["history"]
    return metadata | {"model": weights, "epoch": len(history) if isinstance(history, list) else None}
