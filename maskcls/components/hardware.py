"""Hardware options: device, workers, memory layout. They affect speed only and are not part of a run's id."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from maskcls.core.errors import ConfigError, RunError
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeInt, PositiveInt
from maskcls.ops.depthwise_conv import use_fast_depthwise
from maskcls.system import distributed
from maskcls.system.processes import num_cpus

registry = Registry("hardware")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Hardware:
    """Device, number of loader workers, memory layout and evaluation batch size."""

    device: torch.device
    workers: int
    channels_last: bool
    fused: bool
    eval_batch: int
    compile: bool
    folds_at_once: int  # number of folds trained in parallel processes
    resident: bool  # keep images in device memory if they are not augmented on the CPU

    def to_device(self, model: torch.nn.Module) -> torch.nn.Module:
        """Move a model to the device, in the memory layout; on a CPU with fast depthwise gradients."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        if self.device.type == "cpu":
            use_fast_depthwise(model)
        return model.to(self.device).to(memory_format=layout)

    def to_device_memory(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | torch.Tensor:
        """Return images (N, H, W, 3) in device memory if `resident`; raise RunError if they do not fit."""
        if not self.resident:
            return pixels
        try:
            resident = torch.empty(pixels.shape, dtype=torch.uint8, device=self.device)
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):  # a CPU's
                raise
            where = f"hardware.resident=true: {pixels.nbytes / 1e6:,.0f} MB of images do not fit in device memory"
            raise RunError(f"{where}. Set hardware.resident=false to load them batch by batch") from error
        for start in range(0, len(pixels), 1024):
            resident[start : start + 1024] = torch.from_numpy(np.array(pixels[start : start + 1024]))
        return resident

    def compile_if_enabled(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return the model, compiled if `compile`."""
        return torch.compile(model) if self.compile else model  # type: ignore[return-value]

    def __str__(self) -> str:
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else cpu_name()
        layout = "channels-last" if self.channels_last else "contiguous"
        at_once = f", {self.folds_at_once} folds at once" if self.folds_at_once > 1 else ""
        resident = ", images in device memory" if self.resident else ""
        return (
            f"{device}, {torch.get_num_threads()} threads, {self.workers} workers, {layout} memory{at_once}{resident}"
        )

    def facts(self) -> dict[str, Any]:
        """Return facts about this machine for about.json."""
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        return {key: str(value) for key, value in asdict(self).items()} | {
            "gpu": gpu, "processor": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "ranks": distributed.world_size(),
        }  # fmt: skip


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory in this process.

    Otherwise each step maps its activations again and the kernel clears every page. No effect with other C libraries.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def cpu_name() -> str:
    """Return the model name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


@registry.register
def auto(
    *,
    workers: NonNegativeInt | None = None,
    eval_batch: PositiveInt | None = None,
    compile: bool = False,
    folds_at_once: PositiveInt = 1,
    resident: bool = False,
) -> Hardware:
    """A GPU if there is one, else the CPU.

    Args:
        workers: processes that load images; null: as hardware=cpu or gpu
        eval_batch: images per batch in evaluation; null: as hardware=cpu or gpu
        compile: compile the model with torch.compile
        folds_at_once: number of folds that are trained in parallel processes
        resident: keep images that need no augmentation on the CPU in the device's memory
    """
    build = gpu if torch.cuda.is_available() else cpu
    return build(
        workers=workers, eval_batch=eval_batch, compile=compile, folds_at_once=folds_at_once, resident=resident
    )


@registry.register
def cpu(
    *,
    workers: NonNegativeInt | None = None,
    eval_batch: PositiveInt | None = None,
    compile: bool = False,
    folds_at_once: PositiveInt = 1,
    resident: bool = False,
) -> Hardware:
    """The CPU, channels-last; images are loaded in the training process.

    Measured on two cores of an Intel Xeon, medians of paired steps. Channels-last is as fast as contiguous or faster:
    effnet_lite0 1.44 times, mobilenetv3 1.24, resnet50 1.10, resnet18 1.08 (0.98 at 96 × 80), vgg11 1.02, a ViT 1.00.
    One or two workers, which take the cores from the loop, give 0.94 to 0.98 of its rate for mobilenetv3 and 0.99 to
    1.01 for resnet18, with augmentation=team and with heavy.

    Args:
        workers: processes that load images; null: none, the training process loads them
        eval_batch: images per batch in evaluation; null: 64
        compile: compile the model with torch.compile
        folds_at_once: number of folds that are trained in parallel processes
        resident: keep images that need no augmentation on the CPU in the device's memory
    """
    return Hardware(torch.device("cpu"), workers or 0, True, True, eval_batch or 64, compile, folds_at_once, resident)


@registry.register
def gpu(
    *,
    workers: NonNegativeInt | None = None,
    eval_batch: PositiveInt | None = None,
    compile: bool = False,
    folds_at_once: PositiveInt = 1,
    resident: bool = False,
) -> Hardware:
    """One GPU for each rank, channels-last, with fused optimizers; half the cores load images, at most eight.

    Not measured: tensor cores take channels-last without transposing (PyTorch's channels-last guide),
    and the other cores remain for the training loop. `maskcls benchmark` reports what the loop waits for.

    Args:
        workers: processes that load images; null: half the cores, at most eight
        eval_batch: images per batch in evaluation; null: 256
        compile: compile the model with torch.compile
        folds_at_once: number of folds that are trained in parallel processes
        resident: keep images that need no augmentation on the CPU in the device's memory
    """
    if not torch.cuda.is_available():
        raise ConfigError("hardware=gpu: torch finds no GPU. Use hardware=cpu or hardware=auto")
    if distributed.local_rank() >= (num_gpus := torch.cuda.device_count()):
        raise ConfigError(f"hardware=gpu: {distributed.world_size()} processes need one GPU each, got {num_gpus}")
    device = torch.device("cuda", distributed.local_rank())
    torch.cuda.set_device(device)
    num_workers = min(8, num_cpus() // 2) if workers is None else workers
    return Hardware(device, num_workers, True, True, eval_batch or 256, compile, folds_at_once, resident)
