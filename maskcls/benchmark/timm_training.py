"""Contender of the time to score: a training like that of timm's train.py, from timm's building blocks, as a process.

timm's package does not contain its script train.py. This is the script's sequence for one device with the script's
defaults, or with a tuned setting; it validates nothing and only writes the weights of each epoch.

python -m maskcls.benchmark.timm_training job.json
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from maskcls.components.model import create_network
from maskcls.core.task import FloatArray
from maskcls.storage.pretrained import load_pretrained, resolve_weights


@dataclass(frozen=True)
class TimmSetting:
    """Options of train.py that differ between its defaults, which are the values here, and a tuned setting."""

    opt: str = "sgd"
    lr: float = 0.05  # lr_base 0.1 · batch size / 256
    weight_decay: float = 2e-5
    batch_size: int = 128
    warmup_epochs: int = 5
    scale: tuple[float, float] = (0.08, 1.0)  # area of the random crop
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # aspect ratio of the random crop


SETTINGS = {
    "timm": TimmSetting(),
    "timm_tuned": TimmSetting("adamw", 5e-4, 0.05, 32, 0, (0.5, 1.0), (0.9, 1.1)),
}


@dataclass(frozen=True)
class TimmJob:
    """A training: network, images by class, and the folder that receives the weights."""

    arch: str
    pretrained: bool | str  # true: the hub's; false; or a source of weights
    image_size: tuple[int, int]
    images: str  # folder with a folder of images for each class
    weights: str  # folder
    epochs: int
    seed: int
    device: str
    num_classes: int
    setting: TimmSetting

    @classmethod
    def read(cls, path: Path) -> TimmJob:
        """Return the job of a JSON file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**content | {"setting": TimmSetting(**content["setting"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON-like values."""
        return asdict(self)

    def build_model(self) -> nn.Module:
        """Return the network with pretrained weights and a classifier as timm initializes it."""
        model = create_network(self.arch, self.pretrained is True, self.num_classes)
        if isinstance(self.pretrained, str):
            load_pretrained(model, resolve_weights(self.pretrained), self.arch)
        return model.to(self.device)

    def load_model(self, weights: Path) -> nn.Module:
        """Return the network with the weights of a file."""
        model = create_network(self.arch, False, self.num_classes)
        model.load_state_dict(torch.load(weights, weights_only=True))
        return model.to(self.device).eval()

    def weights_path(self, epoch: int) -> Path:
        """Return the file of the weights after an epoch."""
        return Path(self.weights) / f"epoch{epoch}.pt"


def build_loader(job: TimmJob, model: nn.Module, folder: str, is_training: bool) -> Any:
    """Return timm's loader of a folder, for training or as in validation."""
    from timm.data import create_dataset, create_loader, resolve_data_config

    data = resolve_data_config({"input_size": (3, *job.image_size)}, model=model)
    classes: Any = {f"{label:02d}": label for label in range(job.num_classes)}  # training may lack a class
    dataset = create_dataset("", folder, search_split=False, is_training=is_training, class_map=classes)
    crop = {"scale": job.setting.scale, "ratio": job.setting.ratio} if is_training else {"crop_pct": data["crop_pct"]}
    warnings.filterwarnings("ignore", "This DataLoader will create")  # there may be fewer than four cores
    return create_loader(
        dataset, data["input_size"], min(job.setting.batch_size, len(dataset)), is_training=is_training,
        interpolation="random" if is_training else data["interpolation"], mean=data["mean"], std=data["std"],
        num_workers=4, device=torch.device(job.device), **crop,
    )  # fmt: skip


def train(job: TimmJob) -> None:
    """Train all epochs; write the weights after each."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import random_seed

    random_seed(job.seed, 0)
    torch.backends.cudnn.benchmark = True
    model, setting = job.build_model(), job.setting
    optimizer = create_optimizer_v2(
        model, setting.opt, lr=setting.lr, weight_decay=setting.weight_decay, momentum=0.9
    )
    loader, criterion = build_loader(job, model, job.images, True), LabelSmoothingCrossEntropy(0.1)
    schedule: Any = create_scheduler_v2(
        optimizer, num_epochs=job.epochs, warmup_epochs=setting.warmup_epochs, updates_per_epoch=len(loader)
    )[0]
    for epoch in range(job.epochs):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
        torch.save(model.state_dict(), job.weights_path(epoch + 1))
        schedule.step(epoch + 1)


@torch.inference_mode()
def predict(job: TimmJob, weights: Path, folder: str) -> tuple[list[str], FloatArray]:
    """Return the file names of a folder's images and their probabilities (N, C), with timm's preprocessing."""
    model = job.load_model(weights)
    loader = build_loader(job, model, folder, False)
    probs = [model(images).softmax(1).cpu().numpy() for images, _ in loader]
    return loader.dataset.filenames(basename=True), np.concatenate(probs)


def main(arguments: Sequence[str]) -> None:
    """Train the job of a JSON file."""
    train(TimmJob.read(Path(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
