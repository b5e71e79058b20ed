"""Data loaders: batches of cached images, reproducible from seed, fold and epoch."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from maskcls.components.augmentation import Augment, check_augmented
from maskcls.components.hardware import Hardware
from maskcls.components.sampler import SampleOrder
from maskcls.core.errors import ConfigError
from maskcls.core.task import IntArray
from maskcls.data.pixel_cache import Pixels
from maskcls.system import console, distributed
from maskcls.system.processes import SHARED, exit_with_parent, free_shared_memory

Item = tuple[int, int]
Batch = tuple[Tensor, Tensor]
PREFETCH_FACTOR = 2  # batches that each worker loads in advance
BATCHES_IN_USE = 2  # of the training loop: the current batch, and the next one during its transfer
TIMEOUT = 300  # seconds to wait for a batch of a worker


def seeded_rng(*numbers: int) -> np.random.Generator:
    """Return an independent generator for (seed, fold, epoch, …)."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


class CachedImages(Dataset[Batch]):
    """Cached images by (row, augmentation seed), so that workers have no random state."""

    def __init__(self, pixels: Pixels, augment: Augment | None) -> None:
        self.pixels, self.augment = pixels, augment

    def __getitems__(self, items: list[Item]) -> Batch:
        rows = np.fromiter((row for row, _ in items), np.int64, len(items))
        images = self.pixels[rows]  # (B, H, W, 3), a copy
        if self.augment:
            pairs = zip(images, items, strict=True)
            images = np.stack([augment_image(self.augment, image, seed) for image, (_, seed) in pairs])
        return torch.from_numpy(images), torch.from_numpy(rows)


def augment_image(augment: Augment, image: Pixels, seed: int) -> Pixels:
    """Return an augmented image; check it, because the dry run cannot sample every transform."""
    try:
        return check_augmented(image, augment(image, seed))
    except ValueError as error:
        raise ConfigError(f"augmentation: {error}") from error


class EpochBatchSampler(Sampler[list[Item]]):
    """Full batches of an epoch; each rank gets its part of every batch, in groups of `group` consecutive rows."""

    def __init__(
        self, rows: IntArray, sample_order: SampleOrder, batch: int, seed: int, fold: int, group: int = 1
    ) -> None:
        self.rows, self.sample_order, self.batch, self.group = rows, sample_order, batch, group
        self.seed, self.fold, self.epoch = seed, fold, 0

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __iter__(self) -> Iterator[list[Item]]:
        rng = seeded_rng(self.seed, self.fold, self.epoch)
        rows = self.rows[self.sample_order(rng)]
        seeds = rng.integers(0, 2**31, len(rows))
        for start in range(0, len(self) * self.batch, self.batch):
            groups = np.arange(start, start + self.batch).reshape(-1, self.group)
            own = groups[distributed.rank() :: distributed.world_size()].ravel()
            yield list(zip(rows[own].tolist(), seeds[own].tolist(), strict=True))


class SequentialBatchSampler(Sampler[list[Item]]):
    """Batches of rows in order; the last batch may be smaller."""

    def __init__(self, rows: IntArray, batch: int) -> None:
        self.rows, self.batch = rows, batch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch)

    def __iter__(self) -> Iterator[list[Item]]:
        for start in range(0, len(self.rows), self.batch):
            yield [(row, 0) for row in self.rows[start : start + self.batch].tolist()]


class DeviceLoader:
    """Batches of images (N, H, W, 3) in device memory: only row indices are transferred."""

    def __init__(self, pixels: Tensor, batches: Sampler[list[Item]]) -> None:
        self.pixels, self.batches = pixels, batches

    def __iter__(self) -> Iterator[Batch]:
        for items in self.batches:
            rows = torch.tensor([row for row, _ in items])
            yield self.pixels[rows.to(self.pixels.device, non_blocking=True)], rows


def share_batch(batch: Any) -> Any:
    """Return the batch unchanged; in a worker, move it to shared memory.

    torch would do so in a background thread, where the error of a full /dev/shm is lost.
    """
    if get_worker_info():
        for part in batch:
            part.share_memory_()
    return batch


def prepare_worker(worker: int) -> None:
    """Make a worker exit with its parent, and silence its errors when the run ends while it sends a batch."""
    exit_with_parent()
    excepthook = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, OSError | EOFError) else excepthook(kind, *rest)


def limit_workers(dataset: CachedImages, batches: Sampler[list[Item]], hardware: Hardware) -> int:
    """Return hardware.workers, or fewer (with a note) if their batches do not fit into shared memory."""
    items: list[Item] = next(iter(batches), [])
    if not hardware.workers or not items or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    images, rows = dataset.__getitems__(items[:1])
    size = (images.nbytes + rows.nbytes) * len(items) + 2 * 4096  # whole pages
    free = free_shared_memory() // max(hardware.folds_at_once, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    count = min(hardware.workers, max((free // size - BATCHES_IN_USE) // PREFETCH_FACTOR, 0))
    if count < hardware.workers:
        console.info_once(
            f"hardware.workers={hardware.workers} is lowered to {count}: a batch needs {size / 1e6:.1f} MB of "
            f"{SHARED} and {free / 1e6:.1f} MB are free for this process. Use docker run --shm-size=8g"
        )
    return count


def build_loader(
    pixels: Pixels | Tensor, augment: Augment | None, batches: Sampler[list[Item]], hardware: Hardware
) -> Iterable[Batch]:
    """Return batches (images uint8 (B, H, W, 3), rows (B,)), loaded by hardware.workers processes."""
    if isinstance(pixels, Tensor):
        return DeviceLoader(pixels, batches)
    dataset = CachedImages(pixels, augment)
    workers = limit_workers(dataset, batches, hardware)
    return DataLoader(
        dataset, batch_sampler=batches, num_workers=workers, collate_fn=share_batch,
        pin_memory=hardware.device.type == "cuda", persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,  # shares the memory map
        prefetch_factor=PREFETCH_FACTOR if workers else None, timeout=TIMEOUT if workers else 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # otherwise epochs use torch's global one
    )  # fmt: skip
