"""Sweeps: their jobs are checked before the first one starts, and results come back from any process."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins

from maskcls.cli import sweep as sweep_module
from maskcls.cli.hydra_app import closing_report, run_job
from maskcls.cli.run import run_directory
from maskcls.cli.sweep import JobResult, JobsFailed, Sweep, plan_sweep, raise_failures
from maskcls.config.compose import Experiments, parse_overrides
from maskcls.core.errors import ConfigError, NonFiniteError, RunError
from maskcls.reporting.sweep_table import merge_words


def planned(tmp_path: Path, *words: str) -> Sweep:
    """Return the checked sweep of a command line."""
    Plugins.instance().register(Experiments)
    line = parse_overrides(["-m", *words, f"runs_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache"])[1:]
    return plan_sweep(["-m", *line], line, "config", run_directory)


def test_the_errors_of_all_jobs_are_reported_at_once_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        planned(tmp_path, "loss=focal", "loss.gamma=1,x", "fold=0,9", "loss.gama=1")
    assert list(error.value.messages) == [
        "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?",  # of all jobs, once
        "[2/4] loss.gamma=1 fold=9: fold=9 is out of range: there are 5 folds, 0 to 4",
        "[3/4] loss.gamma=x fold=0: loss.gamma (focal): expected float, got 'x'",
    ]
    assert not (tmp_path / "runs").exists()


def test_a_sweep_knows_its_jobs_and_the_words_in_which_they_differ(tmp_path: Path) -> None:
    sweep = planned(tmp_path, "search=focal", "optimizer.lr=1e-3", "model=resnet18,effnet_b0", "name='a_b'")
    assert sweep.num_jobs == 2 * 3 and sweep.label(0) == "[1/6]"
    assert sweep.words(["++loss.gamma=1.0", "model=resnet18", "+search=focal", "name=a_b"]) == ("loss.gamma=1.0", "model=resnet18")
    assert sweep.name == planned(tmp_path, "search=focal", "optimizer.lr=1e-3", "model=resnet18,effnet_b0", "name='a_b'").name


def test_a_sweep_under_torchrun_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        planned(tmp_path, "loss=ce,focal")


@pytest.fixture
def in_job(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Return a function that lets this process be a job of a launcher."""

    def become(launcher: str, number: int) -> None:
        told = SimpleNamespace(
            launcher={"_target_": launcher}, job=SimpleNamespace(num=number), overrides=SimpleNamespace(task=["a=1", f"lr={number}"])
        )
        monkeypatch.setattr(HydraConfig, "get", lambda: told)

    return become


@pytest.mark.parametrize("launcher", ["hydra._internal.BasicLauncher", "hydra_plugins.JoblibLauncher"])
def test_a_job_that_fails_gives_its_sweeper_nought_and_its_error_to_the_end_of_the_sweep(
    launcher: str, tmp_path: Path, in_job: Callable[[str, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def diverge(cfg: Any, group: str | None) -> float:
        raise NonFiniteError("epoch 1: non-finite loss")

    def crash(cfg: Any, group: str | None) -> float:
        raise KeyError("a bug")

    here = Sweep("sweep-1", frozenset({"a"}), tmp_path / "file", 3)
    there = pickle.loads(pickle.dumps(here))  # as a launcher sends it to a process
    for number, task in enumerate((diverge, crash, lambda cfg, group: 0.5)):
        in_job(launcher, number)
        assert run_job({}, task, there, lambda cfg: tmp_path / "t") == (0.5 if number == 2 else 0.0)
    assert here.results()[2] == JobResult(2, ("lr=2",), str(tmp_path / "t"))
    with pytest.raises(RunError) as error:
        raise_failures(here)
    assert error.value.messages[1:] == ("[1/3] lr=0: epoch 1: non-finite loss", "[2/3] lr=1: KeyError: 'a bug'")
    output = capsys.readouterr()
    assert "Traceback" in output.err and output.err.count("KeyError: 'a bug'") == 2
    assert [line for line in output.out.splitlines() if line] == [f"[{i + 1}/3] lr={i}" for i in range(3)]


def test_jobs_of_one_run_are_one_row() -> None:
    assert merge_words([("loss=ce", "fold=0"), ("loss=ce", "fold=1")]) == ["loss=ce", "fold=0,1"]


def ended_process() -> int:
    """Return the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_the_ledger_tells_what_is_done_running_interrupted_failed_and_not_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps = [Sweep("sweep-1", frozenset(), tmp_path / "runs" / "sweep-1.jsonl", 6)]
    assert sweeps[0].describe() is None and not sweeps[0].results()
    for number in range(4):
        sweeps[0].begin(JobResult(number, (f"lr={number}",), None))
    sweeps[0].add(JobResult(0, ("lr=0",), "t"))
    sweeps[0].add(JobResult(1, ("lr=1",), None, "non-finite loss"))
    sweeps[0].append({"number": 2, "words": [], "process": [str(ended_process()), socket.gethostname()]})
    with sweeps[0].file.open("ab") as file:
        file.write(b'{"number": 5, "wo')  # a killed process
    reported: list[JobResult] = []
    with pytest.raises(JobsFailed) as error, closing_report(sweeps, reported.extend):
        sweeps[0].add(JobResult(4, ("lr=4",), "u"))
    assert capsys.readouterr().out == f"{sweeps[0].file}: 1 done, 1 failed, 1 interrupted, 2 not begun, 1 running\n"
    assert [job.number for job in reported] == [0, 4] and error.value.exit_code == 1
    assert error.value.messages[1:] == ("[2/6] lr=1: non-finite loss",)
    sweeps[0].add(JobResult(1, ("lr=1",), "v"))  # tried again
    with closing_report(sweeps, lambda jobs: None):
        assert [job.error for job in sweeps[0].results()] == [None, None, None]


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm", "ray", "joblib"])
def test_a_launcher_whose_package_is_missing_is_a_sentence_before_any_work(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name.split('.')[1]!r}")

    monkeypatch.setattr(sweep_module, "importlib", SimpleNamespace(import_module=refuse))
    extra = {"ray": "ray", "joblib": "sweep"}.get(launcher, "slurm")
    with pytest.raises(ConfigError, match=rf"hydra/launcher={launcher} needs .* pip install 'maskcls\[{extra}\]'"):
        planned(tmp_path, "epochs=1,2", f"hydra/launcher={launcher}")
    assert not list(tmp_path.iterdir())
