"""The loop: the losses of a plain one; a loss that is no number and memory that is too small stop it with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import NonFiniteError, RunError
from maskcls.data.assemble import assemble_table
from maskcls.data.loader import EpochBatchSampler
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import fit, seed_epoch
from maskcls.inference.forward import channel_stats, normalize

PLAIN = (
    "head=single",
    "augmentation=none",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "scheduler=constant",
    "epochs=3",
    "model.drop=0.2",
)
Begun = Callable[..., tuple[Config, Fold, TrainState]]


@pytest.fixture
def begun(tiny: list[str]) -> Begun:
    """Return a function that builds the config, the first fold and its untrained state."""

    def begin(*words: str) -> tuple[Config, Fold, TrainState]:
        cfg = validate(compose(*tiny, *PLAIN, *words))
        table = assemble_table(cfg, lambda note: None)
        fold = Fold.of(table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)), 0, cfg.hardware.build())
        return cfg, fold, build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), fold.image_size, 0)

    return begin


def trained(cfg: Config, fold: Fold, state: TrainState) -> list[dict[str, Any]]:
    """Return the numbers of each epoch."""
    return list(fit(cfg, state, fold, cfg.head.build(), cfg.hardware.build(), lambda batches: batches))


def test_the_losses_are_those_of_a_plain_loop(begun: Begun) -> None:
    cfg, fold, state = begun()
    found = [row["loss"] for row in trained(cfg, fold, state)]
    model: Any = build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), fold.image_size, 0).model
    params = cfg.optimizer.params
    optimizer = torch.optim.SGD(model.parameters(), 0.01, params["momentum"], weight_decay=params["weight_decay"])
    mean, std = (torch.tensor(x).view(3, 1, 1) * 255 for x in (model.mean, model.std))
    order = EpochBatchSampler(
        fold.train_indices, cfg.sampler.build(fold.labels[fold.train_indices]), cfg.batch, cfg.seed, 0
    )
    for order.epoch in range(3):
        model.train()
        seed_epoch(cfg.seed, 0, order.epoch)
        losses = []
        for items in order:
            chosen = [row for row, _ in items]
            photos = torch.from_numpy(fold.pixels[chosen]).permute(0, 3, 1, 2).float()
            loss = functional.cross_entropy(model((photos - mean) / std), torch.from_numpy(fold.labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert found[order.epoch] == pytest.approx(sum(losses) / len(losses), abs=1e-6)


def test_lines_are_normalised_as_pixels_are_to_the_bit() -> None:
    net: Any = torch.nn.Identity()
    net.mean, net.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.randint(0, 256, (3, 9, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) * 255 for x in (net.mean, net.std))
    found = normalize(images, channel_stats(net, torch.device("cpu")))
    assert torch.equal(found, (images.permute(0, 3, 1, 2).float() - mean) / std)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_a_loss_that_is_no_number_names_its_step_rate_and_photos(begun: Begun) -> None:
    cfg, fold, state = begun()
    order = EpochBatchSampler(
        fold.train_indices, cfg.sampler.build(fold.labels[fold.train_indices]), cfg.batch, cfg.seed, 0
    )
    row = list(order)[1][0][0]  # the first photo of the second batch
    fold.targets[row] = float("nan")
    with pytest.raises(NonFiniteError) as caught:
        trained(cfg, fold, state)
    for part in ("fold 0, epoch 1: non-finite loss", f"step 2/{len(order)}", "lr 0.01", fold.image_ids[row]):
        assert part in str(caught.value)
    assert state.epoch == 0


@pytest.mark.parametrize(
    ("training", "most", "advice"),
    [(True, 5, r"out of memory at batch=16 \(first step\). batch=4 fits: use batch=4 accumulate=4, or precision=bf16"),
     (True, 1, "batch=2 does not fit either: use a smaller crop or model, or precision=bf16 or hardware.resident=false"),
     (False, 5, "Try hardware.eval_batch=16")],
)  # fmt: skip
def test_too_little_memory_says_what_to_try(
    begun: Begun, training: bool, most: int, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg, fold, state = begun(f"hardware.resident={most == 1}")
    forward = state.model.forward

    def full(images: torch.Tensor) -> torch.Tensor:
        if state.model.training == training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(images)

    monkeypatch.setattr(state.model, "forward", full)
    with pytest.raises(RunError, match=advice):
        trained(cfg, fold, state)
