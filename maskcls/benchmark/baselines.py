"""The contenders of the bench: four ways to take the same number of steps over the same photos with the same network.

team      the first team's loop: OpenCV and albumentations for every photo in the training process, AdamP of its package
timm      timm's loader, augmentation, optimizer and loop, with the defaults of timm's train.py
maskcls   this package's: the cache, the loader and the loop that a run uses
limit     the same model, layout, loss and optimizer as maskcls on one batch that is there already: nothing is loaded
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

from maskcls.benchmark.harness import Job, Setting, Turn, build_job, build_training, setting_config, synchronize
from maskcls.components.model import set_train_mode
from maskcls.engine.training_loop import train_one_epoch
from maskcls.inference.forward import autocast


class Decoded(Dataset[tuple[Tensor, int]]):
    """Photos that are read, cropped and normalised each time they are asked for."""

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


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the focal loss of class numbers, gamma 5."""
    logp = logits.log_softmax(1)
    return nn.functional.nll_loss((1 - logp.exp()) ** 5 * logp, labels)


def team(job: Job, place: Path) -> Turn:
    """Return a turn of the first team's loop: fp32, contiguous, no workers."""
    from adamp import AdamP

    loader = DataLoader(Decoded(job), job.cfg.batch, shuffle=True, drop_last=True, num_workers=0)
    model = job.model()
    optimizer = AdamP(model.parameters(), lr=3e-4, weight_decay=1e-5)
    return plain(loader, model, optimizer, focal, job.hardware.device)


def timm_(job: Job, place: Path) -> Turn:
    """Return a turn of timm's train.py with its defaults, over a folder of links."""
    from timm.data import create_dataset, create_loader, resolve_data_config
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

    torch.backends.cudnn.benchmark = True  # as train.py has it
    model = job.model()
    facts = resolve_data_config({"input_size": (3, *job.fold.image_size)}, model=model)
    dataset = create_dataset("", str(link_images(job, place)), "train", is_training=True, batch_size=job.cfg.batch)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # four workers may be more than the cores
    loader = create_loader(
        dataset, facts["input_size"], job.cfg.batch, is_training=True, num_workers=4, interpolation="random",
        mean=facts["mean"], std=facts["std"], device=job.hardware.device, use_prefetcher=True,
    )  # fmt: skip
    optimizer = create_optimizer_v2(model, "sgd", lr=0.01, weight_decay=2e-5, momentum=0.9)
    return plain(loader, model, optimizer, LabelSmoothingCrossEntropy(0.1), job.hardware.device)


def link_images(job: Job, place: Path) -> Path:
    """Return a new folder of links to the photos, a folder for each class."""
    for i, (path, label) in enumerate(zip(job.paths, job.labels, strict=True)):
        link = place / f"{label:02d}" / f"{i:06d}{Path(path).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(path).absolute())
    return place


def plain(loader: Iterable[Any], model: nn.Module, optimizer: Any, loss: Any, device: torch.device) -> Turn:
    """Return a turn of the loop that most scripts have: the loss is read after each step."""

    def turn() -> float:
        model.train()
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            value = loss(model(images.to(device)), labels.to(device))
            value.backward()
            optimizer.step()
            total += value.item()
        return total

    return turn


def maskcls(job: Job, place: Path) -> Turn:
    """Return a turn of this package's own loop."""
    state, work, batches, source = build_training(job)

    def turn() -> float:
        batches.epoch += 1
        losses, _ = train_one_epoch(job.cfg, state, work, source, len(batches), job.hardware)
        return float(losses.mean())

    return turn


def upper_bound(job: Job, place: Path) -> Turn:
    """Return a turn of forward, backward and step on one batch that lies on the device."""
    state, work, _, _ = build_training(job)
    device = job.hardware.device
    layout = torch.channels_last if job.hardware.channels_last else torch.contiguous_format
    images = torch.randn(job.cfg.batch, 3, *job.fold.image_size, device=device).contiguous(memory_format=layout)
    targets = work.targets[torch.from_numpy(job.fold.train_indices[: job.cfg.batch]).to(device)]

    def turn() -> None:
        set_train_mode(work.model)
        for _ in range(job.steps):
            with autocast(device, job.cfg.precision):
                logits = work.model(images)
            state.scaler.scale(work.criterion(logits, targets)).backward()
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad(set_to_none=True)

    return turn


RIVALS: dict[str, Callable[[Job, Path], Turn]] = {"team": team, "timm": timm_, "maskcls": maskcls, "limit": upper_bound}


def contender_worker(pipe: Connection, name: str, setting: Setting, words: Sequence[str]) -> None:
    """Take turns of one contender as they are asked for and tell their seconds; at the end tell its memory in MB."""
    from maskcls.benchmark.memory import peak_memory, worker_memory

    given = build_job(setting_config(setting, words), setting.steps)
    device = given.hardware.device
    with tempfile.TemporaryDirectory() as place:
        turn = RIVALS[name](given, Path(place))
        while pipe.recv() == "turn":
            begun = time.perf_counter()
            turn()
            synchronize(device)
            seconds = time.perf_counter() - begun
            held = worker_memory()
            gc.collect()  # in no one's time
            pipe.send(seconds)
        cuda = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
        pipe.send({"process": peak_memory(), "workers": held, "GPU": cuda})
