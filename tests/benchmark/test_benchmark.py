"""The bench: equal work for all contenders, ratios within rounds, and the real command's table and JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from maskcls.benchmark.baselines import RIVALS, Decoded, link_images
from maskcls.benchmark.harness import Job, Setting, build_job, check_overrides, ratios, setting_config, time_rounds
from maskcls.benchmark.profiling import PARTS, evaluation, profile_step, start
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import ConfigError

SETTING = "timm:32x24:4:2"
WORDS = ["model.arch=test_efficientnet", "hardware=cpu", "data=competition"]


@pytest.fixture
def words(people: Path, tmp_path: Path) -> list[str]:
    return [*WORDS, f"data.root={people}", f"cache_dir={tmp_path}/cache", f"runs_dir={tmp_path}/runs"]


@pytest.fixture
def job(words: list[str]) -> Job:
    return build_job(setting_config(Setting.of(SETTING), words), 2)


def test_ratios_are_of_rates_within_a_round() -> None:
    rounds = [{"maskcls": 10.0, "team": 5.0}, {"maskcls": 40.0, "team": 10.0}, {"maskcls": 9.0, "team": 3.0}]
    assert ratios(rounds, "maskcls", "team") == {"median": 3.0, "low": 2.5, "high": 3.5}


def test_each_contender_has_a_turn_in_each_round_in_an_order_drawn_anew() -> None:
    order: list[str] = []
    seconds = {"a": 1.0, "b": 2.0, "c": 4.0}
    turns = {name: lambda name=name: order.append(name) or seconds[name] for name in "abc"}
    rounds = time_rounds(turns, 20, 8)
    assert order[:3] == list("abc"), "an untimed round first"
    each = {"".join(order[i : i + 3]) for i in range(3, 63, 3)}
    assert len(order) == 63 and len(each) >= 5 and all(set(row) == set("abc") for row in each)
    assert rounds == [{"a": 8.0, "b": 4.0, "c": 2.0}] * 20


@pytest.mark.parametrize("word", ["batch=64", "model=resnet18", "crop=face", "ema=0.9"])
def test_a_word_that_is_not_the_same_work_for_all_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=f"bench: {word} is told by --settings"):
        check_overrides([word])


@pytest.mark.parametrize("text", ["resnet18", "resnet18:200:32:8", "resnet18:200x100:0:8", "resnet18:axb:1:1"])
def test_a_wrong_setting_is_a_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--settings: '{text}' is no model:HEIGHTxWIDTH:batch:steps"):
        Setting.of(text)


@pytest.mark.parametrize("name", list(RIVALS))
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_turn_of_each_contender_takes_all_steps_and_trains(name: str, job: Job, tmp_path: Path) -> None:
    steps: list[torch.optim.Optimizer] = []
    hook = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(optimizer))
    turn = RIVALS[name](job, tmp_path / "links")
    try:
        turn()
        moved = [p.detach().clone() for p in steps[0].param_groups[0]["params"]]
        turn()
    finally:
        hook.remove()
    assert len(steps) == 4 and len({id(optimizer) for optimizer in steps}) == 1
    assert any(not torch.equal(a, b) for a, b in zip(moved, steps[0].param_groups[0]["params"], strict=True))


def test_all_contenders_see_the_same_photos(job: Job, tmp_path: Path) -> None:
    links = {file.resolve() for file in link_images(job, tmp_path / "links").rglob("*.*")}
    assert links == {Path(path).resolve() for path in job.paths} and len(job.paths) == 8
    images, labels = next(iter(torch.utils.data.DataLoader(Decoded(job), batch_size=8)))
    assert images.shape == (8, 3, 32, 24) and labels.tolist() == job.fold.labels[job.fold.train_indices].tolist()


@pytest.mark.parametrize("package", [False, True])
def test_the_parts_of_a_step_are_all_there(job: Job, package: bool) -> None:
    parts = profile_step(job, package)
    assert list(parts) == list(PARTS) and all(ms > 0 for ms in parts.values())


def test_the_end_of_an_epoch_is_timed(job: Job) -> None:
    found = evaluation(job)
    assert set(found) == {"images_per_second", "metrics_ms"} and min(found.values()) > 0


def test_the_second_job_of_a_sweep_decodes_nothing(words: list[str]) -> None:
    own = [word for word in words if not word.startswith(("cache_dir", "runs_dir"))]
    first, later = start(Setting.of(SETTING), own, 1)
    assert list(first) == list(later) and later["load_pixels"] < first["load_pixels"] and later["whole"] < 2
    assert later["whole"] == pytest.approx(sum(value for name, value in later.items() if name != "whole"))


def test_a_larger_set_is_copied_with_other_bytes_and_the_same_pictures(tmp_path: Path) -> None:
    from maskcls.benchmark.scaling import enlarge_dataset
    from maskcls.components.data import competition
    from maskcls.data.pixel_cache import load_pixels

    count = enlarge_dataset(tmp_path / "set", 15, 1, str(tmp_path / "data"))
    table = competition(lambda note: None, root=str(tmp_path / "set"))
    assert count == len(table) == 21 and table["person"].nunique() == 3
    assert len({Path(path).read_bytes() for path in table["path"]}) == 21
    cut = validate(compose("name=t", "crop=resize", "crop.height=8", "crop.width=6")).crop
    photos = load_pixels(table, cut, tmp_path / "cache").reshape(3, 7, 8, 6, 3)
    assert np.array_equal(photos[0], photos[1]) and np.array_equal(photos[0], photos[2])


@pytest.mark.slow
def test_the_command_writes_what_it_shows(
    words: list[str], command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    own = [word for word in words if not word.startswith(("cache_dir", "runs_dir"))]
    done = command(f"settings={SETTING}", "rounds=2", "out=b.json", *own, name="benchmark")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text())
    (result,) = content["settings"]
    assert content["machine"]["threads"] == 1 and content["machine"]["cpu"] in done.stdout
    for name, ratio in result["ratios"].items():
        assert ratio == ratios(result["rounds"], "maskcls", name)
        assert f"{ratio['median']:.2f} ({ratio['low']:.2f}" in done.stdout
    assert set(result["memory_mb"]) == set(RIVALS) and result["memory_mb"]["timm"]["workers"] > 10
    assert result["memory_mb"]["team"]["workers"] == 0
    assert set(result["step_ms"]) == {"adamp", "adamp package"} and set(result["first_batch_s"]) == {"cold", "warm"}


@pytest.mark.slow
def test_the_command_measures_growth(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = command("kind=scale", "images=21,42", "num_people=3", "settings=timm:24x24:4:1", "out=s.json",
                   "model.arch=test_efficientnet", "hardware=cpu", "folds=2", name="benchmark")  # fmt: skip
    assert done.returncode == 0, done.stderr
    sizes = json.loads((tmp_path / "s.json").read_text())["sizes"]
    assert [row["photos"] for row in sizes] == [21, 42] and "42 photos" in done.stdout
    assert all(row["peak_rss_mb"] > 50 and row["training_s"] > 0 for row in sizes)


@pytest.mark.parametrize(
    "words,sentence",
    [
        (["kind=sacle"], "kind: unknown value 'sacle', did you mean 'scale'?"),
        (["rounds=0"], "rounds must be at least 1, got 0"),
        (["kind=scale", "images=1k"], "images: expected int, got '1k'"),
        (["kind=scale", "images=0"], "images must be at least 1, got 0"),
        (["kind=scale", "num_people=0"], "num_people must be at least 1, got 0"),
    ],
)
def test_a_wrong_call_is_a_sentence(
    words: list[str], sentence: str, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = command(*words, name="benchmark")
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr
