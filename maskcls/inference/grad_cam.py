"""Grad-CAM: where in an image a convolutional network found its class (Selvaraju et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskcls.components.head import Head
from maskcls.core.task import FloatArray
from maskcls.data.pixel_cache import Pixels
from maskcls.inference.forward import channel_stats, normalize
from maskcls.inference.predictor import Predictor


def grad_cam(predictor: Predictor, crop: Pixels, label: int) -> FloatArray | None:
    """Return the mean map of a model's networks for a class and a crop (H, W, 3): (h, w) of 0 to 1.

    Return None for networks whose last features are no map, such as vision transformers, or that do not part features
    from classifier. The networks are built by a prediction of the same crop.
    """
    maps = [class_map(model, head, crop, label, predictor.hardware.device)
            for model, head in zip(predictor.models, predictor.heads, strict=True)]  # fmt: skip
    found = [one for one in maps if one is not None]
    return np.mean(found, axis=0, dtype=np.float32) if len(found) == len(maps) > 0 else None


def class_map(model: nn.Module, head: Head, crop: Pixels, label: int, device: torch.device) -> FloatArray | None:
    """Return one network's map: its last features, weighted by the mean gradients of the class's log-probability."""
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        return None  # a plugin's network
    images = normalize(torch.from_numpy(np.array(crop[None])), channel_stats(model, device))
    with torch.no_grad():
        features: Any = model.forward_features(images)  # type: ignore[operator]
    if not isinstance(features, Tensor) or features.dim() != 4 or features.shape[2:].numel() == 1:
        return None
    with torch.enable_grad():
        features = features.detach().requires_grad_()  # also of a frozen backbone
        logits: Tensor = model.forward_head(features)  # type: ignore[operator]
        score = head.probabilities(logits)[0, label].clamp_min(1e-12).log()
        (gradient,) = torch.autograd.grad(score, features)
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        features, gradient = features.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    found = (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0].relu().detach()
    return np.asarray((found / found.max().clamp_min(1e-12)).cpu().numpy(), np.float32)
