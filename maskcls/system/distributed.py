"""Ranks of one run under torchrun; with a single process nothing is exchanged."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist


def rank() -> int:
    """Return this process's number, 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Return the number of processes, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Return this process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def init_process_group(device: torch.device) -> None:
    """Join the other ranks, once for each process (nccl on a GPU, gloo on the CPU)."""
    if world_size() > 1 and not dist.is_initialized():
        patient = timedelta(days=7)  # a rank may wait for photos to be decoded, or for a fold that is trained elsewhere
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=patient)


def destroy_process_group() -> None:
    """Leave the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until each rank is here."""
    if world_size() > 1:
        dist.barrier()


def all_gather(part: npt.NDArray[Any], total: int) -> npt.NDArray[Any]:
    """Return the rows of all ranks in their order, (total, …), given each rank's rows rank::size."""
    if world_size() == 1:
        return part
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part)
    whole = np.empty((total, *part.shape[1:]), part.dtype)
    for index, rows in enumerate(parts):
        whole[index :: world_size()] = rows
    return whole


def broadcast(value: Any) -> Any:
    """Return the first rank's value on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def all_reduce_mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the ranks."""
    if world_size() > 1:
        dist.all_reduce(value)
        value = value / world_size()
    return value


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Give each rank the first one's buffers (batch-norm statistics), so that all predict with one model."""
    for buffer in model.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, 0)


def wrap_ddp(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return the model with its gradients averaged over the ranks."""
    if world_size() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(model, device_ids=ids)
