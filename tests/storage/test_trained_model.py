"""What predict takes besides a finished run: unfinished runs, the folder of a fold, checkpoint files, also moved ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from maskcls import load
from maskcls.config.compose import compose
from maskcls.core.errors import DataError, MaskclsError, RunError
from maskcls.inference.predict import predict
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model
from maskcls.system.files import write_text

COLUMNS = [f"p{i}" for i in range(18)]


@pytest.fixture
def run(linked: tuple[list[str], Path]) -> Run:
    """Return a run of one epoch whose second fold was stopped after that epoch, so that no metrics are written."""
    one = Run(linked[1])
    one.metrics_path.unlink()
    one.checkpoint_path(1).rename(one.epoch_path(1, 1))
    return one


def fold_eval(run: Run, *folds: int) -> np.ndarray:
    """Return the mean of the evaluation probabilities that folds have stored."""
    return np.mean([run.fold_predictions(k).eval.probs for k in folds], axis=0)


def images(run: Run, people: Path) -> list[Path]:
    """Return the files of the evaluation set."""
    return [people / name for name in run.eval_table["id"]]


def test_an_unfinished_run_predicts_with_what_it_has(
    run: Run, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict(compose(f"runs=[{run.path}]", "hardware=cpu", config="predict")) is None
    told = capsys.readouterr().out
    assert f"{run.id}: run is not finished: 2 of 2 folds, epoch 1 of 1; no out-of-fold score" in told
    written = pd.read_csv("probabilities.csv")[COLUMNS].to_numpy()
    np.testing.assert_allclose(written, fold_eval(run, 0, 1), atol=1e-5)
    shutil.rmtree(run.fold_dir(0))
    np.testing.assert_allclose(load(run.path)(images(run, people)), fold_eval(run, 1), atol=1e-5)
    assert "1 of 2 folds, epoch 1 of 1; no out-of-fold score" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fold0", "fold0/best.pt", "fold0/last.pt", "fold1", "fold1/epoch1.pt"])
def test_a_fold_and_each_of_its_files_predict_as_the_fold_did(
    name: str, run: Run, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = load(f"{run.id}/{name}", run.path.parent)(images(run, people))
    np.testing.assert_allclose(predicted, fold_eval(run, int(name[4])), atol=1e-5)
    assert f"{run.id}/{name}: 1 of 2 folds, epoch 1 of 1; no out-of-fold score" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_a_checkpoint_works_outside_its_run(
    name: str, run: Run, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "elsewhere" / f"my_{name}"
    moved.parent.mkdir()
    shutil.copy(run.fold_dir(0) / name, moved)
    np.testing.assert_allclose(load(moved)(images(run, people)), fold_eval(run, 0), atol=1e-5)
    assert f"my_{name}: one checkpoint outside a run directory, epoch 1; no out-of-fold" in capsys.readouterr().out
    with pytest.raises(DataError, match="is outside a run directory, so its evaluation set is unknown"):
        predict(compose(f"runs=[{moved}]", "hardware=cpu", config="predict"))


def test_a_folder_of_a_fold_works_outside_its_run(run: Run, people: Path, tmp_path: Path) -> None:
    shutil.copytree(run.fold_dir(1), tmp_path / "fold1")
    np.testing.assert_allclose(load(tmp_path / "fold1")(images(run, people)), fold_eval(run, 1), atol=1e-5)


def test_the_weights_that_predict_are_the_moving_average(run: Run, tmp_path: Path) -> None:
    content = torch.load(run.state_path(0), weights_only=True)
    torch.save(content | {"ema": {key: value + 1 for key, value in content["model"].items()}}, tmp_path / "last.pt")
    (found,) = open_model(tmp_path / "last.pt").contents
    assert all(torch.equal(found["model"][key], value + 1) for key, value in content["model"].items())


@pytest.mark.parametrize(("select", "expected"), [("best", 2), ("last", 3)])
def test_the_best_epoch_so_far_is_taken_or_the_last(select: str, expected: int, run: Run) -> None:
    for epoch in (2, 3):
        shutil.copy(run.epoch_path(1, 1), run.epoch_path(1, epoch))
    lines = [
        {"fold": k, "epoch": e, "f1": [[0.9, 0.1, 0.1], [0.3, 0.5, 0.5]][k][e - 1]} for k in (0, 1) for e in (1, 2, 3)
    ]
    write_text(run.history_path, "\n".join(map(json.dumps, lines)))
    write_text(run.config_path, run.config_path.read_text().replace("select: best", f"select: {select}"))
    assert open_model(run.path).files == [run.checkpoint_path(0), run.epoch_path(1, expected)]


def test_a_concluded_fold_that_is_trained_on_predicts_with_its_best_epoch(run: Run) -> None:
    shutil.copy(run.epoch_path(1, 1), run.checkpoint_path(1))
    shutil.copy(run.epoch_path(1, 1), run.epoch_path(1, 2))
    write_text(run.history_path, "\n".join(json.dumps({"fold": 1, "epoch": e, "f1": 0.1 * e}) for e in (1, 2)))
    assert open_model(run.path).files[1] == run.checkpoint_path(1), "the fold is finished"
    run.fold_predictions_path(1).unlink()
    assert open_model(run.path).files[1] == run.epoch_path(1, 2)
    for epoch in (1, 2):
        run.epoch_path(1, epoch).unlink()
    assert open_model(run.path).files[1] == run.checkpoint_path(1), "the fold was killed after its last epoch"


@pytest.mark.parametrize("name", ["fold01", "fold00", "fold１", "fold-1", "fold+1", "fold1 ", "fold10000", "fold"])
def test_a_name_that_no_fold_has_is_not_taken_for_one(name: str, run: Run) -> None:
    shutil.copytree(run.fold_dir(1), run.path / name)
    with pytest.raises(RunError, match="fold"):
        open_model(run.path / name)
    assert open_model(run.path / name / "epoch1.pt").run is None
    assert open_model(run.path).files == [run.checkpoint_path(0), run.epoch_path(1, 1)]


def test_metrics_that_cannot_be_read_are_not_taken_for_an_unfinished_run(run: Run) -> None:
    run.metrics_path.symlink_to(run.path / "nowhere.json")
    with pytest.raises(RunError, match=r"cannot read .*metrics\.json"):
        load(run.path)


def test_what_has_no_weights_is_refused(run: Run, tmp_path: Path) -> None:
    content = torch.load(run.state_path(0), weights_only=True)
    old = {key: content[key] for key in ("model", "optimizer", "scaler", "history", "step", "updates", "ema")}
    torch.save(old, tmp_path / "last.pt")
    with pytest.raises(RunError, match=r"by an older version, without its preprocessing. Use best.pt or epoch"):
        load(tmp_path / "last.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(RunError, match=r"other.pt is not a maskcls checkpoint: missing keys model_word"):
        load(tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"x")
    with pytest.raises(RunError, match=r"cannot read checkpoint .*broken.pt \(.*Copy it again from its run$"):
        load(tmp_path / "broken.pt")
    for k in (0, 1):
        shutil.rmtree(run.fold_dir(k))
        run.fold_dir(k).mkdir()
    with pytest.raises(RunError, match=r"is not finished and has no weights yet. Run it again to resume"):
        load(run.path)
    with pytest.raises(RunError, match=r"fold1 has no weights \(best.pt"):
        load(run.fold_dir(1))
    with pytest.raises(MaskclsError, match=r"/fold7 does not exist: expected the folder of a run, or its name in "):
        load(run.path / "fold7")
