"""The real command on the tiny set: scored, resumable to the bit, killed, swept, spread over ranks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import environment

from maskcls.config.compose import compose
from maskcls.engine.runner import run
from maskcls.system.safe_reading import read_npz

Command = Callable[..., subprocess.CompletedProcess[str]]


def only(folder: Path) -> Path:
    """Return the one run below a folder."""
    (place,) = [path for path in folder.iterdir() if path.is_dir()]
    return place


def weights(place: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a fold's last epoch left."""
    return torch.load(place / "last.pt", weights_only=True)["model"]


def assert_same(a: Path, b: Path) -> None:
    """Assert that two runs have the same numbers, to the bit."""
    assert (a / "metrics.json").read_bytes() == (b / "metrics.json").read_bytes()
    assert (a / "oof.csv").read_bytes() == (b / "oof.csv").read_bytes()
    assert (a / "eval.csv").read_bytes() == (b / "eval.csv").read_bytes()
    for fold in ("fold0", "fold1"):
        one, two = weights(a / fold), weights(b / fold)
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture(scope="session")
def whole(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an uninterrupted run of the tiny experiment, made by the real command."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("whole")
    words = [*TINY, f"data.root={drawn}", f"runs_dir={folder}/runs", f"cache_dir={drawn}/cache"]
    call = [sys.executable, "-m", "maskcls.run", *words]
    result = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return only(folder / "runs")


def test_a_run_leaves_what_it_promises(whole: Path) -> None:
    for name in ("config.yaml", "about.json", "table.csv", "log.jsonl", "oof.csv", "eval.csv", "metrics.json"):
        assert (whole / name).stat().st_size, name
    assert (whole / "report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert list((whole / "plots").glob("*.png"))
    assert not list(whole.rglob("*.part"))
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["loss"] == {
        "name": "ce",
        "class_weights": "none",
        "label_smoothing": 0.0,
        "beta": 0.999,
    }  # defaults are filled in
    assert config["data"]["people"] == 14


def test_every_photo_is_predicted_once_by_a_model_that_never_saw_its_person(whole: Path) -> None:
    table = pd.read_csv(whole / "table.csv", dtype={"id": str, "person": str})
    oof = pd.read_csv(whole / "oof.csv", dtype={"id": str})
    train = table[table["part"] == "train"]
    assert sorted(oof["id"]) == sorted(train["id"])
    assert (train.groupby("person")["fold"].nunique() == 1).all()
    np.testing.assert_allclose(oof.filter(regex=r"^p\d+$").sum(axis=1), 1, atol=1e-5)
    for k in (0, 1):
        assert set(read_npz(whole / f"fold{k}" / "oof.npz")["ids"]) == set(train.loc[train["fold"] == k, "id"])


def test_metrics_are_those_of_the_tables(whole: Path) -> None:
    from sklearn.metrics import f1_score

    metrics = json.loads((whole / "metrics.json").read_text())
    oof, rest = pd.read_csv(whole / "oof.csv"), pd.read_csv(whole / "eval.csv")
    assert metrics["oof"]["f1"] == pytest.approx(f1_score(oof["label"], oof["guess"], average="macro"))
    assert metrics["eval"]["f1"] == pytest.approx(f1_score(rest["label"], rest["guess"], average="macro"))
    folds = [read_npz(whole / f"fold{k}" / "oof.npz")["eval_probs"] for k in (0, 1)]
    np.testing.assert_allclose(rest.filter(regex=r"^p\d+$"), np.mean(folds, axis=0), atol=1e-6)


def test_asking_again_answers_at_once_without_training(whole: Path, drawn: Path, command: Command) -> None:
    from conftest import TINY

    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    words = [*TINY, f"data.root={drawn}", f"runs_dir={whole.parent}", f"cache_dir={drawn}/cache"]
    result = command(*words)
    assert result.returncode == 0 and "out of fold" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_epoch_lines_of_a_killed_run_end_where_it_was_killed_and_asking_again_gives_the_same_bits(
    whole: Path, tiny: list[str], tmp_path: Path
) -> None:
    call = [sys.executable, "-m", "maskcls.run", *tiny]
    for fold in (0, 1):  # killed once after the first epoch of each fold, whose state is written after its line
        child = subprocess.Popen(call, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL)
        while not list(tmp_path.glob(f"runs/*/fold{fold}/last.pt")) and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it was over before it could be killed"
    place = only(tmp_path / "runs")
    assert not (place / "metrics.json").exists()
    done = subprocess.run(call, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fold 1: resuming after epoch " in done.stdout
    assert_same(whole, place)


def test_folds_asked_for_one_by_one_fill_one_directory_with_the_same_numbers(
    whole: Path, tiny: list[str], tmp_path: Path
) -> None:
    first = run(compose(*tiny, "fold=1"))
    place = only(tmp_path / "runs")
    assert 0 <= first <= 1 and not (place / "metrics.json").exists()
    run(compose(*tiny, "fold=0"))
    assert place.name == whole.name
    assert_same(whole, place)


@pytest.mark.slow
def test_workers_change_nothing(tiny: list[str], tmp_path: Path) -> None:
    words = [
        "model.arch=mobilenetv3_small_050",
        "crop.height=128",
        "crop.width=96",
        "mixing=mixup",
        "model.drop_rate=0.2",
    ]
    for workers in (0, 1, 2):
        run(compose(*tiny, *words, f"hardware.workers={workers}", f"runs_dir={tmp_path}/{workers}"))
    places = [only(tmp_path / str(workers)) for workers in (0, 1, 2)]
    assert_same(places[0], places[1])
    assert_same(places[0], places[2])


@pytest.mark.parametrize("augmentation", ["none", pytest.param("team", marks=pytest.mark.slow)])
def test_photos_that_the_device_holds_change_nothing(tiny: list[str], tmp_path: Path, augmentation: str) -> None:
    for resident in ("false", "true"):
        words = [f"augmentation={augmentation}", f"hardware.resident={resident}", f"runs_dir={tmp_path}/{resident}"]
        run(compose(*tiny, "epochs=1", *words))
    assert_same(*(only(tmp_path / resident) for resident in ("false", "true")))


def test_patience_stops_a_fold_and_a_resumed_run_does_not_go_on(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "epochs=6", "patience=1", "optimizer.lr=1e-12", "scheduler=constant"]
    run(compose(*words, "fold=0"))
    place = only(tmp_path / "runs")
    rows = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    assert 2 <= len(rows) < 6
    (place / "fold0" / "oof.npz").unlink()
    run(compose(*words, "fold=0"))
    assert len((place / "log.jsonl").read_text().splitlines()) == len(rows)


def test_the_monitored_score_chooses_the_best_epoch_and_the_last_one(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.2, 0.21])
    monkeypatch.setattr("maskcls.engine.training_loop.log_loss", lambda labels, probs: next(losses))
    run(compose(*tiny, "epochs=6", "monitor=val_loss", "patience=1", "fold=0"))
    place = only(tmp_path / "runs")
    assert torch.load(place / "fold0" / "last.pt", weights_only=True)["history"] == [-0.5, -0.2, -0.21]
    assert torch.load(place / "fold0" / "best.pt", weights_only=True)["epoch"] == [2]


@pytest.mark.slow
def test_a_multirun_gives_a_run_for_each_combination_and_none_is_trained_twice(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    sweep = ["-m", *tiny, "epochs=1", "loss=ce,focal", "head=single,triple"]
    first = command(*sweep)
    assert first.returncode == 0, first.stderr
    places = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    assert len(places) == 4 and all((place / "metrics.json").exists() for place in places)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.pt")}
    again = command(*sweep)
    assert again.returncode == 0 and "epoch" not in again.stdout
    for result in (first, again):
        assert all(f"[{i}/4] loss=" in result.stdout for i in (1, 2, 3, 4)) and "[3/4] loss=focal head=single" in result.stdout
        table = closing_rows(result.stdout)
        assert sorted(row[0] for row in table) == sorted(place.name for place in places)
        scores = [json.loads((tmp_path / "runs" / row[0] / "metrics.json").read_text()) for row in table]
        assert [row[2].split()[0] for row in table] == [f"{score['oof']['f1']:.4f}" for score in scores]
        assert [row[3] for row in table] == [f"{score['eval']['f1']:.4f}" for score in scores]
        assert [row[2] for row in table] == sorted((row[2] for row in table), reverse=True)
    (ledger,) = (tmp_path / "runs").glob("sweep-*.jsonl")
    assert ledger.read_text().count('"process"') * 2 == len(ledger.read_text().splitlines())
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.pt")}


@pytest.mark.slow
def test_joblib_runs_the_folds_of_one_run_side_by_side(
    whole: Path, tiny: list[str], tmp_path: Path, command: Command
) -> None:
    result = command("-m", *tiny, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "fold=0,1")
    assert result.returncode == 0, result.stderr
    assert_same(whole, only(tmp_path / "runs"))
    assert "[1/2] fold=0" in result.stdout and "[2/2] fold=1" in result.stdout
    for k in (0, 1):  # each line of jobs side by side has the number of its job
        assert result.stdout.count(f"fold {k} epoch") == result.stdout.count(f"[{k + 1}/2] fold {k} epoch") == 2
    assert [row[:2] for row in closing_rows(result.stdout)] == [[whole.name, "fold=0,1"]]


def closing_rows(output: str) -> list[list[str]]:
    """Return the cells of the table at the end of a sweep's output."""
    head, _, rest = output.rpartition("differs in")
    assert head, output
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in rest.splitlines() if line.startswith("│")]


@pytest.mark.slow
def test_two_ranks_share_the_work_and_agree(whole: Path, tiny: list[str], tmp_path: Path) -> None:
    call = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "maskcls.run",
        *tiny,
    ]
    done = subprocess.run(
        call, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    place = only(tmp_path / "runs")
    assert place.name == whole.name
    oof = pd.read_csv(place / "oof.csv", dtype={"id": str})
    assert oof["id"].is_unique and sorted(oof["id"]) == sorted(pd.read_csv(whole / "oof.csv", dtype={"id": str})["id"])
    assert len((place / "log.jsonl").read_text().splitlines()) == 4  # one rank logs
    assert done.stdout.count("out of fold") == 1


def test_another_label_is_another_run_and_another_image_is_refused(tiny: list[str], tmp_path: Path, people: Path, command: Command) -> None:
    import shutil

    base = tmp_path / "mine"
    shutil.copytree(people, base)
    words = [
        *[word for word in tiny if not word.startswith("data.")],
        "data=competition",
        f"data.root={base}",
        "epochs=1",
    ]
    run(compose(*words, "fold=0"))
    text = before = (base / "train" / "train.csv").read_text()
    row = text.splitlines()[1]
    text = text.replace(row, row.replace(",female,", ",male,") if ",female," in row else row.replace(",male,", ",female,"))
    (base / "train" / "train.csv").write_text(text)
    run(compose(*words, "fold=0"))
    assert len([*(tmp_path / "runs").glob("t-*")]) == 2
    (base / "train" / "train.csv").write_text(before)
    one, other = sorted(next((base / "train" / "images").iterdir()).glob("mask*.*"))[:2]
    shutil.copy(one, other)
    refused = command(*words, "fold=1")
    assert refused.returncode == 2 and "different data" in refused.stderr and "Traceback" not in refused.stderr


def test_a_finished_run_does_not_answer_for_other_data(tiny: list[str], tmp_path: Path, people: Path) -> None:
    import shutil

    from maskcls.core.errors import RunError

    base = tmp_path / "mine"
    shutil.copytree(people, base)
    words = [*[word for word in tiny if not word.startswith("data.")], "data=competition", "epochs=1"]
    score = run(compose(*words, f"data.root={people}"))
    assert run(compose(*words, f"data.root={base}")) == score  # a copy elsewhere is the same data
    next(base.glob("train/images/*/mask1.*")).unlink()
    with pytest.raises(RunError, match="different data"):
        run(compose(*words, f"data.root={base}"))


def test_a_loss_that_is_no_number_stops_the_run_with_its_epoch(tiny: list[str], command: Command) -> None:
    result = command(*tiny, "optimizer=sgd", "optimizer.lr=1e30")
    assert result.returncode == 2 and "non-finite loss" in result.stderr and "Traceback" not in result.stderr


def test_a_sweep_goes_on_past_a_job_that_fails_and_ends_with_one(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    result = command("-m", *tiny, "epochs=1", "optimizer=sgd", "optimizer.lr=1e30,1e-3")
    assert result.returncode == 1 and "[1/2] failed: fold 0, epoch 1: non-finite loss" in result.stderr
    assert "Traceback" not in result.stderr and "Error executing" not in result.stderr
    closing = result.stderr[result.stderr.index("1 of 2 jobs failed") :]
    assert "[1/2] optimizer.lr=1e+30: fold 0, epoch 1: non-finite loss" in closing and "[2/2]" not in closing
    (place,) = [place for place in (tmp_path / "runs").iterdir() if (place / "metrics.json").exists()]
    assert [row[:2] for row in closing_rows(result.stdout)] == [[place.name, "optimizer.lr=0.001"]]
