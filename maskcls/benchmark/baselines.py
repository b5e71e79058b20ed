"""Contenders of the benchmark: four training loops that take the same number of steps on the same images and network.

team      the first team's loop: OpenCV and albumentations for every image in the training process, AdamP of its package
timm      timm's loader, augmentation, optimizer and loop, with the defaults of timm's train.py
maskcls   this package's cache, loader and loop, as a run uses them
limit     the model, memory layout, loss and optimizer of maskcls on one batch already on the device: no loading
"""

from __future__ import annotations

import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maskcls.benchmark.harness import EpochFn, Job, Setting, build_job, build_training, setting_config, synchronize
from maskcls.components.model import set_train_mode
from maskcls.engine.training_loop import train_one_epoch
from maskcls.inference.forward import autocast


class ImageFileDataset(Dataset[tuple[Tensor, int]]):
    """Images that are read, cropped and normalized on every access."""

    def __init__(self, job: Job) -> None:
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.paths, self.labels = job.paths, job.labels
        self.transform = A.Compose([
            A.CenterCrop(*job.fold.image_size),
            A.RandomBrightnessContrast(brightness_limit=(-0.1, 0.1), contrast_limit=(-0.1, 0.1), p=0.5),
            A.Normalize(mean=(0.548, 0.504, 0.479), std=(0.237, 0.247, 0.246)),
            ToTensorV2(),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Any = cv2.imread(self.paths[index])
        return self.transform(image=cv2.cvtColor(image, cv2.COLOR_BGR2RGB))["image"], self.labels[index]


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the focal loss of hard labels, gamma 5."""
    logp = logits.log_softmax(1)
    return nn.functional.nll_loss((1 - logp.exp()) ** 5 * logp, labels)


def team_loop(job: Job, folder: Path) -> EpochFn:
    """Return an epoch of the first team's loop: fp32, contiguous, no workers."""
    from adamp import AdamP

    loader = DataLoader(ImageFileDataset(job), job.cfg.batch_size, shuffle=True, drop_last=True, num_workers=0)
    model = job.build_model()
    optimizer = AdamP(model.parameters(), lr=3e-4, weight_decay=1e-5)
    return plain_loop(loader, model, optimizer, focal_loss, job.hardware.device)


def timm_loop(job: Job, folder: Path) -> EpochFn:
    """Return an epoch of timm's train.py with its defaults, over a folder of links."""
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    torch.backends.cudnn.benchmark = True  # as in train.py
    model = job.build_model()
    data_cfg = resolve_data_config({"input_size": (3, *job.fold.image_size)}, model=model)
    dataset = create_dataset(
        "", str(link_images(job.paths, job.labels, folder)), "train", is_training=True, batch_size=job.cfg.batch_size
    )
    warnings.filterwarnings("ignore", "This DataLoader will create")  # there may be fewer than four cores
    loader = create_loader(
        dataset, data_cfg["input_size"], job.cfg.batch_size, is_training=True, num_workers=4, interpolation="random",
        mean=data_cfg["mean"], std=data_cfg["std"], device=job.hardware.device, use_prefetcher=True,
    )  # fmt: skip
    optimizer = create_optimizer_v2(model, "sgd", lr=0.01, weight_decay=2e-5, momentum=0.9)
    return plain_loop(loader, model, optimizer, LabelSmoothingCrossEntropy(0.1), job.hardware.device)


def link_images(paths: Sequence[str], labels: Sequence[int], folder: Path) -> Path:
    """Create numbered links to the images, one folder per class; return the folder."""
    for i, (path, label) in enumerate(zip(paths, labels, strict=True)):
        link = folder / f"{label:02d}" / f"{i:06d}{Path(path).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).absolute())
    return folder


def plain_loop(
    loader: Iterable[Any], model: nn.Module, optimizer: Any, criterion: Any, device: torch.device
) -> EpochFn:
    """Return an epoch of the usual training loop, which reads the loss after each step."""

    def train_epoch() -> float:
        model.train()
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total

    return train_epoch


def maskcls_loop(job: Job, folder: Path) -> EpochFn:
    """Return an epoch of this package's loop."""
    state, step, sampler, loader = build_training(job)

    def train_epoch() -> float:
        sampler.epoch += 1
        losses, _ = train_one_epoch(job.cfg, state, step, loader, len(sampler), job.hardware)
        return float(losses.mean())

    return train_epoch


def upper_bound(job: Job, folder: Path) -> EpochFn:
    """Return an epoch of forward, backward and optimizer steps on one batch that is already on the device."""
    state, step, _, _ = build_training(job)
    device = job.hardware.device
    layout = torch.channels_last if job.hardware.channels_last else torch.contiguous_format
    images = torch.randn(job.cfg.batch_size, 3, *job.fold.image_size, device=device).contiguous(memory_format=layout)
    targets = step.targets[torch.from_numpy(job.fold.train_indices[: job.cfg.batch_size]).to(device)]

    def train_epoch() -> None:
        set_train_mode(step.model)
        for _ in range(job.steps):
            with autocast(device, job.cfg.precision):
                logits = step.model(images)
            state.scaler.scale(step.criterion(logits, targets)).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)

    return train_epoch


CONTENDERS: dict[str, Callable[[Job, Path], EpochFn]] = {
    "team": team_loop, "timm": timm_loop, "maskcls": maskcls_loop, "limit": upper_bound,
}  # fmt: skip


def contender_worker(pipe: Connection, name: str, setting: Setting, overrides: Sequence[str]) -> None:
    """Run a contender's process: for each "epoch" received, train one and send its seconds; last, send its peak MB."""
    from maskcls.benchmark.memory import peak_memory, worker_memory

    job = build_job(setting_config(setting, overrides), setting.steps)
    device = job.hardware.device
    with tempfile.TemporaryDirectory() as folder:
        train_epoch = CONTENDERS[name](job, Path(folder))
        while pipe.recv() == "epoch":
            started_at = time.perf_counter()
            train_epoch()
            synchronize(device)
            seconds = time.perf_counter() - started_at
            workers_mb = worker_memory()
            gc.collect()  # outside the measured time
            pipe.send(seconds)
        gpu_mb = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
        pipe.send({"process": peak_memory(), "workers": workers_mb, "GPU": gpu_mb})
