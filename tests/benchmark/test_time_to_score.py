"""Time to score: points, ratios and refused overrides; the command with real processes on drawn people."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskcls.benchmark.harness import check_time_overrides, without_paths
from maskcls.benchmark.time_to_score import (
    Curve,
    compare,
    keep_weights,
    list_weights,
    mean_over_folds,
    plot_curves,
    prepare,
    seconds_to_reach,
)
from maskcls.benchmark.timm_training import SETTINGS, TimmJob
from maskcls.components.data import competition
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError

RISING: Curve = [{"seconds": 10.0, "f1": 0.3}, {"seconds": 20.0, "f1": 0.6}, {"seconds": 30.0, "f1": 0.5}]


@pytest.mark.parametrize(("f1", "seconds"), [(0.0, 10.0), (0.3, 10.0), (0.31, 20.0), (0.6, 20.0), (0.61, None)])
def test_a_score_is_reached_at_the_first_point_that_has_it(f1: float, seconds: float | None) -> None:
    assert seconds_to_reach(RISING, f1) == seconds


def test_the_ratio_is_of_the_times_to_the_others_final_score() -> None:
    slow = [{"seconds": 10 * point["seconds"], "f1": point["f1"]} for point in RISING]
    other = {"curve": slow, **slow[-1]}
    assert compare({"curve": RISING}, other) == {"f1": 0.5, "seconds": 20.0, "other_seconds": 200.0, "ratio": 10.0}
    low = {"curve": [{"seconds": 1.0, "f1": 0.4}]}
    assert compare(low, other) == {"f1": 0.5, "seconds": None, "other_seconds": 200.0, "ratio": None}


def test_a_point_of_several_folds_is_the_mean_of_their_latest_predictions() -> None:
    ones = np.ones((2, 18))
    points = [(1.0, 0, 1 * ones), (2.0, 0, 2 * ones), (3.0, 1, 4 * ones), (4.0, 1, 6 * ones)]
    assert [(seconds, float(probs[0, 0])) for seconds, probs in mean_over_folds(points)] == [
        (1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (4.0, 4.0)
    ]  # fmt: skip


def test_weights_are_kept_with_their_time_after_the_run_removed_them(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    for time, (fold, epoch) in enumerate([(0, 1), (0, 2), (10, 1), (1, 1)]):
        path = tmp_path / "runs" / "t-1" / f"fold{fold}" / f"epoch{epoch}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{fold} {epoch}")
        os.utime(path, (time, time))
        for _ in range(2):
            keep_weights(tmp_path / "runs", kept)
        path.unlink()
    found = [(fold, file.read_text(), file.stat().st_mtime) for fold, file in list_weights(kept)]
    assert found == [(0, "0 1", 0.0), (0, "0 2", 1.0), (10, "10 1", 2.0), (1, "1 1", 3.0)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cache_dir=/tmp/c", "is not supported: new folders ensure that nothing is cached"),
        ("runs_dir=r", "is not supported: new folders ensure that nothing is cached"),
        ("fold=0", "is not a whole run. Use split=holdout for one fold"),
        ("model.init=a", "is not supported: all contenders start from the same weights"),
        ("extra=folder", "is not supported: all contenders train on the same images"),
        ("pseudo.run=a", "is not supported: all contenders train on the same images"),
    ],
)
def test_an_override_without_a_fair_time_is_an_error(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"benchmark: {override} {message}"):
        check_time_overrides([override])
    check_time_overrides(["best=strong", "fold=null", "extra=none", "seed=1"])


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    for name, setting in SETTINGS.items():
        job = TimmJob("resnet18", False, (32, 24), "images", "weights", 2, 1, "cpu", 18, setting)
        (tmp_path / f"{name}.json").write_text(json.dumps(job.to_dict()))
        read = TimmJob.read(tmp_path / f"{name}.json")
        assert json.dumps(read.to_dict()) == json.dumps(job.to_dict()) and read.setting.opt == setting.opt


@pytest.mark.slow
def test_the_command_measures_writes_and_draws(
    people: Path, command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    recipe = ["model=timm", "model.arch=test_efficientnet", "model.pretrained=false", "hardware=cpu"]
    size = ["crop.height=32", "crop.width=24", "epochs=2", "eval_fraction=0.3", "split.share=0.2"]
    given = [f"data.root={people}", "data=competition", "timm_epochs=2", "contenders=maskcls,timm,timm_tuned"]
    done = command("time-to-score", "out=t.json", *given, *recipe, *size, name="benchmark")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "t.json").read_text())
    assert (content["train_people"], content["eval_people"], content["train_images"]) == (10, 4, 70)
    assert list(content["contenders"]) == ["maskcls", "timm", "timm_tuned"]
    for name, result in content["contenders"].items():
        seconds = [point["seconds"] for point in result["curve"]]
        assert seconds == sorted(seconds) and min(seconds) > 0 and len(seconds) >= 2
        assert all(0 <= point["f1"] <= 1 for point in result["curve"])
        assert f"{result['f1']:.3f}" in done.stdout and name in done.stdout
    assert set(content["ratios"]) == {"timm", "timm_tuned"}
    assert (tmp_path / "t.png").read_bytes() == plot_curves(content)


SMALL = ["name=t", "model=timm", "model.arch=test_efficientnet", "model.pretrained=false", "hardware=cpu", "folds=2"]


def test_a_recipe_without_a_size_is_refused(people: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a fixed size, got crop=none"):
        prepare(tmp_path, [*SMALL, "data=competition", f"data.root={people}", "crop=none"], 1)


def test_data_without_labelled_evaluation_people_are_refused(people: Path, tmp_path: Path) -> None:
    rows = competition(lambda note: None, root=str(people), task=MASK18).query("part == 'train'")
    rows[["path", "label", "person"]].to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ConfigError, match="needs labelled evaluation people"):
        prepare(tmp_path, [*SMALL, "data=table", f"data.file={tmp_path}/t.csv"], 1)


def test_a_result_names_no_place_of_a_machine() -> None:
    words = ["best=fast", "data=competition", "data.root=/a/b", "extra.file=x.csv", "runs_dir=r", "cache_dir=c", "out=o.json"]
    assert without_paths(words) == ["best=fast", "data=competition"]
