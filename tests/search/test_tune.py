"""Searches whose trials are runs: exactly so many, resumed, answered by runs that exist, stopped early, recorded if failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from offline_records import records

from maskcls.components.loggers.base import LogContext
from maskcls.config.compose import compose
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError, NonFiniteError
from maskcls.engine.runner import run, run_experiment
from maskcls.search import trials as trials_module
from maskcls.search.outcome import Outcome
from maskcls.search.plan import Search, TuneConfig, plan_search
from maskcls.search.study import PARTS, build_pruner, claim, hold, lock_path, open_study, running_trials
from maskcls.search.trials import part_scores
from maskcls.search.tune import tune
from maskcls.storage.run import Run


def options(*words: str, n_trials: int = 3, **changed: Any) -> TuneConfig:
    """Return the options of a random search without pruning, as changed."""
    given = {"search": None, "method": "random", "search_seed": 0, "prune": False, "storage": None, "retry": False}
    return TuneConfig(n_trials=n_trials, overrides=words, **(given | changed))


def study_of(config: TuneConfig) -> tuple[Search, optuna.Study]:
    """Return a search and its study."""
    search = plan_search(config)
    return search, open_study(search)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the runs that trials train, in order; each trial still trains."""
    ids: list[str] = []

    def record(cfg: Config, context: LogContext, should_stop: Any) -> float:
        if not (run := Run.of(cfg)).is_done:
            ids.append(run.id)
        return run_experiment(cfg, context, should_stop)

    monkeypatch.setattr(trials_module, "run_experiment", record)
    return ids


def test_a_search_is_exactly_so_many_runs_and_asked_again_trains_only_the_difference(
    tiny: list[str], tmp_path: Path, trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand = compose(*tiny, "epochs=1", "optimizer.lr=0.001", "name=mine")
    run(by_hand)
    words = (*tiny, "epochs=1", "optimizer.lr=0.001,0.01,1e30")
    tune(options(*words, n_trials=6, method="grid"))  # three combinations
    told = capsys.readouterr()
    assert len(trained) == 2 and "3 of 3" not in told.out and "trial 2 failed" in told.err
    search, study = study_of(options(*words, method="grid"))
    found = [(trial.state.name, trial.user_attrs["run"].split("-")[0]) for trial in study.trials]
    assert found == [("COMPLETE", "mine"), ("COMPLETE", "t"), ("FAIL", "t")]
    assert "non-finite loss" in study.trials[2].user_attrs["error"]
    page = (search.folder / "search.html").read_text(encoding="utf-8")
    assert "optimizer.lr" in page and "non-finite" in page and "http" not in page.replace("http-equiv", "")
    tune(options(*words, n_trials=3, method="grid"))
    assert len(trained) == 2 and "3 of 3 trials exist" in (told := capsys.readouterr()).out
    best = max(trial.value for trial in study.trials if trial.state.name == "COMPLETE")
    assert f"out-of-fold F1 {best:.4f}" in told.out and "python -m maskcls.run" in told.out
    tune(options(*words, n_trials=3, method="grid", retry=True))
    tune(options(*words, n_trials=3, method="grid", retry=True))
    assert len(trained) == 3 and len(study.trials) == 4  # a failed trial is tried once more, and only once


@pytest.mark.slow
def test_a_higher_number_adds_the_difference_and_another_space_is_told(
    tiny: list[str], trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for n_trials in (1, 2):
        tune(options(*tiny, "epochs=1", "optimizer.lr=interval(0.001,0.01)", n_trials=n_trials))
        assert len(trained) == n_trials and "differs from" not in capsys.readouterr().out
    tune(options(*tiny, "epochs=1", "clip_grad=1", "optimizer.lr=interval(0.001,0.02)", n_trials=1))
    told = capsys.readouterr().out
    assert "space.optimizer.lr.high 0.01 → 0.02; settings.clip_grad None → 1" in told, told


class Stop(BaseException):
    """A process that ends."""


def test_a_trial_of_a_process_that_ended_is_taken_up_with_its_values_and_a_running_one_is_left(tiny: list[str]) -> None:
    from contextlib import ExitStack

    search, study = study_of(options(*tiny, "optimizer.lr=interval(0.001,0.01)", n_trials=2))
    with ExitStack() as first, ExitStack() as second, ExitStack() as third:
        one, other = claim(search, study, first), claim(search, study, second)
        assert one and other and (one.number, other.number) == (0, 1) and one.params != other.params
        assert claim(search, study, third) is None and len(running_trials(study)) == 2
        first.close()  # as the end of its process does
        again = claim(search, study, third)
        assert again and again.number == 0 and again.params == one.params
        assert claim(search, study, first) is None
        study.tell(again, 0.5)
        third.close()
        assert claim(search, study, first) is None  # it is finished, though nobody holds it


def test_half_a_line_of_a_killed_process_is_cut_off(tiny: list[str]) -> None:
    search, study = study_of(options(*tiny, "epochs=1,2"))
    study.ask()
    journal = search.folder / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole[: len(whole) // 3])
    _, again = study_of(options(*tiny, "epochs=1,2"))
    again.ask()
    assert len(again.trials) == 2 and all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize(("error", "ends"), [
    (NonFiniteError("non-finite loss"), False), (ConfigError("wrong"), False), (KeyError("a bug"), False),
    (DataError("a.jpg: unreadable"), True), (OSError(28, "No space left on device", "runs"), True), (Stop(), True),
])  # fmt: skip
def test_an_error_of_a_trial_is_recorded_and_one_of_the_machine_ends_the_search_to_be_resumed(
    error: BaseException, ends: bool, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> float:
        raise error

    monkeypatch.setattr(trials_module, "run_experiment", fail)
    config = options(*tiny, "optimizer.lr=interval(0.001,0.01)", n_trials=2)
    if ends:
        with pytest.raises(type(error)):
            tune(config)
        assert [trial.state.name for trial in study_of(config)[1].trials] == ["RUNNING"]
        return
    tune(config)
    states = [(trial.state.name, trial.user_attrs["error"]) for trial in study_of(config)[1].trials]
    assert states == [("FAIL", "KeyError: 'a bug'" if isinstance(error, KeyError) else str(error))] * 2
    assert "no trial is finished" in capsys.readouterr().out


@pytest.mark.slow
def test_a_lock_names_no_finished_trial_and_a_database_serves_as_storage(tiny: list[str], tmp_path: Path) -> None:
    config = options(*tiny, "epochs=1", "optimizer.lr=0.001,0.01", n_trials=1, storage=f"sqlite:///{tmp_path}/s.db")
    tune(config)
    search, study = study_of(config)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] and not (search.folder / "journal.log").exists()
    with hold(lock_path(search, 0)):
        assert not running_trials(study)


def test_parts_of_a_fold_are_of_whole_people_and_the_same_for_every_run(finished: tuple[list[str], Path]) -> None:
    place = Run(finished[1])
    scores = part_scores(place, 0)
    people = place.table.query("fold == 0 and part == 'train'")["person"].nunique()
    assert len(scores) == people // 2 <= PARTS and scores == part_scores(place, 0) and all(0 <= one <= 1 for one in scores)


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each part of a fold score by the learning rate of its run: high rates lose everywhere."""

    def score(place: Run, k: int) -> list[float]:
        rate = place.config["optimizer"]["lr"]
        return list(np.linspace(0.8, 0.9, PARTS) - 20 * rate)

    monkeypatch.setattr(trials_module, "part_scores", score)


@pytest.mark.usefixtures("losing")
def test_a_trial_that_surely_loses_on_the_best_ones_people_stops_keeps_its_folds_and_is_finished_by_hand(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = options(*tiny, "epochs=1", "optimizer.lr=0.001,0.01", n_trials=2, method="grid", prune=True)
    tune(config)
    told = capsys.readouterr().out
    assert "trial 1 stopped" in told and "1 trials finished, 1 stopped: 3 folds" in told
    search, study = study_of(config)
    stopped = Run(tmp_path / "runs" / study.trials[1].user_attrs["run"])
    assert study.trials[1].state.name == "PRUNED" and stopped.fold_is_done(0) and not stopped.fold_is_done(1)
    before = stopped.fold_predictions_path(0).stat().st_mtime_ns
    run(compose(*tiny, "epochs=1", "optimizer.lr=0.01"))
    assert stopped.is_done and stopped.fold_predictions_path(0).stat().st_mtime_ns == before
    outcome = Outcome(search, study)
    assert outcome.best and outcome.best.trial.number == 0 and outcome.keys == ["optimizer.lr"]


class Report:
    """A trial that holds what is reported to it."""

    def __init__(self, best: Sequence[float]) -> None:
        self.study = optuna.create_study(direction="maximize", pruner=build_pruner())
        trial = self.study.ask()
        for step, value in enumerate(best):
            trial.report(value, step)
        self.study.tell(trial, float(np.mean(best)))
        self.trial = self.study.ask()


@pytest.mark.parametrize(("shift", "folds"), [(-0.1, 1), (0.0, 5), (0.1, 5)])
def test_the_first_fold_is_never_cut_a_worse_trial_stops_after_it_and_an_equal_or_better_one_goes_on(shift: float, folds: int) -> None:
    rng = np.random.default_rng(0)
    best = rng.normal(0.6, 0.05, 5 * PARTS)
    values = best + shift + rng.normal(0, 0.02, 5 * PARTS) * (shift != 0)
    trial, stopped_after = Report(best.tolist()).trial, 5
    for step, value in enumerate(values):
        trial.report(float(value), step)
        if step % PARTS == PARTS - 1 and trial.should_prune():
            stopped_after = (step + 1) // PARTS
            break
    assert stopped_after == folds


@pytest.mark.slow
def test_the_trials_are_a_group_of_wandb_and_the_closing_table_one_of_its_runs(tiny: list[str], tmp_path: Path) -> None:
    words = [word for word in tiny if word != "logger=none"]
    config = options(*words, "epochs=1", "optimizer.lr=0.001,0.01", n_trials=2, method="grid")
    tune(config)
    search, study = study_of(config)
    for folder in (search.folder, *(tmp_path / "runs" / trial.user_attrs["run"] for trial in study.trials)):
        assert f'"run_group": "{search.id}"' in json.dumps(records(folder)), folder
    assert "plots/history" in json.dumps(records(search.folder))
    (file,) = search.folder.rglob("media/table/trials*.json")
    table = json.loads(file.read_text())
    scores = sorted((trial.value for trial in study.trials), reverse=True)
    assert "optimizer.lr" in table["columns"] and len(table["data"]) == len(scores) == 2
    assert all(row[2].startswith(f"{score:.4f}") for row, score in zip(table["data"], scores, strict=True)), table
