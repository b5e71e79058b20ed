"""A model and cached photos → probabilities."""

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
from maskcls.core.task import CLASSES, FloatArray, IntArray
from maskcls.data.loader import SequentialBatchSampler, build_loader
from maskcls.data.pixel_cache import Pixels
from maskcls.storage.checkpoint import DTYPES
from maskcls.system import distributed


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return torch's autocast to a precision; fp32 changes nothing."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def channel_stats(model: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return a model's mean and std of uint8 values on the device, (3,) each: once for all its batches."""
    mean, std = (torch.tensor(getattr(model, name)) * 255 for name in ("mean", "std"))
    return mean.to(device), std.to(device)


def normalize(images: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    """Return uint8 (B, H, W, 3) as normalised float32 (B, 3, H, W) on the device of the `colours`, channels-last.

    float32 whatever the precision: photos are mixed in it, and autocast rounds once, where the first layer reads them.
    """
    mean, std = (colour.repeat(images.shape[2]) for colour in scale)  # (W · 3,): whole lines, not pixels, at a time
    lines = images.to(mean.device, non_blocking=True).flatten(2).float().sub_(mean).div_(std)  # (B, H, W · 3)
    return lines.view(images.shape).permute(0, 3, 1, 2)


@torch.inference_mode()
def predict_probs(
    model: nn.Module,
    head: Head,
    photos: Pixels | Tensor,
    rows: IntArray,
    hardware: Hardware,
    precision: str,
    views: Views,
) -> FloatArray:
    """Return the probabilities of the rows, (N, 18) float32, in their order: the mean over the views of each photo.

    Each rank predicts its share of the rows.
    """
    model.eval()
    mine = rows[distributed.rank() :: distributed.world_size()]
    alone = replace(hardware, workers=0)  # to copy photos out of the cache takes less than to send them
    batches = build_loader(photos, None, SequentialBatchSampler(mine, hardware.eval_batch), alone)
    scale, parts = channel_stats(model, hardware.device), []
    for images, _ in batches:
        each = views(normalize(images, scale))
        with autocast(hardware.device, precision):
            logits = [model(view) for view in each]
        parts.append(torch.stack([head.probabilities(view) for view in logits]).mean(0))
    probs = torch.cat(parts).cpu().numpy() if parts else np.zeros((0, len(CLASSES)), np.float32)
    if not np.isfinite(probs).all():
        raise NonFiniteError(f"{int((~np.isfinite(probs)).any(1).sum())} of {len(mine)} predictions are no numbers")
    return distributed.all_gather(probs, len(rows))
