"""Calibration, sets and groups in the closing metrics: of real runs, of few people, and of runs of older versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_predictions import drawn_predictions

from maskcls.engine.reliability import measure_reliability
from maskcls.evaluation.conformal import ConformalSets, PersonScores
from maskcls.evaluation.metrics import log_loss
from maskcls.evaluation.stacking import decide
from maskcls.reporting.summary import print_summary
from maskcls.storage.run import Run
from maskcls.storage.run_files import check_schema
from maskcls.storage.schemas import Metrics


def test_a_real_run_has_them_and_they_fit_the_schema(finished: tuple[list[str], Path]) -> None:
    metrics = json.loads((finished[1] / "metrics.json").read_text())
    check_schema(metrics, Metrics)
    run = Run(finished[1])
    rows = run.val_table
    probs = run.predictions("oof").select(rows["id"].tolist())
    found = metrics["calibration"]["oof"]["class"]["before"]["log_loss"]
    assert found == pytest.approx(log_loss(rows["label"].to_numpy(), probs), rel=1e-5)
    assert [part["column"] for part in metrics["groups"]] == ["gender × age"]
    assert sum(row["photos"] for row in metrics["groups"][0]["rows"]) == len(rows) == metrics["sets"]["oof"]["photos"]
    assert metrics["sets"]["eval"]["photos"] == int((run.eval_table["label"] >= 0).sum())
    accuracy = sum(row["accuracy"] * row["photos"] for row in metrics["groups"][0]["rows"]) / len(rows)
    assert accuracy == pytest.approx(metrics["oof"]["accuracy"])


def test_the_further_column_is_scored_and_its_unknown_values_are_counted() -> None:
    found = measure_reliability(**drawn_predictions(90))
    column = found["groups"][1]
    assert column["column"] == "colour" and [row["value"] for row in column["rows"]] == ["blue", "red"]
    assert column["unknown"] == 90 and [row["people"] for row in column["rows"]] == [30, 30]
    assert set(column["gaps"]) == {"f1", "accuracy", "calibration_error", "covered"}
    json.dumps(found, allow_nan=False)


def test_sets_of_the_evaluation_set_are_those_of_all_folds() -> None:
    data = drawn_predictions(40)
    found = measure_reliability(**data)["sets"]
    folds = [(data["rows"]["fold"] == k).to_numpy() for k in range(2)]
    scores = tuple(PersonScores.of(data["plain"][one], data["rows"]["label"].to_numpy()[one],
                                   data["rows"]["person"][one].tolist()) for one in folds)  # fmt: skip
    truth = data["table"].query("part == 'eval'")["label"].to_numpy()
    sets = ConformalSets(scores).predict(data["evaluation"], 0.9)
    assert found["eval"]["covered"] == pytest.approx(sets[np.arange(len(truth)), truth].mean())
    assert found["eval"]["size"] == pytest.approx(sets.sum(1).mean())
    assert found["oof"]["covered"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(("people", "images", "folds"), [(20, 1, 2), (30, 1, 1), (45, 7, 5), (40, 3, 4), (21, 2, 2)])
def test_sets_out_of_fold_are_those_of_the_other_people(people: int, images: int, folds: int) -> None:
    """Of 10, 20 and 30 people, 1 / people is the largest p-value outside the sets: rounding must not let it in."""
    data = drawn_predictions(people, images, folds=folds)
    rows, plain = data["rows"], data["plain"]
    labels, fold, persons = rows["label"].to_numpy(), rows["fold"].to_numpy(), rows["person"].to_numpy(object)
    sets = np.zeros(plain.shape, bool)
    for i in range(len(rows)):
        others = (fold == fold[i]) & (persons != persons[i])
        scores = PersonScores.of(plain[others], labels[others], persons[others].tolist())
        sets[i] = ConformalSets((scores,)).predict(plain[None, i : i + 1], 0.9)[0]
    found = measure_reliability(**data)["sets"]["oof"]
    assert found["covered"] == pytest.approx(sets[np.arange(len(rows)), labels].mean())
    assert found["size"] == pytest.approx(sets.sum(1).mean())
    if (people, images, folds) == (20, 1, 2):
        assert found["covered"] == pytest.approx(0.9)


def test_a_decided_class_is_in_its_set() -> None:
    data = drawn_predictions(60)
    data["bias"] = np.where(np.arange(18) == 5, 40.0, 0.0)  # always decides class 5
    data["probs"] = decide(data["plain"], data["bias"])
    is_five = (data["rows"]["label"] == 5).to_numpy()
    assert set(data["probs"].argmax(1)) == {5} and is_five.any()
    plain = measure_reliability(**data | {"bias": None, "probs": data["plain"]})["sets"]
    found = measure_reliability(**data)["sets"]
    assert found["oof"]["size"] > plain["oof"]["size"] and found["eval"]["size"] > plain["eval"]["size"]


def test_images_that_were_trained_on_do_not_tell_about_the_mean() -> None:
    data = drawn_predictions(60)
    data["evaluation"][1] = np.roll(data["evaluation"][1], 1, 1)
    found, trained = (measure_reliability(**data, has_trained_eval=one)["calibration"] for one in (False, True))
    assert found["mean_temperatures"] != found["temperatures"]
    assert trained["mean_temperatures"] == trained["temperatures"] == found["temperatures"]


@pytest.mark.parametrize("people", [1, 2, 3])
@pytest.mark.parametrize("images", [1, 3])
def test_few_people_are_no_error(people: int, images: int) -> None:
    data = drawn_predictions(people, images, folds=1)
    found = measure_reliability(**data)
    json.dumps(found, allow_nan=False)
    assert (found["calibration"] is None) == (people == 1)
    assert found["groups"][0]["gaps"] == {} and found["sets"]["oof"]["covered"] == 1.0


@pytest.mark.parametrize("with_rows", [False, True])
def test_an_evaluation_set_without_labels_or_images_has_no_scores(with_rows: bool) -> None:
    data = drawn_predictions(30)
    is_eval = data["table"]["part"] == "eval"
    data["table"] = data["table"].assign(scored=~is_eval) if with_rows else data["table"][~is_eval]
    data["evaluation"] = data["evaluation"] if with_rows else data["evaluation"][:, :0]
    found = measure_reliability(**data)
    assert found["calibration"]["eval"] is None and found["sets"]["eval"] is None
    same = found["calibration"]["temperatures"] == found["calibration"]["mean_temperatures"]
    assert same != with_rows, "images without labels tell how much the mean gains"


def test_certain_and_wrong_predictions_stay_finite() -> None:
    data = drawn_predictions(30)
    for name in ("plain", "probs"):
        data[name] = np.eye(18, dtype=np.float32)[(data["rows"]["label"].to_numpy() + 1) % 18]
    json.dumps(measure_reliability(**data), allow_nan=False)


def test_a_run_of_an_older_version_is_read_and_reported(
    linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = linked[1] / "metrics.json"
    metrics = json.loads(path.read_text())
    path.unlink()
    older = {key: value for key, value in metrics.items() if key not in ("calibration", "sets", "groups")}
    path.write_text(json.dumps(older))
    run = Run(linked[1])
    print_summary(run, run.metrics() or {})
    assert "temperature scaling" not in capsys.readouterr().out
    print_summary(run, metrics)
    assert "temperature scaling, out of fold: log loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [("calibration", []), ("calibration", {"temperatures": {"mask": "1"}}), ("sets", {"coverage": 2}), ("groups", {}),
     ("groups", [{"column": "x", "rows": [{"value": 1}], "gaps": {}}])],
)  # fmt: skip
def test_broken_metrics_are_named(linked: tuple[list[str], Path], key: str, value: Any) -> None:
    path = linked[1] / "metrics.json"
    metrics = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(metrics | {key: value}))
    with pytest.raises(Exception, match=rf"metrics\.json.*{key}"):
        Run(linked[1]).metrics()
