"""Export of one network as a folder that `timm.create_model("local-dir:<folder>", pretrained=True)` loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskcls.components.crop import output_size
from maskcls.components.hardware import cpu
from maskcls.components.model import dynamic_size_args, timm_
from maskcls.core.errors import ConfigError
from maskcls.core.task import FloatArray
from maskcls.data.pixel_cache import Pixels
from maskcls.inference.forward import channel_stats, normalize
from maskcls.inference.predictor import Predictor
from maskcls.inference.run_components import check_component
from maskcls.storage.trained_model import TrainedModel
from maskcls.system.files import atomic_write, write_json

FILES = ("config.json", "model.safetensors")


def check_single_network(model: TrainedModel) -> None:
    """Raise ConfigError unless a model is one network."""
    what = f"format=timm holds one network, {model.name}"
    if len(model.files) > 1:
        raise ConfigError(f"{what} has {len(model.files)} folds. Set fold=0, or another")
    if model.contents[0].get("members"):
        raise ConfigError(f"{what} is the mean of several epochs (ensemble_epochs). Use format=onnx")
    word = model.contents[0]["model_word"]
    if not isinstance(word, Mapping) or check_component("model", word, model.files[0], model.task).builder is not timm_:
        raise ConfigError(f"{what} has a network of a plugin, which timm cannot build. Use format=onnx")
    if model.bias is not None:
        raise ConfigError(f"format=timm cannot hold decision={model.config['decision']['name']}. Use format=onnx")


def bare_predictor(model: TrainedModel) -> Predictor:
    """Return the predictor of a network on the CPU without the run's test-time augmentation, which timm cannot hold."""
    return Predictor(model, cpu(), "fp32", check_component("tta", {"name": "none"}, model.config_path, model.task))


def export_timm(predictor: Predictor, folder: Path) -> dict[str, Any]:
    """Write config.json and model.safetensors; return facts about them.

    timm's own transform resizes with Pillow's box filter, the nearest to OpenCV's by area.
    """
    from safetensors.torch import save

    content = predictor.contents[0][0]
    size = output_size(predictor.crop_component)
    tensors = {name: tensor.contiguous() for name, tensor in content["model"].items()}
    atomic_write(folder / FILES[1], lambda file: file.write(save(tensors, {"format": "pt"})))
    config = timm_config(predictor, content, size)
    write_json(folder / FILES[0], config)
    return config["maskcls"] | {"architecture": config["architecture"]}


def timm_config(predictor: Predictor, content: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return config.json: what timm reads, and under `maskcls` what the logits mean."""
    arch = str(content["model_word"]["arch"])
    head, crop, model = predictor.heads[0], predictor.crop_component, predictor.source
    classes = list(predictor.classes)
    has_class_logits = len(head.axes) == 1 and head.num_columns == len(classes)
    preprocessing = {
        "input_size": [3, *size] if min(size) else [3, 224, 224], "interpolation": "box", "crop_pct": 1.0,
        "crop_mode": "squash", "mean": list(content["mean"]), "std": list(content["std"]), "num_classes": head.outputs,
    }  # fmt: skip
    facts = {
        "run": model.name, "folds": 1, "precision": "fp32", "head": dict(content["head"]),
        "crop": {"name": crop.name, **crop.params}, "tta": {"name": "none"},
        "run_tta": model.config.get("tta", {"name": "none"}), "decision": False, "classes": classes,
        "maskcls": packages.version("maskcls"),
    }  # fmt: skip
    return {
        "architecture": arch.partition(".")[0], "num_classes": head.outputs, "model_args": dynamic_size_args(arch),
        **({"label_names": classes} if has_class_logits else {}), "pretrained_cfg": preprocessing, "maskcls": facts,
    }  # fmt: skip


def load_predict(folder: Path, predictor: Predictor) -> Callable[[list[Pixels]], FloatArray]:
    """Return a function from photos to probabilities (N, C): the network that timm loads, with our crop and head."""
    import timm

    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    model.mean, model.std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    crop, head, stats = predictor.crop_component.build(), predictor.heads[0], channel_stats(model, torch.device("cpu"))

    @torch.inference_mode()
    def predict(photos: list[Pixels]) -> FloatArray:
        images = normalize(torch.from_numpy(np.stack([crop(photo) for photo in photos])), stats)
        return np.asarray(head.probabilities(model(images)).numpy(), np.float32)

    return predict
