"""Benchmark: equal work for all contenders, ratios within rounds, and the command's tables and JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from maskcls.benchmark.baselines import CONTENDERS, ImageFileDataset, link_images
from maskcls.benchmark.harness import (
    Job,
    Setting,
    build_job,
    check_labels,
    check_overrides,
    ratios,
    setting_config,
    time_rounds,
)
from maskcls.benchmark.profiling import PARTS, profile_evaluation, profile_step, time_jobs
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, DataError

SETTING = "timm:32x24:4:2"
OVERRIDES = ["model.arch=test_efficientnet", "hardware=cpu", "data=competition"]


@pytest.fixture
def overrides(people: Path, tmp_path: Path) -> list[str]:
    return [*OVERRIDES, f"data.root={people}", f"cache_dir={tmp_path}/cache", f"runs_dir={tmp_path}/runs"]


@pytest.fixture
def job(overrides: list[str]) -> Job:
    return build_job(setting_config(Setting.parse(SETTING), overrides), 2)


def test_ratios_are_of_rates_within_a_round() -> None:
    rounds = [{"maskcls": 10.0, "team": 5.0}, {"maskcls": 40.0, "team": 10.0}, {"maskcls": 9.0, "team": 3.0}]
    assert ratios(rounds, "maskcls", "team") == {"median": 3.0, "low": 2.5, "high": 3.5}


def test_each_contender_runs_once_per_round_in_a_new_random_order() -> None:
    order: list[str] = []
    seconds = {"a": 1.0, "b": 2.0, "c": 4.0}
    contenders = {name: lambda name=name: order.append(name) or seconds[name] for name in "abc"}
    rounds = time_rounds(contenders, 20, 8)
    assert order[:3] == list("abc"), "an untimed round comes first"
    orders = {"".join(order[i : i + 3]) for i in range(3, 63, 3)}
    assert len(order) == 63 and len(orders) >= 5 and all(set(row) == set("abc") for row in orders)
    assert rounds == [{"a": 8.0, "b": 4.0, "c": 2.0}] * 20


@pytest.mark.parametrize(
    "override,message",
    [
        ("batch_size=64", "conflicts with settings=. Set it in settings="),
        ("model=resnet18", "conflicts with settings=. Set it in settings="),
        ("crop.width=64", "conflicts with settings=. Set it in settings="),
        ("crop=face", "is not supported: the other training loops do not apply it"),
        ("ema=0.9", "is not supported: the other training loops do not apply it"),
    ],
)
def test_an_override_that_makes_the_work_unequal_is_an_error(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_overrides([override])
    assert error.value.messages == (f"benchmark: {override} {message}",)


@pytest.mark.parametrize("text", ["resnet18", "resnet18:200:32:8", "resnet18:200x100:0:8", "resnet18:axb:1:1"])
def test_a_wrong_setting_is_an_error_message(text: str) -> None:
    with pytest.raises(ConfigError, match=f"settings: expected model:HEIGHTxWIDTH:batch:steps, got '{text}'. Example"):
        Setting.parse(text)


@pytest.mark.parametrize("name", list(CONTENDERS))
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_an_epoch_of_each_contender_takes_all_steps_and_trains(name: str, job: Job, tmp_path: Path) -> None:
    steps: list[torch.optim.Optimizer] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    train_epoch = CONTENDERS[name](job, tmp_path / "links")
    try:
        train_epoch()
        weights = [p.detach().clone() for p in steps[0].param_groups[0]["params"]]
        train_epoch()
    finally:
        hook.remove()
    assert len(steps) == 4 and len({id(optimizer) for optimizer in steps}) == 1
    assert any(not torch.equal(a, b) for a, b in zip(weights, steps[0].param_groups[0]["params"], strict=True))


def test_all_contenders_see_the_same_images(job: Job, tmp_path: Path) -> None:
    links = {file.resolve() for file in link_images(job.paths, job.labels, tmp_path / "links").rglob("*.*")}
    assert links == {Path(path).resolve() for path in job.paths} and len(job.paths) == 8
    images, labels = next(iter(torch.utils.data.DataLoader(ImageFileDataset(job), batch_size=8)))
    assert images.shape == (8, 3, 32, 24) and labels.tolist() == job.fold.labels[job.fold.train_indices].tolist()


def test_images_without_the_label_of_an_attribute_are_refused() -> None:
    whole = pd.DataFrame({"id": list("abc"), "label": [0, 1, 2]})
    check_labels(whole)
    check_labels(whole.assign(partial=False))
    with pytest.raises(DataError, match=r"^benchmark: 2 images lack the label of an attribute"):
        check_labels(whole.assign(partial=[True, False, True]))


@pytest.mark.parametrize("package", [False, True])
def test_the_parts_of_a_step_are_all_there(job: Job, package: bool) -> None:
    parts = profile_step(job, package)
    assert list(parts) == list(PARTS) and all(ms > 0 for ms in parts.values())


def test_evaluation_is_timed(job: Job) -> None:
    times = profile_evaluation(job)
    assert set(times) == {"images_per_second", "metrics_ms"} and min(times.values()) > 0


def test_the_second_job_of_a_sweep_decodes_nothing(overrides: list[str]) -> None:
    shared = [override for override in overrides if not override.startswith(("cache_dir", "runs_dir"))]
    first, later = time_jobs(Setting.parse(SETTING), shared, 1)
    assert list(first) == list(later) and later["load_pixels"] < first["load_pixels"] and later["whole"] < 2
    assert later["whole"] == pytest.approx(sum(value for name, value in later.items() if name != "whole"))


def test_a_larger_set_is_copied_with_other_bytes_and_the_same_pictures(tmp_path: Path) -> None:
    from maskcls.benchmark.scaling import enlarge_dataset
    from maskcls.components.data import competition
    from maskcls.data.pixel_cache import load_pixels

    count = enlarge_dataset(tmp_path / "set", 15, 1, str(tmp_path / "data"))
    table = competition(lambda note: None, root=str(tmp_path / "set"), task=MASK18)
    assert count == len(table) == 21 and table["person"].nunique() == 3
    assert len({Path(path).read_bytes() for path in table["path"]}) == 21
    crop = validate(compose("name=t", "crop=resize", "crop.height=8", "crop.width=6")).crop
    pixels = load_pixels(table, crop, tmp_path / "cache").reshape(3, 7, 8, 6, 3)
    assert np.array_equal(pixels[0], pixels[1]) and np.array_equal(pixels[0], pixels[2])


@pytest.mark.slow
def test_the_command_writes_what_it_shows(
    overrides: list[str], command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    shared = [override for override in overrides if not override.startswith(("cache_dir", "runs_dir"))]
    done = command(f"settings={SETTING}", "rounds=2", "out=b.json", *shared, name="benchmark")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text())
    (result,) = content["settings"]
    assert content["machine"]["threads"] == 1 and content["machine"]["cpu"] in done.stdout
    for name, ratio in result["ratios"].items():
        assert ratio == ratios(result["rounds"], "maskcls", name)
        assert f"{ratio['median']:.2f} ({ratio['low']:.2f}" in done.stdout
    assert set(result["memory_mb"]) == set(CONTENDERS) and result["memory_mb"]["timm"]["workers"] > 10
    assert result["memory_mb"]["team"]["workers"] == 0
    assert set(result["step_ms"]) == {"adamp", "adamp package"} and set(result["first_batch_s"]) == {"cold", "warm"}


@pytest.mark.slow
def test_the_command_measures_growth(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = command("kind=scale", "images=21,42", "num_people=3", "settings=timm:24x24:4:1", "out=s.json",
                   "model.arch=test_efficientnet", "hardware=cpu", "folds=2", name="benchmark")  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = json.loads((tmp_path / "s.json").read_text())["sizes"]
    assert [row["photos"] for row in sizes] == [21, 42] and "42 images" in done.stdout
    assert all(row["peak_rss_mb"] > 50 and row["training_s"] > 0 for row in sizes)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["kind=sacle"], "kind: unknown value 'sacle', did you mean 'scale'?"),
        (["rounds=0"], "rounds must be at least 1, got 0"),
        (["kind=scale", "images=1k"], "images: expected int, got '1k'"),
        (["kind=scale", "images=0"], "images must be at least 1, got 0"),
        (["kind=scale", "num_people=0"], "num_people must be at least 1, got 0"),
    ],
)
def test_a_wrong_command_line_is_an_error_message(
    arguments: list[str], message: str, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = command(*arguments, name="benchmark")
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
