"""The published ladders: each rung says what it is, differs from its parent as its file states, and takes a training step."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import environment
from omegaconf import DictConfig, OmegaConf
from one_step import one_step

from maskcls.components.split import IMAGE_LEVEL_SPLITS
from maskcls.config.compose import compose
from maskcls.config.config_folders import resource_dir
from maskcls.config.groups import GROUPS
from maskcls.config.validation import to_container, validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.ladder.rungs import check_single_run

PUBLISHED = {
    "team": {
        "baseline": "–", "age58": "–", "focal": "F1 0.736, accuracy 73.238",
        "folds": "F1 0.750, accuracy 78.873", "oof": "F1 0.754, accuracy 79.175", "heads": "F1 0.757, accuracy 79.476",
        "folds_faithful": "F1 0.750, accuracy 78.873", "oof_faithful": "F1 0.754, accuracy 79.175",
        "heads_faithful": "F1 0.757, accuracy 79.476",
    },
    "workflow": {
        "resnet": "F1 0.39", "vgg19": "F1 0.50", "vgg19_tuned": "F1 0.51", "vgg11_tuned": "F1 0.56", "effnet_b4": "F1 0.60",
        "effnet_b4_sampler": "F1 0.62", "effnet_b4_focal": "F1 0.63", "effnet_b4_augmented": "F1 0.71", "ensemble": "F1 0.73",
        "resnet_faithful": "F1 0.39", "vgg19_faithful": "F1 0.50", "effnet_b4_faithful": "F1 0.60",
    },
    "madgrad": {
        "vgg11": "F1 0.3300, accuracy 45.86", "resnet50": "F1 0.5400, accuracy 54.25", "effnet_b4": "F1 0.6986, accuracy 73.70",
        "resnet50_madgrad": "F1 0.7206, accuracy 73.70", "clahe": "F1 0.7493, accuracy 79.29", "face": "F1 0.7582, accuracy 80.10",
        "effnet_b4_madgrad": "F1 0.7681, accuracy 80.87", "finetuned": "F1 0.7716, accuracy 81.24",
    },
    "tried": {
        "baseline": "–", "vgg11": "–", "vgg19": "lower F1", "resnet18": "lower F1", "resnet50": "lower F1",
        "resnext101": "lower F1", "effnet_b0": "lower F1", "effnet_b3": "lower F1", "vit_224": "lower F1", "vit_384": "lower F1",
        "mtcnn": "lower F1", "retinaface": "lower F1", "frozen": "no difference", "mixup": "no difference",
        "smoothing": "no difference", "forehead": "–", "nose_chin": "–", "chin_neck": "–", "regions": "lower F1",
        "outside": "–", "tta": "–", "early_stopping": "–",
    },
    "winner": {"recipe": "–", "pseudo_1": "–", "pseudo_2": "–"},
    "best": {"strong": "–", "fast": "–", "gpu": "–"},  # this project's own
}  # fmt: skip
WORDS = [f"{ladder}={word}" for ladder, rungs in PUBLISHED.items() for word in rungs]
SHIPPED_WEIGHTS = ("best=strong", "best=fast")  # they start from the weights of an installed package
KEYS = ["rung", "change", "published", "command", "ours"]
FURTHER = {
    "answer": {"single", "ensemble"},
    "reading": {"honest", "faithful"},
    "members": None,
    "init": None,
    "pseudo": None,
    "requires": {"MASKCLS_OUTSIDE"},
    "source": None,
    "note": None,
    "choice": None,
    "score": None,
    "seconds": None,
    "hardware": None,
}


def file(word: str) -> Path:
    """Return the file of ladder=rung."""
    return resource_dir("experiments") / f"{word.replace('=', '/')}.yaml"


def head(word: str) -> dict[str, str]:
    """Return the lines `# key: value` at the top of a rung's file."""
    first, *lines = file(word).read_text().splitlines()
    assert first == "# @package _global_"
    comments = [line.removeprefix("# ") for line in lines if line.startswith("#")]
    assert lines[: len(comments)] == [f"# {line}" for line in comments], "the head stands in one piece at the top"
    return dict(line.split(": ", 1) for line in comments)


def stated(word: str) -> tuple[str | None, set[str], set[str]]:
    """Return a rung's parent, the groups that it overrides and the dotted keys that it states."""
    own = yaml.safe_load(file(word).read_text())
    lines = own.pop("defaults")
    if word == "tried=baseline" and lines == ["/team/baseline"]:
        lines = []  # the root of this ladder is the whole recipe of another one
    parents = [line for line in lines if isinstance(line, str)]
    groups = {key.removeprefix("override /") for line in lines if isinstance(line, dict) for key in line}
    assert len(parents) <= 1 and lines[: len(parents)] == parents
    return (f"{word.split('=')[0]}={parents[0]}" if parents else None), groups, set(dotted(own))


def dotted(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@functools.cache
def composed(word: str) -> DictConfig:
    """Return a rung's config; it is its child's measure too."""
    return compose(word)


def begun(word: str, place: Path) -> list[str]:
    """Return the overrides that stand for what a machine without the hub and without earlier runs lacks."""
    key = "pseudo.run" if "pseudo" in head(word) else "model.init"
    initial = head(word).get("init") or head(word).get("pseudo")
    if initial is None:
        return ["model.pretrained=false"]
    (place / initial).mkdir(parents=True)
    (place / initial / "metrics.json").write_text("{}")
    (place / initial / "eval.csv").write_text("id\n")
    return ["model.pretrained=false", f"{key}={place / initial}"]


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch, people: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Set MASKCLS_OUTSIDE to a folder of faces named by age and gender."""
    folder = tmp_path_factory.mktemp("outside")
    for i, photo in enumerate(sorted(people.glob("train/images/*/normal.*"))[:6]):
        (folder / f"{60 + i}_{i % 2}_{i}{photo.suffix}").write_bytes(photo.read_bytes() + b"\0" * (i + 1))
    monkeypatch.setenv("MASKCLS_OUTSIDE", str(folder))


@pytest.mark.parametrize("ladder", PUBLISHED)
def test_the_heads_say_what_the_rungs_are(ladder: str) -> None:
    rungs = {path.stem: head(f"{ladder}={path.stem}") for path in (resource_dir("experiments") / ladder).glob("*.yaml")}
    assert {word: said["published"] for word, said in rungs.items()} == PUBLISHED[ladder]
    assert [word for word, _ in sorted(rungs.items(), key=lambda rung: int(rung[1]["rung"]))] == list(PUBLISHED[ladder])
    assert sorted(int(said["rung"]) for said in rungs.values()) == list(range(1, len(rungs) + 1))
    for word, said in rungs.items():
        assert list(said)[: len(KEYS)] == KEYS and set(said) <= {*KEYS, *FURTHER}
        assert all(value in FURTHER[key] for key, value in said.items() if FURTHER.get(key))
        assert said["ours"] == f"experiments/results/{ladder}/{word}.json"
        others = [name for key in ("members", "init", "pseudo") for name in said.get(key, "").split(", ") if name]
        assert set(others) <= set(rungs) - {word}
        places = [f"runs/<the run of {name}>" for name in others]
        key = "pseudo.run" if "pseudo" in said else "model.init"
        run, init = f"python -m maskcls.run {ladder}={word}", [f" {key}='{place}'" for place in places]
        wanted = f"python -m maskcls predict runs='[{','.join(places)}]'" if "members" in said else run + "".join(init)
        assert said["command"] == wanted


@pytest.mark.parametrize("ladder", PUBLISHED)
def test_a_ladder_has_one_root_which_names_it(ladder: str) -> None:
    words = [word for word in WORDS if word.startswith(f"{ladder}=")]
    parents = {word: stated(word)[0] for word in words}
    assert set(parents.values()) <= {*words, None}
    (root,) = [word for word, parent in parents.items() if parent is None]
    assert head(root)["rung"] == "1"
    assert [word for word in words if "name" in stated(word)[2]] == [root]


@pytest.mark.parametrize("word", WORDS)
def test_a_rung_is_checked_and_differs_from_its_parent_in_what_its_file_states(word: str, tmp_path: Path) -> None:
    cfg = validate(OmegaConf.merge(composed(word), OmegaConf.from_dotlist(begun(word, tmp_path))))
    assert cfg.name == word.split("=")[0]
    faithful = cfg.split.builder in IMAGE_LEVEL_SPLITS
    assert faithful == (head(word).get("reading") == "faithful")
    parent, groups, keys = stated(word)
    if parent is None:  # the root states the whole setting, also where it is the default
        assert groups <= set(GROUPS)
        return
    mine, theirs = (dotted(to_container(composed(rung))) for rung in (word, parent))
    changed = {key for key in mine.keys() | theirs.keys() if mine.get(key, ...) != theirs.get(key, ...)}
    assert not {key for key in changed if key not in keys and key.split(".")[0] not in groups}, "differs unsaid"
    assert keys <= changed, "said without effect"
    assert all(any(key.startswith(f"{group}.") for key in changed) for group in groups), "overridden without effect"


@pytest.mark.parametrize("word", [word for word in WORDS if "members" not in head(word) and word not in SHIPPED_WEIGHTS])
def test_without_a_hub_the_command_of_a_rung_works_or_says_what_to_add(
    word: str, nowhere: list[Any], tmp_path: Path
) -> None:
    init = [override for override in begun(word, tmp_path) if not override.startswith("model.pretrained")]
    cfg = validate(OmegaConf.merge(composed(word), OmegaConf.from_dotlist(init)))
    assert cfg.model.params["pretrained"] is True, "the recipe's own weights"
    expected = "model.init: .*best.pt does not exist" if "init" in head(word) else "cannot connect .* model.pretrained=auto"
    with pytest.raises(ConfigError, match=expected):
        cfg.model.build(18, 64, 64)
    auto = OmegaConf.from_dotlist([*init, "model.pretrained=auto"])
    cfg = validate(OmegaConf.merge(composed(word), auto))
    assert cfg.model.params["pretrained"] is False and len(cfg.notes) == (0 if "init" in head(word) else 1)


@pytest.mark.parametrize("word", [*WORDS, "search=focal"])
def test_a_rung_that_one_run_is_not_is_refused_with_the_command_that_does_it(word: str, tmp_path: Path) -> None:
    raw = compose(word)
    said = {} if word.startswith("search") else head(word)
    if not {"members", "init", "pseudo"} & set(said) and word in WORDS:
        check_single_run(raw)
        return
    with pytest.raises(ConfigError) as caught:
        check_single_run(raw)
    assert word in str(caught.value) and said.get("command", "python -m maskcls tune search=focal") in str(
        caught.value
    )
    if {"init", "pseudo"} & set(said):
        check_single_run(compose(word, *begun(word, tmp_path)))


@pytest.mark.parametrize("word", ["workflow=ensemble", "madgrad=finetuned", "winner=pseudo_1", "search=focal"])
def test_the_command_refuses_it_before_any_work(
    word: str, tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = command(word)
    assert done.returncode == 2 and "Use python -m maskcls" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "word", [word for word in WORDS if any(stated(word)[1:]) and "pseudo" not in head(word)]
)  # the others are their parents' runs; pseudo-labels need a whole run
def test_a_rung_learns(word: str, tiny: list[str], tmp_path: Path) -> None:
    own = ("crop.", "model", "epochs", "name")
    given = [
        *begun(word, tmp_path),
        *[word for word in tiny if not word.startswith(own)],
        "crop.height=64",
        "crop.width=48",
        "batch_size=2",
    ]
    cfg: Config = validate(compose(word, *given))
    if cfg.model.params.get("init"):
        import timm

        place = Path(cfg.model.params["init"]) / "fold0"
        place.mkdir()
        network = timm.create_model(cfg.model.params["arch"], num_classes=18)
        torch.save({"model": network.state_dict()}, place / "best.pt")
    table = assemble_table(cfg, lambda note: None)
    numbers = one_step(cfg, table, load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    assert np.isfinite(numbers["loss"]) and 0 <= numbers["f1"] <= 1


def sweep() -> dict[str, Any]:
    """Return W&B's sweep file."""
    found: dict[str, Any] = yaml.safe_load((resource_dir("experiments") / "sweeps" / "focal.yaml").read_text())
    return found


def test_sweep_files_are_no_words_of_the_command_line() -> None:
    with pytest.raises(ConfigError, match="unknown sweeps 'focal'"):
        compose("name=t", "sweeps=focal")


def test_the_sweep_and_the_search_ask_for_the_same_runs() -> None:
    search = yaml.safe_load((resource_dir("experiments") / "search" / "focal.yaml").read_text())
    params = search["hydra"]["sweeper"]["params"]
    asked = {key.lstrip("+"): [float(value) for value in str(values).split(",")] for key, values in params.items()}
    assert asked == {key: values["values"] for key, values in sweep()["parameters"].items()}
    assert validate(compose("search=focal")).loss.name == "focal"


@pytest.mark.slow
def test_wandbs_agent_runs_a_job_of_the_sweep(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.wandb_agent import Agent

    for key, value in (environment() | {"WANDB_DIR": str(tmp_path), "WANDB_SWEEP_ID": "s1"}).items():
        monkeypatch.setenv(key, value)
    for key in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # the agent sets them: put back afterwards
        monkeypatch.setenv(key, "")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    asked, words = sweep(), [word for word in tiny if word != "logger=none"]
    agent = Agent(None, None, sweep_id="s1")
    agent._sweep_command = [*asked["command"], *words, "epochs=1", "split=holdout"]
    values = {key: {"value": choice["values"][-1]} for key, choice in asked["parameters"].items()}
    response = agent._process_command({"type": "run", "run_id": "r1", "program": asked["program"], "args": values})
    assert "exception" not in response, response
    assert agent._run_processes["r1"].wait(timeout=300) == 0
    (place,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    config, metrics = (place / "config.yaml").read_text(), json.loads((place / "metrics.json").read_text())
    assert yaml.safe_load(config)["loss"]["gamma"] == 5.0 and yaml.safe_load(config)["optimizer"]["lr"] == 0.001
    part, number = asked["metric"]["name"].split("/")
    assert 0 <= metrics[part][number] <= 1
    (log,) = place.rglob("run-r1.wandb")
    call = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    text = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout
    assert asked["metric"]["name"] in text and repr(metrics[part][number])[:8] in text


@pytest.mark.slow
def test_the_search_runs_its_grid_and_another_grid_of_the_command_line(
    tiny: list[str], tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def asked(*words: str) -> set[tuple[float, float]]:
        result = command("-m", "search=focal", *tiny, "epochs=1", "split=holdout", *words)
        assert result.returncode == 0, result.stderr
        done = [path.parent for path in (tmp_path / "runs").glob("*/metrics.json")]
        found = [yaml.safe_load((place / "config.yaml").read_text()) for place in done]
        assert all(config["loss"]["name"] == "focal" for config in found)
        return {(config["loss"]["gamma"], config["optimizer"]["lr"]) for config in found}

    grid = {(gamma, lr) for gamma in (1.0, 2.0, 5.0) for lr in (0.0003, 0.001)}
    assert asked() == grid
    assert asked("loss.gamma=0.5", "optimizer.lr=0.01") == {*grid, (0.5, 0.01)}
