"""Progressive resizing: the size of the training images by epoch (Howard 2018, DAWNBench; Tan & Le 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from maskcls.core.config import Config


def epoch_scale(cfg: Config, epoch: int) -> float:
    """Return the factor of the training images' height and width in an epoch, from 0.

    The entries of size_schedule last equally long, within one epoch, and the last one is never the shorter.
    """
    schedule = cfg.size_schedule or [1.0]
    return schedule[-1 - (cfg.epochs - 1 - epoch) * len(schedule) // cfg.epochs]


def scaled_size(image_size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return a (height, width) in pixels times a factor, at least 1 × 1."""
    height, width = (max(round(side * scale), 1) for side in image_size)
    return height, width


def resize_batch(images: Tensor, image_size: tuple[int, int], device: torch.device) -> Tensor:
    """Return images (B, H, W, 3), uint8, resized on the device to (height, width); unchanged if they have that size.

    A CPU resizes the bytes, which is faster than float32. Other devices have no kernel for bytes and return float32.
    """
    if images.shape[1:3] == image_size:
        return images
    planes = images.to(device, non_blocking=True).permute(0, 3, 1, 2)
    planes = planes if device.type == "cpu" else planes.float()
    resized = functional.interpolate(planes, image_size, mode="bilinear", align_corners=False, antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()
