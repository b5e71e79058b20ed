"""Calibrated predictions and prediction sets of real runs: the classes stay, and what cannot be is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from maskcls import load
from maskcls.config.compose import compose
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, MaskclsError, RunError
from maskcls.engine.runner import run
from maskcls.evaluation.temperature import Temperatures, joint_axes
from maskcls.inference.predict import predict
from maskcls.inference.uncertainty import common_axes
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model

COLUMNS = [f"p{i}" for i in range(18)]


@pytest.fixture
def faces(people: Path) -> list[Path]:
    return sorted((people / "eval" / "images").iterdir())[:6]


def test_calibration_changes_probabilities_and_no_class(
    finished: tuple[list[str], Path], faces: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, calibrated = load(finished[1]), load(finished[1], calibrated=True)
    assert "calibrated=True: temperatures mask " in capsys.readouterr().out
    before, after = plain(faces), calibrated(faces)
    assert np.abs(before - after).max() > 1e-3 and np.allclose(after.sum(1), 1, atol=1e-5)
    assert plain.predict(faces).tolist() == calibrated.predict(faces).tolist()
    for one, two in zip(MASK18.marginals(before), MASK18.marginals(after), strict=True):
        assert (one.argmax(1) == two.argmax(1)).all()
    assert calibrated([]).shape == (0, 18) and calibrated.predict([]).shape == (0,)


def test_temperatures_are_those_of_the_closing_metrics(finished: tuple[list[str], Path]) -> None:
    stored = json.loads((finished[1] / "metrics.json").read_text())["calibration"]
    found = load(finished[1], calibrated=True).temperatures
    assert found is not None and found.to_dict() == pytest.approx(stored["mean_temperatures"], rel=1e-3)
    assert list(stored["temperatures"]) == ["mask", "gender", "age"]


def test_sets_hold_the_best_class_first_and_grow_with_coverage(
    finished: tuple[list[str], Path], faces: list[Path]
) -> None:
    model = load(finished[1])
    small, large = model.sets(faces, coverage=0.3), model.sets(faces, coverage=0.8)
    assert [one[0] for one in small] == model.predict(faces).tolist()
    assert all(set(one) <= set(two) <= set(MASK18.classes) for one, two in zip(small, large, strict=True))
    assert sum(map(len, small)) < sum(map(len, large))
    assert all(len(one) == 18 for one in model.sets(faces, coverage=0.99)), "14 people cannot promise 0.99"
    assert model.sets([]) == [] and model.sets(faces) == load(finished[1], calibrated=True).sets(faces)


class Swapped(Temperatures):
    """Temperatures that make the least probable class the most probable one, as a mixture's may with two near ones."""

    def apply(self, probs: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, 18) of the opposite classes."""
        return (probs.max() - probs) / (probs.max() - probs).sum(1, keepdims=True)


def test_a_shown_class_is_the_predicted_one(finished: tuple[list[str], Path], faces: list[Path]) -> None:
    model = load(finished[1])
    model.temperatures = Swapped(joint_axes(MASK18), (1.0,), MASK18)
    answer = model.show(faces[0])
    assert answer.name == model.predict(faces[0])[0] != answer.classes[0][0]


def test_a_decided_class_is_in_the_set_and_first(finished: tuple[list[str], Path], faces: list[Path]) -> None:
    model = load(finished[1])
    model.source.run.bias = [40.0 * (i == 5) for i in range(18)]  # type: ignore[union-attr]  # cached, not written
    assert model.predict(faces).tolist() == [MASK18.classes[5]] * 6
    assert all(one[0] == MASK18.classes[5] for one in model.sets(faces, coverage=0.1))


@pytest.mark.parametrize("leak", [{"people_on_both_sides": 3}, {"notes": ["LEAK: pseudo=distil pseudo.teachers=all: x"]},
                                  {"notes": ["LEAK possible: x"]}])  # fmt: skip
def test_what_comes_from_leaking_scores_is_said(
    linked: tuple[list[str], Path], leak: dict[str, object], faces: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = linked[1] / "metrics.json"
    metrics = json.loads(path.read_text())
    for used in ("calibrated=True", "sets"):
        for more, is_said in (({}, False), (leak, True)):
            path.unlink()
            path.write_text(json.dumps(metrics | more))
            model = load(linked[1], calibrated=used != "sets")
            model.sets(faces[:1]) if used == "sets" else None
            shown = " ".join(capsys.readouterr().out.split())
            assert (f"{used} of {linked[1].name} comes from these scores" in shown) == is_said


def test_images_that_were_trained_on_give_the_temperatures_of_single_folds(
    linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    stored = (Run(linked[1]).metrics() or {})["calibration"]
    config = yaml.safe_load((linked[1] / "config.yaml").read_text()) | {"pseudo": {"name": "distil", "runs": ["x"]}}
    (linked[1] / "config.yaml").unlink()
    (linked[1] / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    found = load(linked[1], calibrated=True).temperatures
    assert found is not None and found.to_dict() == pytest.approx(stored["temperatures"], rel=1e-3)
    shown = " ".join(capsys.readouterr().out.split())
    assert "trained on its evaluation images: the temperatures are those of single folds" in shown


@pytest.mark.slow
def test_a_run_with_pseudo_labels_stores_the_temperatures_of_single_folds(
    tiny: list[str], finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    run(compose(*tiny, "epochs=1", "pseudo=distil", f"pseudo.runs=[{finished[1]}]"))
    (place,) = (tmp_path / "runs").glob("t-*")
    metrics = Run(place).metrics() or {}
    assert metrics["calibration"]["mean_temperatures"] == metrics["calibration"]["temperatures"]
    assert any(note.startswith("calibration: pseudo=distil trained on the evaluation") for note in metrics["notes"])
    found = load(place, calibrated=True).temperatures
    assert found is not None and found.to_dict() == pytest.approx(metrics["calibration"]["temperatures"], rel=1e-3)


@pytest.mark.parametrize("coverage", [0, 1, -1, 2.5, float("nan")])
def test_a_coverage_that_is_none_is_refused_before_any_work(
    finished: tuple[list[str], Path], coverage: float, faces: list[Path]
) -> None:
    with pytest.raises(ConfigError, match="coverage must be between 0 and 1"):
        load(finished[1]).sets(["nowhere.jpg"], coverage=coverage)


def test_only_a_finished_run_can_be_calibrated(linked: tuple[list[str], Path], faces: list[Path]) -> None:
    run_dir = linked[1]
    needs = "needs predictions out of fold, and .* has none .*Name a finished run"
    with pytest.raises(ConfigError, match=f"calibrated=True {needs}"):
        load(run_dir / "fold0", calibrated=True)
    with pytest.raises(ConfigError, match=f"sets {needs}"):
        load(run_dir / "fold0").sets(faces)
    with pytest.raises(ConfigError, match=f"calibrate=true {needs}"):
        predict(compose(f"runs=[{run_dir}/fold0/best.pt]", "calibrate=true", "hardware=cpu", config="predict"))
    (run_dir / "metrics.json").unlink()
    with pytest.raises(ConfigError, match=needs):
        load(run_dir, calibrated=True)


@pytest.mark.parametrize("name", ["oof.csv", "fold1/oof.npz"])
@pytest.mark.parametrize("content", [None, b"", b"id,p0\na,1\n"])
def test_a_broken_file_is_named(
    linked: tuple[list[str], Path], name: str, content: bytes | None, faces: list[Path]
) -> None:
    (linked[1] / name).unlink()
    if content is not None:
        (linked[1] / name).write_bytes(content)
    with pytest.raises(RunError, match=str(Path(name).name)):
        load(linked[1], calibrated=True)
    if name != "oof.csv":
        with pytest.raises(RunError, match=r"oof\.npz"):
            load(linked[1]).sets(faces)


def test_predict_writes_calibrated_probabilities_beside_the_same_submission(
    linked: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ask = [f"runs=[{linked[1]}]", "hardware=cpu", f"cache_dir={tmp_path}/cache"]
    for out, more in (("a.csv", []), ("b.csv", ["calibrate=true"])):
        predict(compose(*ask, f"out={out}", *more, config="predict"))
    shown = capsys.readouterr().out
    assert "calibrate=true: temperatures mask " in shown and "calibrate=true: log loss " in shown
    assert Path("a.csv").read_text() == Path("b.csv").read_text()
    first, second = (pd.read_csv(f"probabilities-{name}.csv")[COLUMNS].to_numpy() for name in "ab")
    assert np.abs(first - second).max() > 1e-3 and np.allclose(second.sum(1), 1, atol=1e-5)
    predict(compose(*ask, f"photos={faces[0].parent}", "calibrate=true", "out=c.csv", config="predict"))
    photos = pd.read_csv("c.csv")
    model = load(linked[1], calibrated=True)
    probs = model([Path(name) for name in photos["photo"]])
    assert photos["probability"].to_numpy() == pytest.approx(probs[np.arange(len(probs)), photos["ans"]], rel=1e-4)


def test_an_ensemble_of_other_heads_has_one_temperature(
    linked: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "runs" / "t-single"
    shutil.copytree(linked[1], other)
    config = yaml.safe_load((other / "config.yaml").read_text()) | {"head": {"name": "single"}}
    (other / "config.yaml").unlink()
    (other / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    models = [open_model(one) for one in (linked[1], other)]
    assert common_axes(models) == joint_axes(MASK18) and common_axes(models[:1]) == ((0,), (1,), (2,))
    predict(compose(f"runs=[{linked[1]},{other}]", "calibrate=true", "hardware=cpu", config="predict"))
    assert "calibrate=true: temperatures class " in capsys.readouterr().out


def test_without_an_evaluation_set_the_temperatures_are_of_single_folds(
    linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = linked[1]
    table = pd.read_csv(run_dir / "table.csv", dtype=str)
    (run_dir / "table.csv").unlink()
    table[table["part"] != "eval"].to_csv(run_dir / "table.csv", index=False)
    found = load(run_dir, calibrated=True).temperatures
    assert "has no evaluation set: the temperatures are those of single folds" in capsys.readouterr().out
    stored = Run(run_dir).metrics() or {}
    assert found is not None and found.to_dict() == pytest.approx(stored["calibration"]["temperatures"], rel=1e-3)


@pytest.mark.parametrize(
    "words", [["head=single", "decision=bias", "decision.folds=2"], ["head=years"], ["split=holdout", "fold=0"]]
)
def test_every_head_a_decision_and_one_fold_are_calibrated(
    tiny: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*tiny, "epochs=1", *words))
    (place,) = (tmp_path / "runs").glob("t-*")
    metrics = Run(place).metrics() or {}
    names = ["class"] if "head=single" in words else ["mask", "gender", "age"]
    assert list(metrics["calibration"]["mean_temperatures"]) == names
    if "split=holdout" in words:
        assert metrics["calibration"]["mean_temperatures"] == metrics["calibration"]["temperatures"]
    plain, model = load(place), load(place, calibrated=True)
    assert ("expected ages in years stay" in capsys.readouterr().out) == ("head=years" in words)
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 48, 3), np.uint8)
    assert (plain.predict(list(pixels)) == model.predict(list(pixels))).all()
    assert np.allclose(model(list(pixels)).sum(1), 1, atol=1e-5)


def test_a_wrong_value_of_calibrate_is_refused(finished: tuple[list[str], Path]) -> None:
    for word, message in (("calibrate=yes", "calibrate"), ("calibrat=true", "did you mean 'calibrate'")):
        with pytest.raises(MaskclsError, match=message):
            predict(compose(f"runs=[{finished[1]}]", word, config="predict"))
