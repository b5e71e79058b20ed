"""The loop: the losses of a plain one; a loss that is no number and memory that is too small stop it with a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from one_fold import begin_fold, trained
from torch.nn import functional

from maskcls.core.config import Config
from maskcls.core.errors import NonFiniteError, RunError
from maskcls.data.loader import EpochBatchSampler
from maskcls.engine.experiment import Fold
from maskcls.engine.train_state import TrainState, build_train_state
from maskcls.engine.training_loop import fit, seed_epoch
from maskcls.inference.forward import channel_stats, normalize
from maskcls.storage.run import Run

PLAIN = (
    "head=single",
    "augmentation=none",
    "optimizer=sgd",
    "optimizer.lr=0.01",
    "scheduler=constant",
    "epochs=3",
    "model.drop_rate=0.2",
)
Begun = Callable[..., tuple[Config, Fold, TrainState]]


@pytest.fixture
def begun(tiny: list[str]) -> Begun:
    """Return a function that builds the config, the first fold and its untrained state."""
    return lambda *words: begin_fold(*tiny, *PLAIN, *words)


def test_the_losses_are_those_of_a_plain_loop(begun: Begun) -> None:
    cfg, fold, state = begun()
    found = [row["loss"] for row in trained(cfg, fold, state)]
    model: Any = build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), fold.image_size, 0).model
    params = cfg.optimizer.params
    optimizer = torch.optim.SGD(model.parameters(), 0.01, params["momentum"], weight_decay=params["weight_decay"])
    mean, std = (torch.tensor(x).view(3, 1, 1) * 255 for x in (model.mean, model.std))
    order = EpochBatchSampler(
        fold.train_indices, cfg.sampler.build(fold.labels[fold.train_indices]), cfg.batch_size, cfg.seed, 0
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
        fold.train_indices, cfg.sampler.build(fold.labels[fold.train_indices]), cfg.batch_size, cfg.seed, 0
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
    [(True, 5, r"out of memory at batch_size=16 \(first step\). batch_size=4 fits: use batch_size=4 grad_accum_steps=4, or precision=bf16"),
     (True, 1, "batch_size=2 does not fit either: use a smaller crop or model, or precision=bf16 or hardware.resident=false"),
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


def values(state: TrainState) -> dict[str, torch.Tensor]:
    """Return all weights and statistics, copied."""
    return {name: value.clone() for name, value in state.model.state_dict().items()}


FREEZING = ("model.frozen=backbone", "freeze_epochs=1", "head_lr=0.02", "scheduler=cosine", "ema=0.9")


def test_frozen_layers_are_trained_from_their_epoch_on(begun: Begun) -> None:
    cfg, fold, state = begun(*FREEZING)
    snapshots = [values(state)]
    for _ in fit(cfg, state, fold, cfg.head.build(), cfg.hardware.build(), lambda batches: batches):
        snapshots.append(values(state))
    first, second = ({name for name in a if not torch.equal(a[name], b[name])}
                     for a, b in itertools.pairwise(snapshots[:3]))  # fmt: skip
    assert first == {"classifier.weight", "classifier.bias"}, "statistics of frozen layers stay, too"
    assert second >= {"conv_stem.weight", "bn1.running_mean", "bn2.weight", "classifier.weight"}


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("words", [(), ("layer_decay=0.8", "optimizer=adamp", "grad_accum_steps=2")])
def test_resumed_before_at_or_after_the_unfreezing_it_is_equal_to_the_bit(
    epoch: int, words: tuple[str, ...], begun: Begun, tmp_path: Path
) -> None:
    cfg, fold, state = begun(*FREEZING, "freeze_epochs=2", "epochs=4", *words)
    head, hardware = cfg.head.build(), cfg.hardware.build()
    for row in fit(cfg, state, fold, head, hardware, lambda batches: batches):
        if row["epoch"] == epoch:
            state.save(tmp_path / "last.pt")
    resumed = build_train_state(cfg, head, hardware, fold.image_size, 0)
    resumed.load(tmp_path / "last.pt")
    rows = trained(cfg, fold, resumed)
    assert [row["epoch"] for row in rows] == [*range(epoch + 1, 5)] and resumed.history == state.history
    for one, other in ((state.model, resumed.model), (state.eval_model, resumed.eval_model)):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def test_a_state_that_is_loaded_is_unfrozen_if_its_epochs_are_over(begun: Begun, tmp_path: Path) -> None:
    for epochs, is_frozen in ((1, True), (2, False), (3, False)):
        _, _, state = begun(*FREEZING, "freeze_epochs=2", "epochs=4")
        state.history += [0.1] * epochs
        state.save(tmp_path / "last.pt")
        _, _, resumed = begun(*FREEZING, "freeze_epochs=2", "epochs=4")
        resumed.load(tmp_path / "last.pt")
        for model in (resumed.model, resumed.eval_model):  # the moving average, too: else its statistics are kept
            assert any(not p.requires_grad for p in model.parameters()) == is_frozen


def test_gradient_checkpointing_trains_the_same_model_under_the_same_name(begun: Begun) -> None:
    found = []
    for word in ("false", "true"):
        cfg, fold, state = begun(f"model.grad_checkpointing={word}", "model.drop_path_rate=0.2", "epochs=2")
        rows = trained(cfg, fold, state)
        found.append((Run.of(cfg).id, [row["loss"] for row in rows], values(state)))
    (one, losses, weights), (other, other_losses, other_weights) = found
    assert one == other and losses == other_losses
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
