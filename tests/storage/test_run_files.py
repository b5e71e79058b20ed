"""Checks of the files in a run directory: a wrong value raises an error that names the file."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from foreign import folder, hurried, pipe, replaced, rewritten, said_of, zeros

from maskcls.cli.sync import send_record
from maskcls.components.hardware import cpu
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.engine.out_of_fold import collect_predictions
from maskcls.engine.train_state import build_train_state
from maskcls.inference.predictor import load, restore_component
from maskcls.storage.run import Run
from maskcls.storage.run_files import read_about, read_history, read_metrics, read_table
from maskcls.system.safe_reading import read_npz


def loads(place: Path) -> Any:
    """Load a run and predict a photo."""
    return load(place).predict_pixels(np.zeros((1, 32, 24, 3), np.uint8))


def cells(place: Path, name: str, row: int | slice, column: str, value: object) -> Path:
    """Put a value into a CSV."""
    table = pd.read_csv(place / name, dtype=str, keep_default_na=False)
    table.loc[table.index[row], column] = str(value)
    return replaced(place / name, table.to_csv(index=False))


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("fold", 10**9, "not numbered from 0"), ("fold", 10**30, "Overflow"), ("fold", -2, "fold: expected ≥ −1, got '-2'"), ("fold", "x", "x"),
        ("fold", -1, "fold: expected ≥ 0 in a scored training row"), ("label", 999, "label: expected −1 to 17, got '999'"), ("label", -7, "expected −1 to 17"), ("label", -1, "label: expected ≥ 0 in a scored row"),
        ("label", 1.5, "int64"), ("id", "", "id is empty"), ("person", "", "person: expected text, got ''"), ("part", "test", "expected train or eval or extra"),
        ("scored", "maybe", "bool"), ("scored", "", "bool"),
    ],
)  # fmt: skip
def test_a_wrong_cell_of_the_table_is_named(
    column: str, value: object, why: str, linked: tuple[list[str], Path]
) -> None:
    place = linked[1]
    file = cells(place, "table.csv", 3, column, value)
    said = said_of(lambda: Run.open(place))
    assert str(file) in said and why in said


def test_a_table_without_scored_rows_or_with_an_id_twice_is_refused(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    table = pd.read_csv(place / "table.csv", dtype=str)
    cells(place, "table.csv", 4, "id", table["id"][3])
    assert "duplicate id" in said_of(lambda: Run.open(place))
    replaced(place / "table.csv", table.assign(scored="False").to_csv(index=False))
    assert "no validation rows" in said_of(lambda: Run.open(place))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-0.1", "2", "1e999", "", "x", "0.5"])
@pytest.mark.parametrize("name", ["oof", "eval"])
def test_rows_that_are_not_probabilities_are_refused(name: str, value: str, linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    file = cells(place, f"{name}.csv", 5, "p3", value)
    assert str(file) in said_of(lambda: Run.open(place).predictions(name))


NOTHING = float("nan")


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key in ("mean", "std")
     for value in ("abc", [0.5, 0.5], [[0.5] * 3], 0.5, None, ["0.5"] * 3, [NOTHING] * 3, [True] * 3, torch.ones(3))]
    + [("std", [0.1, 0.0, 0.1]), ("std", [-0.1, 0.2, 0.2]), ("head", 3), ("head", {"name": "x"}), ("crop", "x"),
       ("crop", {"name": "resize", "height": 10**9}), ("crop", {"name": "resize", "height": "x"}), ("model_word", 3),
       ("model_word", {"name": "timm", "arch": "x"}), ("model_word", {"name": "timm", "arch": "resnet18", "drop": 7}),
       ("classes", 3), ("classes", ["a"]), ("classes", [["a"] * 9] * 9), ("model", 3), ("model", {}), ("model", [torch.ones(3)])],
)  # fmt: skip
def test_a_wrong_value_of_a_checkpoint_is_refused(key: str, value: Any, linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    file = rewritten(place / "fold1" / "best.pt", lambda content: content | {key: value})
    said = said_of(lambda: loads(place))
    assert "fold1/best.pt" in said or (key == "crop" and "different crops" in said), said
    assert file.exists()


def many_times() -> list[Any]:
    """Return a list that is small in memory and has 9³⁰ values."""
    laugh: list[Any] = [1]
    for _ in range(30):
        laugh = [laugh] * 9
    return laugh


def test_a_file_that_claims_a_giant_model_takes_no_memory_for_it(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    giant = {"name": "timm", "arch": "eva_giant_patch14_560"}
    file = rewritten(place / "fold1" / "best.pt", lambda content: content | {"model_word": giant})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert f"{file} does not fit images" in said_of(lambda: loads(place))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB; its weights would be 4 GB


def test_lists_within_lists_that_multiply_are_refused(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    laugh = many_times()
    for key in ("crop", "classes", "head", "mean"):
        rewritten(place / "fold1" / "best.pt", lambda content, key=key: content | {key: laugh})  # type: ignore[misc]
        assert "nested at most" in said_of(lambda: loads(place))


HARMED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": lambda weight: torch.full_like(weight, NOTHING), "inf": lambda weight: weight / 0, "int8": lambda weight: weight.to(torch.int8),
    "shape": lambda weight: weight[:1], "complex": lambda weight: weight.to(torch.complex64),
    "sparse": lambda weight: weight.to_sparse(), "wide": lambda weight: torch.zeros(1).expand(10**6, 10**6),
    "meta": lambda weight: weight.to("meta"),
}  # fmt: skip


@pytest.mark.parametrize("how", HARMED)
def test_weights_that_a_model_would_take_and_not_work_with_are_refused(
    how: str, linked: tuple[list[str], Path]
) -> None:
    place = linked[1]

    def change(content: dict[str, Any]) -> None:
        name = next(key for key, value in content["model"].items() if value.dim() == 4 and len(value) > 1)
        content["model"][name] = HARMED[how](content["model"][name])

    file = rewritten(place / "fold1" / "best.pt", change)
    assert str(file) in said_of(lambda: loads(place))


@pytest.mark.parametrize(
    "value",
    ["evil", "null", "3", "[fp32]", "{a: 1}", "${oc.env:HOME}", "${precision}", "${now:%Y}", "x" * 100_000, ".nan"],
)
def test_a_wrong_precision_is_refused_and_nothing_is_resolved(value: str, linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    text = (place / "config.yaml").read_text()
    replaced(place / "config.yaml", text.replace("precision: fp32", f"precision: {value}"))
    said = said_of(lambda: Run.open(place))
    assert "precision must be one of fp32, bf16, fp16" in said and os.environ["HOME"] not in said
    replaced(place / "config.yaml", text.replace("precision: fp32\n", ""))
    assert "precision must be one of" in said_of(lambda: Run.open(place))


@pytest.mark.parametrize("group", ["data", "tta"])
@pytest.mark.parametrize("value", ["{name: '${oc.env:HOME}'}", "3", "null", "{name: 3}", "{name: none, a: 1}", "[1]"])
def test_a_wrong_word_of_a_config_is_refused(group: str, value: str, linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    content = yaml.safe_load((place / "config.yaml").read_text()) | {group: yaml.safe_load(value)}
    replaced(place / "config.yaml", yaml.safe_dump(content))
    said = said_of(lambda: restore_component(Run.open(place), group))
    assert str(place / "config.yaml") in said and os.environ["HOME"] not in said


def test_an_interpolation_anywhere_in_a_config_stays_text(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    content = yaml.safe_load((place / "config.yaml").read_text())
    others = dict.fromkeys(content.keys() - {"precision", "tta", "data", "task"}, "${oc.env:HOME}")
    replaced(place / "config.yaml", yaml.safe_dump(content | others))
    assert others.items() <= Run.open(place).config.items()
    assert loads(place).shape == (1, 18)


def test_the_numbers_of_a_closing_are_checked(linked: tuple[list[str], Path]) -> None:
    place = linked[1]
    whole = json.loads((place / "metrics.json").read_text())
    wrong: list[dict[str, Any]] = [
        {"oof": 3}, {"oof": {}}, {"oof": whole["oof"] | {"f1": "1"}}, {"oof": whole["oof"] | {"f1": 2}}, {"folds": []}, {"folds": {}},
        {"folds": [3]}, {"folds": [whole["folds"][0] | {"fold": -1}]}, {"folds": [whole["folds"][0] | {"age_f1": None}]}, {"eval": 3},
        {"eval": whole["eval"] | {"single": "x"}}, {"people_on_both_sides": "x"}, {"people_on_both_sides": -1},
    ]  # fmt: skip
    for change in wrong:
        replaced(place / "metrics.json", json.dumps(whole | change))
        assert str(place / "metrics.json") in said_of(lambda: read_metrics(place / "metrics.json", task=MASK18)), change
    for attribute in MASK18:
        for part in ("oof", "eval"):
            less = {key: value for key, value in whole[part].items() if key != f"{attribute.name}_f1"}
            replaced(place / "metrics.json", json.dumps(whole | {part: less}))
            assert f"expected {attribute.name}_f1 among the scores" in said_of(Run(place).metrics)
    replaced(place / "metrics.json", json.dumps({key: value for key, value in whole.items() if key != "oof"}))
    assert "oof" in said_of(lambda: read_metrics(place / "metrics.json", task=MASK18))


def arrays(place: Path, **changed: Any) -> Path:
    """Change the arrays of the second fold."""
    file = place / "fold1" / "oof.npz"
    content = read_npz(file) | changed
    file.unlink()
    np.savez(file, **{key: value for key, value in content.items() if value is not None})
    return file


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ids", lambda ids: ids[::-1]), ("ids", lambda ids: np.arange(len(ids))), ("ids", lambda ids: ids[:-1]),
        ("ids", lambda ids: np.append(ids[:-1], "x")), ("ids", lambda ids: np.append(ids[:-1], ids[0])), ("ids", lambda ids: ids[:, None]),
        ("ids", lambda ids: None), ("probs", lambda probs: probs * np.nan), ("probs", lambda probs: probs * 2),
        ("probs", lambda probs: -probs), ("probs", lambda probs: probs.astype(np.int64)), ("probs", lambda probs: probs[:, :3]),
        ("probs", lambda probs: probs[0, 0]), ("eval_probs", lambda probs: probs + np.inf), ("eval_probs", lambda probs: None),
        ("eval_ids", lambda ids: ids[::-1]), ("epochs", lambda _: np.array("x")), ("epochs", lambda _: np.array([1, 2])),
        ("epoch", lambda _: np.array(1)), ("epoch", lambda _: np.array([1.5])), ("epoch", lambda _: None),
    ],
)  # fmt: skip
def test_wrong_arrays_of_a_fold_are_refused(
    name: str, change: Callable[[Any], Any], linked: tuple[list[str], Path]
) -> None:
    place = linked[1]
    file = arrays(place, **{name: change(read_npz(place / "fold1" / "oof.npz")[name])})
    assert str(file) in said_of(lambda: collect_predictions(Run(place), read_table(place / "table.csv", MASK18)))


def test_a_state_whose_scores_or_rates_are_not_this_trainings_is_refused(linked: tuple[list[str], Path]) -> None:
    words, place = linked
    cfg, last = validate(compose(*words)), place / "fold1" / "last.pt"
    state, whole = build_train_state(cfg, cfg.head.build(), cpu(), (32, 24), 1), torch.load(last, weights_only=True)
    state.load(last)
    assert state.history == whole["history"] and state.epoch == 1
    groups = [group | {"weight_decay": 0.5} for group in whole["optimizer"]["param_groups"]]
    weights = {key: value * NOTHING for key, value in whole["model"].items()}
    moments = {key: value | {"exp_avg": torch.ones(7)} for key, value in whole["optimizer"]["state"].items()}
    laugh = many_times()
    for change in (
        {"history": "0.5"}, {"history": [2.0]}, {"history": [NOTHING]}, {"step": "x"}, {"model": 3}, {"model": weights},
        {"optimizer": whole["optimizer"] | {"param_groups": groups}}, {"optimizer": 3},
        {"optimizer": whole["optimizer"] | {"state": {0: laugh}}}, {"optimizer": whole["optimizer"] | {"state": moments}}, {"model": {}},
    ):  # fmt: skip
        rewritten(last, lambda _, change=change: whole | change)  # type: ignore[misc]
        state = build_train_state(cfg, cfg.head.build(), cpu(), (32, 24), 1)
        assert f"{last} does not fit this run" in said_of(partial(state.load, last)), change


def test_bad_lines_of_a_log_are_left_out_and_many_of_them_refused(tmp_path: Path) -> None:
    good = {"fold": 0, "epoch": 1, "f1": 0.5, "seconds": 1}
    lines = [
        json.dumps(good),
        "{",
        "3",
        '{"fold": 0}',
        '{"fold": "0", "epoch": 2}',
        '{"fold": 0, "epoch": 2, "seconds": "x"}',
        "\0",
        "[" * 5000,
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert read_history(tmp_path / "log.jsonl") == [good]
    (tmp_path / "log.jsonl").write_text("{\n" * 2000)
    assert "of its lines are not epochs" in said_of(lambda: read_history(tmp_path / "log.jsonl"))
    with (tmp_path / "log.jsonl").open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    assert "at most 8 MiB" in said_of(lambda: read_history(tmp_path / "log.jsonl"))


@pytest.mark.parametrize(
    "change", [{"command": 3}, {"command": [1]}, {"versions": "x"}, {"hardware": [1]}, {"seconds": "x"}, {"commit": {}}]
)
def test_wrong_facts_are_refused(change: dict[str, Any], linked: tuple[list[str], Path]) -> None:
    file = linked[1] / "about.json"
    replaced(file, json.dumps(json.loads(file.read_text()) | change))
    assert str(file) in said_of(lambda: read_about(file))


def test_a_record_of_wandb_that_is_not_a_file_is_not_sent(tmp_path: Path) -> None:
    for harm in (pipe, zeros, folder):
        harm(tmp_path / harm.__name__)
        with hurried():
            assert send_record(tmp_path / harm.__name__) == "is not a regular file"
