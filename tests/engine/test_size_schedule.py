"""Progressive resizing: each epoch trains in its own size, alone or resumed; everything else keeps the full size."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import environment
from hypothesis import given, settings
from hypothesis import strategies as some
from one_fold import begin_fold, trained
from PIL import Image

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.engine.conclusion import conclude
from maskcls.engine.experiment import Fold
from maskcls.engine.runner import run
from maskcls.engine.sanity_check import dry_run
from maskcls.engine.size_schedule import epoch_scale, resize_batch, scaled_size
from maskcls.engine.train_state import TrainState
from maskcls.engine.training_loop import fit, update_bn
from maskcls.inference.forward import channel_stats, normalize
from maskcls.storage.run import Run

CPU = torch.device("cpu")
SCHEDULE = ("size_schedule=[0.5,0.75,1.0]", "epochs=3", "batch_size=8")
TIMING = {"seconds", "images_per_second"}
Begun = Callable[..., tuple[Config, Fold, TrainState]]


@pytest.fixture
def begun(tiny: list[str]) -> Begun:
    """Return a function that builds the config, the first fold and its untrained state."""
    return lambda *words: begin_fold(*tiny, *SCHEDULE, *words)


def without_timing(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the numbers of epochs that do not depend on the machine's speed."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


@pytest.fixture(scope="module")
def default() -> Config:
    """Return the default config."""
    return validate(compose("name=t", "model.pretrained=false"))


@settings(deadline=None)
@given(epochs=some.integers(1, 40), count=some.integers(1, 40))
def test_the_epochs_are_spread_evenly_over_the_sizes(epochs: int, count: int, default: Config) -> None:
    count = min(count, epochs)
    schedule = [(i + 1) / count for i in range(count)]
    cfg = dataclasses.replace(default, epochs=epochs, size_schedule=schedule)
    scales = [epoch_scale(cfg, epoch) for epoch in range(epochs)]
    times = [scales.count(scale) for scale in schedule]
    assert scales == sorted(scales) and set(scales) == set(schedule)
    assert max(times) - min(times) <= 1 and times[-1] == max(times)


@pytest.mark.parametrize("size", [(16, 12), (31, 7), (1, 1), (40, 24), (32, 23)])
def test_a_batch_is_resized_as_pillow_resizes_each_image(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (3, 40, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = resize_batch(images, size, CPU)
    expected = [np.asarray(Image.fromarray(image.numpy()).resize(size[::-1], Image.Resampling.BILINEAR)) for image in images]
    assert found.shape == (3, *size, 3) and found.is_contiguous()
    assert np.abs(found.numpy().astype(int) - np.stack(expected).astype(int)).max() <= 1
    assert (found is images) == (size == (40, 24))


def test_a_device_without_a_kernel_for_bytes_gets_the_same_numbers_unrounded() -> None:
    images = torch.randint(0, 256, (3, 40, 24, 3), dtype=torch.uint8)
    bytes_ = resize_batch(images, (20, 12), CPU)
    planes = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2).float(), (20, 12), mode="bilinear", antialias=True)
    net: Any = torch.nn.Identity()
    net.mean, net.std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    one, other = (normalize(x, channel_stats(net, CPU)) for x in (bytes_, planes.permute(0, 2, 3, 1).contiguous()))
    assert (one - other).abs().max() < 1.1 / 255 / 0.224
    assert one.is_contiguous(memory_format=torch.channels_last) and other.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("words", [(), ("hardware.resident=true", "augmentation=none"), ("mixing=cutmix", "grad_accum_steps=2", "precision=bf16")])
def test_each_epoch_trains_in_its_size_and_validates_in_the_full_one(words: tuple[str, ...], begun: Begun) -> None:
    cfg, fold, state = begun("train_score=true", *words)
    seen: list[tuple[bool, tuple[int, ...]]] = []
    state.model.register_forward_pre_hook(lambda model, given: seen.append((model.training, tuple(given[0].shape[2:]))))
    rows = trained(cfg, fold, state)
    assert list(dict.fromkeys(seen)) == [(True, (16, 12)), (False, (32, 24)), (True, (24, 18)), (True, (32, 24))]
    assert [row["image_scale"] for row in rows] == [0.5, 0.75, 1.0]


@pytest.mark.parametrize(("schedule", "size"), [("[0.5,1.0]", (32, 24)), ("[1.0,0.5]", (16, 12)), ("null", (32, 24))])
def test_statistics_of_averaged_weights_are_of_the_last_size(schedule: str, size: tuple[int, int], begun: Begun) -> None:
    cfg, fold, state = begun(f"size_schedule={schedule}", "average_epochs=2")
    seen: set[tuple[int, ...]] = set()
    state.model.register_forward_pre_hook(lambda model, given: seen.add(tuple(given[0].shape[2:])))
    update_bn(cfg, state.model, fold, cfg.hardware.build())
    assert seen == {size}


def test_a_schedule_of_full_size_changes_no_number(begun: Begun) -> None:
    one, other = (trained(*begun(f"size_schedule={schedule}", "epochs=2")) for schedule in ("null", "[1,1.0]"))
    assert "image_scale" not in one[0] and other[0]["image_scale"] == 1.0
    assert without_timing(one) == [{k: v for k, v in row.items() if k != "image_scale"} for row in without_timing(other)]


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("words", [("ema=0.9",), ("mixing=mixup", "grad_accum_steps=2", "optimizer=adamp", "augmentation=heavy")])
def test_a_resumed_epoch_takes_its_own_size_equal_to_the_bit(
    epoch: int, words: tuple[str, ...], begun: Begun, tmp_path: Path
) -> None:
    cfg, fold, state = begun(*words)
    rows = []
    for row in fit(cfg, state, fold, cfg.head.build(), cfg.hardware.build(), lambda batches: batches):
        rows.append(row)
        if row["epoch"] == epoch:
            state.save(tmp_path / "last.pt")
    _, _, resumed = begun(*words)
    resumed.load(tmp_path / "last.pt")
    assert without_timing(trained(cfg, fold, resumed)) == without_timing(rows[epoch:])
    for one, two in ((state.model, resumed.model), (state.eval_model, resumed.eval_model)):
        assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.slow
def test_a_run_killed_after_each_epoch_ends_in_the_same_bytes(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, *SCHEDULE, "fold=0", "average_epochs=2", "select=last"]
    run(compose(*words, f"runs_dir={tmp_path}/whole"))
    for epoch in (1, 2):
        child = subprocess.Popen([sys.executable, "-m", "maskcls.run", *words], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        while len([*tmp_path.glob(f"runs/*/fold0/epoch{epoch}.pt")]) == 0 and child.poll() is None:
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it was over before it could be killed"
    run(compose(*words))
    whole, killed = (Run.of(validate(compose(*words, f"runs_dir={tmp_path}/{name}"))) for name in ("whole", "runs"))
    assert whole.fold_predictions_path(0).read_bytes() == killed.fold_predictions_path(0).read_bytes()
    assert without_timing(whole.history()) == without_timing(killed.history()) and len(whole.history()) == 3


@pytest.mark.slow
def test_ranks_train_in_the_size_of_the_epoch(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, *SCHEDULE, "fold=0"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "maskcls.run"]
    done = subprocess.run([*launcher, *words], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = Run.of(validate(compose(*words)))
    assert [row["image_scale"] for row in found.history()] == [0.5, 0.75, 1.0]
    assert found.fold_is_done(0)


@pytest.mark.slow
def test_a_longer_run_continues_a_shorter_one_of_the_same_sizes_alone(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*tiny, "fold=0", "folds=2", "split=holdout", "scheduler=constant"]
    for schedule, message in (("[0.5]", "continuing"), ("[0.5,1.0]", "size_schedule depends on the number of epochs")):
        run(compose(*words, f"size_schedule={schedule}", "epochs=2"))
        capsys.readouterr()
        run(compose(*words, f"size_schedule={schedule}", "epochs=4"))
        assert message in capsys.readouterr().out


def test_a_schedule_that_ends_small_is_noted_and_what_is_built_is_checked_in_every_size() -> None:
    words = ["name=t", "epochs=2", "model=timm", "model.arch=vgg11", "model.pretrained=false", "hardware=cpu"]
    assert not validate(compose(*words, "size_schedule=[0.5,1]")).notes
    cfg = validate(compose(*words, "size_schedule=[1,0.1]"))
    assert cfg.notes == ["size_schedule ends at 0.1; validation and predictions use the full size"]
    with pytest.raises(ConfigError, match=r"size_schedule=0\.1: model=timm failed on 8 × 6 images"):
        dry_run(cfg, cfg.hardware.build())
    assert scaled_size((80, 60), 0.001) == (1, 1)


@pytest.mark.slow
def test_a_stopped_run_of_an_earlier_version_is_concluded(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "fold=0", "split=holdout", "epochs=1"]
    run(compose(*words))
    one = Run.of(validate(compose(*words)))
    for path in (one.metrics_path, one.fold_predictions_path(0)):
        path.unlink()
    lines = one.config_path.read_text().splitlines()
    one.config_path.write_text("\n".join(line for line in lines if not line.startswith("size_schedule")) + "\n")
    assert 0 <= conclude(one.id, f"{tmp_path}/runs", []) <= 1
