"""A finished run goes on to more epochs and ends in the bytes of a run from the start, or says why it cannot."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.engine.extension import find_shorter_run, is_same_schedule
from maskcls.engine.runner import run
from maskcls.storage.run import Run

SHORT = ("epochs=1", "scheduler=constant", "scheduler.warmup=0.5")


@pytest.fixture(scope="session")
def short(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Return the words and the folder of a run of one epoch with a constant learning rate; to be copied only."""
    from conftest import TINY

    folder = tmp_path_factory.mktemp("short")
    words = [*TINY, f"data.root={drawn}", f"cache_dir={drawn}/cache", *SHORT]
    run(compose(*words, f"runs_dir={folder}"))
    (path,) = folder.glob("t-*")
    return words, path


@pytest.fixture
def words(short: tuple[list[str], Path], tmp_path: Path) -> list[str]:
    """Return the words of a run of two epochs beside a copy of the run of one, made of hard links."""
    shutil.copytree(short[1], tmp_path / "runs" / short[1].name, copy_function=os.link)
    return [*short[0], "epochs=2", f"runs_dir={tmp_path}/runs"]


def run_of(*words: str) -> Run:
    """Return the directory of a config."""
    return Run.of(validate(compose(*words)))


def test_an_extended_run_ends_in_the_bytes_of_a_run_from_the_start(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*words))
    told = capsys.readouterr().out
    short, extended = run_of(*words, "epochs=1"), run_of(*words)
    assert f"fold 1: continuing {short.id}, trained for 1 epochs" in told and "fold 0 epoch 1/2" not in told
    assert json.loads(extended.about_path.read_text())["extends"] == short.id
    run(compose(*words, f"runs_dir={tmp_path}/whole"))
    whole = run_of(*words, f"runs_dir={tmp_path}/whole")
    for name in ("metrics.json", "oof.csv", "eval.csv", "fold0/oof.npz", "fold1/oof.npz"):
        assert (whole.path / name).read_bytes() == (extended.path / name).read_bytes(), name
    timing = {"seconds", "images_per_second"}
    numbers = [
        [{k: v for k, v in row.items() if k not in timing} for row in one.history()] for one in (whole, extended)
    ]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["scheduler=plateau", "scheduler.patience=0", "ema=0.6", "select=last", "augmentation=heavy"],
        ["scheduler=multistep", "scheduler.milestones=[1]", "patience=1", "optimizer=sgd", "mixing=mixup"],
        ["scheduler=step", "scheduler.step_size=1", "loss=focal", "sampler=weighted", "hardware.folds_at_once=2"],
    ],
)
def test_every_extension_ends_in_the_same_bytes(options: list[str], tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, *options]
    run(compose(*words, "epochs=2"))
    run(compose(*words, "epochs=4"))
    run(compose(*words, "epochs=4", f"runs_dir={tmp_path}/whole"))
    extended, whole = run_of(*words, "epochs=4"), run_of(*words, "epochs=4", f"runs_dir={tmp_path}/whole")
    assert "extends" in json.loads(extended.about_path.read_text())
    for name in ("metrics.json", "oof.csv", "eval.csv", "fold0/oof.npz", "fold1/oof.npz"):
        assert (whole.path / name).read_bytes() == (extended.path / name).read_bytes(), name


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("state", "fold0/last.pt is missing"),
        ("software", "it was trained with other software (code 0 → "),
        ("data", "it was trained on other data"),
        ("broken", "cannot read checkpoint"),
    ],
)
def test_what_cannot_be_extended_is_trained_from_the_start(
    harm: str, reason: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    short = run_of(*words, "epochs=1")
    if harm in ("state", "broken"):
        short.state_path(0).unlink()
        if harm == "broken":
            short.state_path(0).write_bytes(b"x")
    else:
        facts = json.loads(short.sessions_path(0).read_text())
        facts["sessions"][0][{"software": "code", "data": "data"}[harm]] = "0"
        short.sessions_path(0).unlink()
        short.sessions_path(0).write_text(json.dumps(facts))
    run(compose(*words, "fold=0"))
    told = capsys.readouterr().out
    assert f"{short.id} has fewer epochs, but " in told and reason in told and "Training from the start" in told
    assert "fold 0 epoch 1/2" in told


@pytest.mark.parametrize(
    ("scheduler", "same"),
    [
        ("constant", True), ("step scheduler.step_size=2", True), ("multistep scheduler.milestones=[1,3]", True),
        ("plateau scheduler.patience=0", True), ("constant scheduler.warmup=1.5", True), ("cosine", False), ("onecycle", False),
    ],
)  # fmt: skip
def test_a_schedule_that_depends_on_the_number_of_epochs_is_noticed(scheduler: str, same: bool) -> None:
    cfg = validate(compose("name=t", "epochs=8", *f"scheduler={scheduler}".split()))
    assert is_same_schedule(cfg, 4, 5, [0.1, 0.3, 0.2, 0.2]) is same


def test_only_a_finished_run_that_differs_in_epochs_alone_is_extended(words: list[str], tmp_path: Path) -> None:
    def found(*options: str) -> Run | None:
        return find_shorter_run(validate(compose(*words, *options)), run_of(*words, *options))

    short = run_of(*words, "epochs=1")
    assert (found() or short).id == (found("epochs=9") or run_of(*words)).id == short.id
    assert not found("epochs=1") and not found("seed=1") and not found("name=other") and not found("scheduler.warmup=0")
    short.metrics_path.unlink()
    assert found() is None
