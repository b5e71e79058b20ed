"""Loggers beside W&B: the same epochs, each once, also after a kill; several at once; a missing package is said first."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from maskcls.components import logger as loggers
from maskcls.components.loggers.base import LogContext
from maskcls.config.compose import compose
from maskcls.config.validation import to_container, validate
from maskcls.core.errors import ConfigError
from maskcls.engine.runner import run
from maskcls.storage.run import Run

CONFIG: dict[str, Any] = {"fold": None, "folds": 2, "epochs": 2, "select": "best", "loss": {"name": "ce", "label_smoothing": 0.1}}
CONTEXT = LogContext("sweep-1", {"loss": "smoothing"})
SCORES = {"f1": 0.5, "accuracy": 0.25}
METRICS: dict[str, Any] = {"oof": SCORES, "eval": None, "folds_mean": {"f1": 0.5}}


def epoch(k: int, number: int) -> dict[str, Any]:
    """Return the numbers of an epoch."""
    return {"fold": k, "epoch": number, "loss": 1.0 / number, "f1": 0.1 * number + k}


def log_with_a_kill(told: list[str], folder: Path, name: str, **options: Any) -> Run:
    """Log a run of two folds that was killed after it had logged an epoch and before it had saved it."""
    run = Run(folder / "runs" / "t-0")
    run.path.mkdir(parents=True)
    for rows, ends in (([(0, 1), (0, 2), (1, 1)], False), ([(1, 1), (1, 2)], True)):
        logger = loggers.registry.builders[name](told.append, CONTEXT, **options)
        logger.begin(run, CONFIG)
        for k, number in rows:
            run.append_epoch(epoch(k, number))
            logger.log(epoch(k, number))
        if ends:
            logger.end(METRICS)
    return run


def test_csv_has_each_epoch_once_for_pandas(tmp_path: Path) -> None:
    run = log_with_a_kill([], tmp_path, "csv")
    rows = pd.read_csv(run.path / "metrics.csv").to_dict("records")
    assert rows == [epoch(k, number) for k in (0, 1) for number in (1, 2)]


def test_csv_of_a_run_that_another_logger_has_finished_has_its_epochs(tmp_path: Path) -> None:
    run = Run(tmp_path / "t-0")
    run.path.mkdir()
    run.append_epoch(epoch(0, 1))
    again = loggers.csv(print, CONTEXT).of_finished()
    assert again
    again.begin(run, CONFIG)
    assert pd.read_csv(run.path / "metrics.csv").to_dict("records") == [epoch(0, 1)]


def test_a_run_writes_the_file_of_a_logger_among_several(tiny: list[str], tmp_path: Path) -> None:
    words = [word for word in tiny if word != "logger=none"]
    run(compose(*words, "epochs=1", "logger=several", "logger.names=[csv,wandb]", "logger.options.wandb.mode=disabled"))
    (place,) = (tmp_path / "runs").glob("t-*")
    rows, table = Run(place).history(), pd.read_csv(place / "metrics.csv", dtype=str)  # pandas before 3.1 rounds the last digit
    assert len(table) == 2 and [float(f1) for f1 in table["f1"]] == [row["f1"] for row in rows]
    assert list(table.columns) == list(rows[0])


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a test where an optional package is not installed."""
    reason = f"package {package} is not installed: pip install 'maskcls[loggers]'"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=reason)


@needs("tensorboard")
def test_tensorboard_has_each_epoch_once_and_the_closing_scores(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told: list[str] = []
    run = log_with_a_kill(told, tmp_path, "tensorboard")
    for k in (0, 1):
        events = EventAccumulator(str(run.path / "tensorboard" / f"fold{k}"))
        events.Reload()
        values = [(event.step, round(event.value, 4)) for event in events.Scalars("f1")]
        assert values == [(number, round(0.1 * number + k, 4)) for number in (1, 2)]
    closing = EventAccumulator(str(run.path / "tensorboard"))
    closing.Reload()
    assert closing.Scalars("oof/f1")[0].value == 0.5
    assert "_hparams_/session_start_info" in closing.summary_metadata
    assert told == [f"TensorBoard: tensorboard --logdir {run.path.parent}"] * 2


@needs("mlflow")
@pytest.mark.filterwarnings("ignore")  # of mlflow about itself
def test_mlflow_has_one_run_with_each_epoch_once(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    told: list[str] = []
    run = log_with_a_kill(told, tmp_path, "mlflow")
    assert [line for line in told if "stopped" in line] == []
    client = MlflowClient(tracking_uri=f"sqlite:///{run.path.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("maskcls")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == "t-0" and found.info.status == "FINISHED" and found.data.tags["group"] == "sweep-1"
    assert found.data.params["loss.label_smoothing"] == "0.1" and found.data.params["choices.loss"] == "smoothing"
    for k in (0, 1):
        values = [(metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, f"fold{k}/f1")]
        assert values == [(number, epoch(k, number)["f1"]) for number in (1, 2)]
    assert found.data.metrics["oof/f1"] == 0.5


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_said_before_any_work(
    name: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"logger={name} needs package {name}\. Run pip install 'maskcls\[loggers\]'"):
        run(compose(*[word for word in tiny if word != "logger=none"], "logger=several", f"logger.names=[csv,{name}]"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logger.names=[wandb,cvs]"], "logger.names (several): unknown logger 'cvs', did you mean 'csv'?"),
        (["logger.names=[csv,csv]"], "logger.names (several): expected different loggers, such as [wandb,csv], got [csv,csv]"),
        (
            ["logger.options.wandb.projekt=x"],
            "logger.options (several): unknown parameter 'projekt' of logger=wandb, did you mean 'project'?",
        ),
        (["logger.options.vandb.project=x"], "logger.options (several): unknown logger 'vandb', did you mean 'wandb'?"),
    ],
)
def test_wrong_loggers_of_several_are_errors_of_the_config(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(to_container(compose("name=t", "logger=several", *words)))
    assert list(error.value.messages) == [message]


def test_a_list_of_loggers_names_the_words_for_it() -> None:
    with pytest.raises(ConfigError, match=r"use logger=several logger.names=\[wandb,csv\]"):
        compose("name=t", "logger=[wandb,csv]")


def test_parameters_of_a_logger_that_is_not_chosen_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"logger.options.wandb: logger.names=\[csv\] does not contain wandb"):
        loggers.several(print, CONTEXT, names=["csv"], options={"wandb": {"project": "x"}})
