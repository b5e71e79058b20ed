"""The forward pass: cached images → class probabilities of one model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from maskcls.components.hardware import Hardware
from maskcls.components.head import Head
from maskcls.components.tta import Views
from maskcls.core.errors import NonFiniteError
from maskcls.core.task import FloatArray, IntArray
from maskcls.data.loader import SequentialBatchSampler, build_loader
from maskcls.data.pixel_cache import Pixels
from maskcls.storage.checkpoint import DTYPES
from maskcls.system import distributed


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return torch's autocast for a precision, disabled for fp32."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def channel_stats(model: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a model's mean and std for uint8 values on the device, (3,) each."""
    mean, std = (torch.tensor(getattr(model, name)) * 255 for name in ("mean", "std"))
    return mean.to(device), std.to(device)


def normalize(images: Tensor, stats: tuple[Tensor, Tensor]) -> Tensor:
    """Return uint8 (B, H, W, 3) as normalized float32 (B, 3, H, W) on the device of `stats`, channels-last.

    float32 for every precision: images are mixed in it, and autocast rounds once, in the first layer.
    """
    mean, std = (values.repeat(images.shape[2]) for values in stats)  # (W · 3,): faster by line than by pixel
    lines = images.to(mean.device, non_blocking=True).flatten(2).float().sub_(mean).div_(std)  # (B, H, W · 3)
    return lines.view(images.shape).permute(0, 3, 1, 2)


def predict_probs(
    model: nn.Module, head: Head, pixels: Pixels | Tensor, indices: IntArray, hardware: Hardware, precision: str,
    tta_views: Views,
) -> FloatArray:  # fmt: skip
    """Return the probabilities of the images at `indices`, (N, C) float32: the mean over the views of each image."""
    return predict_columns(model, head, pixels, indices, hardware, precision, tta_views)[:, : head.task.num_classes]


@torch.inference_mode()
def predict_columns(
    model: nn.Module, head: Head, pixels: Pixels | Tensor, indices: IntArray, hardware: Hardware, precision: str,
    tta_views: Views,
) -> FloatArray:  # fmt: skip
    """Return the columns of `head.predict` for the images at `indices`, float32: the mean over each image's views.

    Each rank predicts its share.
    """
    model.eval()
    rank_indices = indices[distributed.rank() :: distributed.world_size()]
    no_workers = replace(hardware, workers=0)  # copying from the cache is faster than sending between processes
    batches = build_loader(pixels, None, SequentialBatchSampler(rank_indices, hardware.eval_batch), no_workers)
    stats, parts = channel_stats(model, hardware.device), []
    for images, _ in batches:
        views = tta_views(normalize(images, stats))
        with autocast(hardware.device, precision):
            logits = [model(view) for view in views]
        parts.append(torch.stack([head.predict(output) for output in logits]).mean(0))
    columns = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, head.num_columns), np.float32)
    if not np.isfinite(columns).all():
        count = int((~np.isfinite(columns)).any(1).sum())
        raise NonFiniteError(f"{count} of {len(rank_indices)} predictions are not finite")
    return distributed.all_gather(columns, len(indices))
