"""Batches of cached photos, in an order and with changes that depend on nothing but seed, fold and epoch."""

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
from maskcls.components.sampler import Order
from maskcls.core.errors import ConfigError
from maskcls.core.task import IntArray
from maskcls.data.pixel_cache import Pixels
from maskcls.system import console, distributed
from maskcls.system.processes import SHARED, exit_with_parent, free_shared_memory

Item = tuple[int, int]
Batch = tuple[Tensor, Tensor]
AHEAD = 2  # batches that each worker makes before they are asked for
HELD = 2  # batches that the training loop holds: the one at hand, and the next one while it is handed over
PATIENCE = 300  # seconds after which a batch that no worker has sent will not come


def seeded_rng(*numbers: int) -> np.random.Generator:
    """Return a generator of its own for (seed, fold, epoch, …)."""
    return np.random.default_rng(np.random.SeedSequence(numbers))


class CachedImages(Dataset[Batch]):
    """Cached photos by (row, seed): the seed is of the photo's random changes, so a worker keeps no state."""

    def __init__(self, pixels: Pixels, augment: Augment | None) -> None:
        self.pixels, self.augment = pixels, augment

    def __getitems__(self, items: list[Item]) -> Batch:
        rows = np.fromiter((row for row, _ in items), np.int64, len(items))
        images = self.pixels[rows]  # (B, H, W, 3), a copy
        if self.augment:
            pairs = zip(images, items, strict=True)
            images = np.stack([augment_photo(self.augment, image, seed) for image, (_, seed) in pairs])
        return torch.from_numpy(images), torch.from_numpy(rows)


def augment_photo(augment: Augment, image: Pixels, seed: int) -> Pixels:
    """Return a photo after its random changes; a rare change that the rehearsal did not draw is checked here."""
    try:
        return check_augmented(image, augment(image, seed))
    except ValueError as error:
        raise ConfigError(f"augmentation: {error}") from error


class EpochBatchSampler(Sampler[list[Item]]):
    """The batches of an epoch: whole ones only, this rank's part of each."""

    def __init__(self, rows: IntArray, order: Order, batch: int, seed: int, fold: int) -> None:
        self.rows, self.order, self.batch, self.key, self.epoch = rows, order, batch, (seed, fold), 0

    def __len__(self) -> int:
        return len(self.rows) // self.batch

    def __iter__(self) -> Iterator[list[Item]]:
        random = seeded_rng(*self.key, self.epoch)
        rows = self.rows[self.order(random)]
        seeds = random.integers(0, 2**31, len(rows))
        for start in range(0, len(self) * self.batch, self.batch):
            mine = slice(start + distributed.rank(), start + self.batch, distributed.world_size())
            yield list(zip(rows[mine].tolist(), seeds[mine].tolist(), strict=True))


class SequentialBatchSampler(Sampler[list[Item]]):
    """Rows in their order, the last batch as short as it comes."""

    def __init__(self, rows: IntArray, batch: int) -> None:
        self.rows, self.batch = rows, batch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch)

    def __iter__(self) -> Iterator[list[Item]]:
        for start in range(0, len(self.rows), self.batch):
            yield [(row, 0) for row in self.rows[start : start + self.batch].tolist()]


class DeviceLoader:
    """Batches of photos (N, H, W, 3) that lie in the device's memory: no more than the numbers of rows travels."""

    def __init__(self, photos: Tensor, batches: Sampler[list[Item]]) -> None:
        self.photos, self.batches = photos, batches

    def __iter__(self) -> Iterator[Batch]:
        for items in self.batches:
            rows = torch.tensor([row for row, _ in items])
            yield self.photos[rows.to(self.photos.device, non_blocking=True)], rows


def share_batch(batch: Any) -> Any:
    """Return a batch as it was made, from a worker in shared memory.

    torch would move it there in a thread of the worker, where a full /dev/shm loses the batch and nobody is told.
    """
    if get_worker_info():
        for part in batch:
            part.share_memory_()
    return batch


def prepare_worker(worker: int) -> None:
    """Let a worker end with its parent, and be silent about a run that ended while it was sent a batch."""
    exit_with_parent()
    say = sys.excepthook
    sys.excepthook = lambda kind, *rest: None if issubclass(kind, OSError | EOFError) else say(kind, *rest)


def affordable_workers(photos: CachedImages, batches: Sampler[list[Item]], hardware: Hardware) -> int:
    """Return how many of the wanted workers have room for their batches in shared memory, and say if they are fewer."""
    items: list[Item] = next(iter(batches), [])
    if not hardware.workers or not items or "fork" not in multiprocessing.get_all_start_methods():
        return 0
    images, rows = photos.__getitems__(items[:1])
    size = (images.nbytes + rows.nbytes) * len(items) + 2 * 4096  # whole pages
    free = free_shared_memory() // max(hardware.folds_at_once, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    count = min(hardware.workers, max((free // size - HELD) // AHEAD, 0))
    if count < hardware.workers:
        console.say_once(
            f"hardware.workers={hardware.workers} is lowered to {count}: a batch takes {size / 1e6:.1f} MB of "
            f"{SHARED} and {free / 1e6:.1f} MB are free for this process. More room: docker run --shm-size=8g"
        )
    return count


def build_loader(
    photos: Pixels | Tensor, augment: Augment | None, batches: Sampler[list[Item]], hardware: Hardware
) -> Iterable[Batch]:
    """Return (images uint8 (B, H, W, 3), rows (B,)) batches, from workers where the hardware wants them."""
    if isinstance(photos, Tensor):
        return DeviceLoader(photos, batches)
    source = CachedImages(photos, augment)
    workers = affordable_workers(source, batches, hardware)
    return DataLoader(
        source, batch_sampler=batches, num_workers=workers, collate_fn=share_batch,
        pin_memory=hardware.device.type == "cuda", persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,  # which shares the memory map
        prefetch_factor=AHEAD if workers else None, timeout=PATIENCE if workers else 0, worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else each start of an epoch draws from the stream of dropout and mixing
    )  # fmt: skip
