"""Collective operations between the ranks of torchrun; without torchrun they return their argument."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist


def rank() -> int:
    """Return the rank of this process, 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Return the number of processes, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Return the rank of this process on its machine, 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", 0))


def init_process_group(device: torch.device) -> None:
    """Initialize torch.distributed once per process (nccl on a GPU, gloo on the CPU)."""
    if world_size() > 1 and not dist.is_initialized():
        timeout = timedelta(days=7)  # a rank may wait while images are decoded or another process trains the fold
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)


def destroy_process_group() -> None:
    """Shut torch.distributed down."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all ranks reach this call."""
    if world_size() > 1:
        dist.barrier()


def all_gather(part: npt.NDArray[Any], total: int) -> npt.NDArray[Any]:
    """Return the rows of all ranks in order, (total, …); each rank passes the rows rank::world_size."""
    if world_size() == 1:
        return part
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part)
    gathered = np.empty((total, *part.shape[1:]), part.dtype)
    for index, rows in enumerate(parts):
        gathered[index :: world_size()] = rows
    return gathered


def broadcast(value: Any) -> Any:
    """Return the value of rank 0 on every rank."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_reduce_mean(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the ranks."""
    if world_size() > 1:
        dist.all_reduce(value)
        value = value / world_size()
    return value


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Copy the buffers of rank 0 (batch-norm statistics) to all ranks, so that all ranks predict alike."""
    for buffer in model.buffers() if world_size() > 1 else ():
        dist.broadcast(buffer, 0)


def wrap_ddp(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """Return the model wrapped in DistributedDataParallel, which averages gradients over the ranks."""
    if world_size() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(model, device_ids=ids)
