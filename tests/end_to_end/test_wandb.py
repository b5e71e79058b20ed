"""Weights & Biases, for real: what an offline file holds, how the mode is decided, how an outage ends."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from conftest import environment
from offline_records import records
from wandbserver import KEY, Server

from maskcls.components import logger
from maskcls.components.loggers import wandb_logger
from maskcls.components.loggers.base import LogContext
from maskcls.components.loggers.fold_curve import FoldCurve
from maskcls.components.loggers.wandb_logger import Wandb, resolve_mode
from maskcls.config.compose import compose
from maskcls.engine.runner import run
from maskcls.storage.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]


def history(folder: Path) -> list[dict[str, Any]]:
    """Return what the latest offline file holds of each step."""
    rows = [record["history"] for record in records(folder) if "history" in record]
    return [{"/".join(item["nested_key"]) if "nested_key" in item else item["key"]: json.loads(item["value_json"])
             for item in row["item"]} | {"step": int(row.get("step", {}).get("num", 0))} for row in rows]  # fmt: skip


def test_the_offline_file_holds_config_epochs_summary_and_group(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    words = [word for word in tiny if word != "logger=none"]
    result = command("-m", *words, "loss=smoothing", "loss.label_smoothing=0.15", "logger.images=3")
    assert result.returncode == 0, result.stderr
    (place,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    (told,) = [line for line in result.stdout.splitlines() if line.startswith("W&B")]
    (folder,) = (place / "wandb").glob(f"offline-run-*-{place.name}")
    assert told == f"W&B: offline, {folder}; `maskcls sync runs_dir={tmp_path}/runs` uploads it when the run is finished"
    text = [json.dumps(record) for record in records(place)]
    whole = "\n".join(text)
    (run,) = [line for line in text if "run_group" in line][:1]
    assert f'"run_id": "{place.name}"' in run and "sweep-" in run and "label_smoothing" in run and "0.15" in run
    assert json.dumps('"smoothing"')[1:-1] in run  # the chosen option; the section of its group has name: ce
    metrics = json.loads((place / "metrics.json").read_text())
    logged = history(place)
    epochs = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    for step, row in enumerate(epochs):
        assert logged[step]["step"] == step and logged[step][f"fold{row['fold']}/loss"] == row["loss"]
        assert logged[step]["val/epoch"] == step + 1
    assert [row["val/f1"] for row in logged[:2]] == [epochs[0]["f1"], max(row["f1"] for row in epochs[:2])]
    assert logged[-1]["val/f1"] == metrics["folds_mean"]["f1"] and len(logged) == len(epochs) + 1
    assert "oof/f1" in whole and repr(metrics["oof"]["f1"])[:8] in whole and '"max": true' in whole
    (table,) = folder.rglob("media/table/worst_mistakes*.json")
    rows = json.loads(table.read_text())["data"]
    assert len(rows) == 3 and [row[5] for row in rows] == sorted((row[5] for row in rows), reverse=True)
    assert all(row[3] != row[4] for row in rows)
    (artifact,) = [record["artifact"] for record in records(place) if "worst_mistakes" in json.dumps(record.get("artifact"))]
    pictures = [file for file in artifact["manifest"]["contents"] if file["path"].endswith(".jpg")]
    assert len(pictures) == 3 and all(wandb.Image(file["local_path"]).image.size == (48, 64) for file in pictures)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from maskcls.components.logger import LogContext, wandb_
from maskcls.storage.run import Run
run, log = Run(Path("runs/t-0")), wandb_(print, LogContext())
run.path.mkdir(parents=True, exist_ok=True)
log.begin(run, {"folds": 2, "fold": None, "epochs": 2, "select": "best"})
for text in sys.argv[2:]:
    row = {"fold": int(text[0]), "epoch": int(text[1]), "f1": 0.1 * int(text[1]), "loss": 1.0}
    run.append_epoch(row)
    log.log(row)
if sys.argv[1] == "killed":
    import time
    time.sleep(int(os.environ.get("WAIT", 1)))
    os.kill(os.getpid(), signal.SIGKILL)
log.end({})
"""


def run_script(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Log epochs in a process that is killed or ends."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=folder, env=environment(**variables), capture_output=True,
        text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("seconds", [1, pytest.param(17, marks=pytest.mark.slow)])  # wandb sends every 15 s
def test_a_killed_run_stays_one_run_without_double_steps(seconds: int, tmp_path: Path) -> None:
    with Server() as server:
        killed = run_script(tmp_path, "killed", "01", "02", "11", WAIT=str(seconds), **server.variables)
        assert killed.returncode == -9 and server.steps("t-0") == ([0, 1, 2] if seconds > 15 else []), killed.stderr
        ended = run_script(tmp_path, "ends", "11", "12", **server.variables)  # fold 1's first epoch was not saved
    assert ended.returncode == 0 and f"W&B: online, {server.address}/me/maskcls/runs/t-0" in ended.stdout, ended.stderr
    assert list(server.history) == ["t-0"] and server.steps("t-0") == [0, 1, 2, 3]
    last = [json.loads(line) for line in server.history["t-0"].values()]
    assert [(row["val/epoch"], row["val/f1"]) for row in last] == [(1, 0.1), (2, 0.2), (3, 0.2), (4, 0.2)]
    assert last[3]["fold1/f1"] == 0.2 and "WARNING" not in ended.stderr


def test_the_latest_offline_record_of_a_killed_run_has_all_steps_once_and_is_the_one_that_is_sent(
    tmp_path: Path,
) -> None:
    assert run_script(tmp_path, "killed", "01", "02", "11").returncode == -9
    time.sleep(1)  # the folders are named by the second
    assert run_script(tmp_path, "ends", "11", "12").returncode == 0
    assert [(row["step"], row["val/epoch"]) for row in history(tmp_path)] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    (tmp_path / "runs" / "t-0" / "metrics.json").write_text("{}")
    with Server() as server:
        sent = synced(tmp_path, **server.variables)
    assert sent.returncode == 0 and sent.stdout.count(" sent ") == 1, sent.stderr
    assert len(list(tmp_path.rglob("run-*.wandb"))) == 2 and server.steps("t-0") == [0, 1, 2, 3]


def test_a_finished_run_gives_its_metric_to_a_sweep_agent(
    linked: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, place = [word for word in linked[0] if word != "logger=none"], linked[1]
    run(compose(*words))
    assert not (place / "wandb").exists()  # nobody needs it again
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    wandb.teardown()
    score = run(compose(*words, "logger.weights=true", "logger.images=0"))
    wandb.teardown()
    text = json.dumps(records(place))
    assert '"run_id": "r1"' in text and '"sweep_id": "s1"' in text
    (summary,) = [record["summary"] for record in records(place) if "oof" in json.dumps(record.get("summary", ""))][-1:]
    assert {"oof/f1": repr(score)}.items() <= {item.get("key"): item["value_json"] for item in summary["update"]}.items()
    epochs = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    assert len(history(place)) == len(epochs) + 1 and history(place)[0]["val/f1"] == epochs[0]["f1"]
    assert "fold0/best.pt" in text and "worst_mistakes" not in text


def test_the_curve_of_a_run_is_its_first_fold_and_then_the_mean_of_its_finished_folds() -> None:
    curve = FoldCurve(2, selects_best=True)
    rows = [(0, 1, 0.4), (0, 2, 0.3), (1, 1, 0.1), (1, 2, 0.6), (2, 1, 0.9), (2, 2, 0.8)]
    values = [curve.add({"fold": k, "epoch": epoch, "f1": f1}) for k, epoch, f1 in rows]
    assert values == pytest.approx([0.4, 0.4, 0.4, 0.5, 0.5, (0.4 + 0.6 + 0.9) / 3])
    last = FoldCurve(2, selects_best=False)
    assert [last.add({"fold": 0, "epoch": epoch, "f1": f1}) for epoch, f1 in ((1, 0.4), (2, 0.3))] == [0.4, 0.3]
    side_by_side = FoldCurve(2, selects_best=True, folds_at_once=2)
    rows = [(0, 1, 0.2), (1, 1, 0.4), (0, 2, 0.6), (1, 2, 0.4)]
    values = [side_by_side.add({"fold": k, "epoch": epoch, "f1": f1}) for k, epoch, f1 in rows]
    assert values == pytest.approx([0.2, 0.3, 0.6, 0.5])
    by_loss = FoldCurve(3, selects_best=True, monitor="val_loss")
    rows = [(1, 0.4, 2.0), (2, 0.3, 1.0), (3, 0.5, 1.5)]  # the weights of the second epoch predict
    values = [by_loss.add({"fold": 0, "epoch": epoch, "f1": f1, "val_loss": loss}) for epoch, f1, loss in rows]
    assert values == [0.4, 0.3, 0.3]


def test_without_a_key_the_run_is_offline_and_nothing_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode(lambda note: None, "auto") == "offline"
    assert resolve_mode(lambda note: None, "disabled") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode(lambda note: None, "auto") == "disabled"


@pytest.mark.slow
def test_with_a_key_and_no_way_to_the_server_the_run_is_offline_within_seconds(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    with socket.socket() as probe:  # a port on which nobody listens
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    words = [word for word in tiny if word != "logger=none"]
    key = "k" * 40
    result = command(*words, "epochs=1", WANDB_MODE="online", WANDB_API_KEY=key, WANDB_BASE_URL=address)
    assert result.returncode == 0 and "W&B: cannot reach the server" in result.stdout, result.stderr
    assert list((tmp_path / "runs").rglob("offline-run-*"))
    assert not [path for path in (tmp_path / "runs").rglob("*.json") if key in path.read_text()]


@pytest.mark.slow
def test_a_reproduction_is_a_group_and_its_closing_table_a_run(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    words = [word for word in tiny if word.startswith(("data.", "runs_dir", "cache_dir", "hardware"))]
    smaller = (
        "model=timm",
        "model.arch=test_efficientnet",
        "batch_size=16",
        "crop.height=64",
        "crop.width=48",
        "crop.out=[32,24]",
    )
    result = command("ladder=team", "rungs=baseline", *words, *smaller, name="reproduce")
    assert result.returncode == 0, result.stderr
    text = "\n".join(json.dumps(record) for record in records(tmp_path / "runs" / "ladders"))
    assert "team-smoke" in text and "Ladder team" in text and "plots/team" in text and "table" in text
    (place,) = (tmp_path / "runs").glob("team-*")
    assert "team-smoke" in "\n".join(json.dumps(record) for record in records(place))


EPOCH = {"fold": 0, "epoch": 1, "loss": 0.5, "f1": 0.25}


def start_logger(folder: Path, told: list[str], mode: str = "offline") -> tuple[Wandb, Run]:
    """Return a logger that has started a run in a folder, and the run."""
    place = Run(folder / "runs" / "t-0")
    place.path.mkdir(parents=True)
    sink = Wandb(told.append, LogContext(), {"project": "maskcls"}, mode)
    sink.begin(place, {"fold": None, "folds": 2, "seed": 0})
    return sink, place


def exit_codes(folder: Path) -> list[int]:
    """Return the exit codes in the one record below a folder."""
    wandb.teardown()  # which writes what is still on its way
    return [record["exit"].get("exit_code", 0) for record in records(folder) if "exit" in record]


@pytest.mark.parametrize("failed", [False, True])
def test_the_record_of_a_failed_run_says_so(failed: bool, tmp_path: Path) -> None:
    told: list[str] = []
    sink, place = start_logger(tmp_path, told)
    sink.log(EPOCH)
    sink.end({}, failed)
    assert [line for line in told if "stopped" in line] == [] and (1 in exit_codes(place.path)) == failed


def synced(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `maskcls sync` in a folder."""
    call = [sys.executable, "-m", "maskcls", "sync"]
    return subprocess.run(
        call, cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=120
    )


def test_finished_runs_are_sent_later_and_once(tmp_path: Path) -> None:
    sink, place = start_logger(tmp_path, [])
    sink.log(EPOCH)
    sink.end({})
    with Server() as server:
        assert "all records of finished runs" in synced(tmp_path, **server.variables).stdout  # this one is not finished
        place.metrics_path.write_text("{}")
        first, rows = synced(tmp_path, **server.variables), server.rows
        again = synced(tmp_path, **server.variables)
    assert first.returncode == 0 and place.id in first.stdout and "sent" in first.stdout, first.stderr
    assert rows == server.rows and "mutation UpsertBucket" in server.seen and "file_stream" in " ".join(server.seen)
    assert again.returncode == 0 and "have been sent" in again.stdout
    assert KEY not in first.stdout + first.stderr


def test_without_a_key_or_a_server_nothing_is_sent_and_it_is_said_at_once(tmp_path: Path) -> None:
    sink, place = start_logger(tmp_path, [])
    sink.end({})
    place.metrics_path.write_text("{}")
    with Server() as gone:
        pass
    outcomes = {
        "no API key": {"WANDB_MODE": "online", "WANDB_API_KEY": "", "NETRC": str(tmp_path / "none")},
        "cannot reach the server": gone.variables,
    }
    for sentence, variables in outcomes.items():
        result = synced(tmp_path, **variables)
        assert (
            result.returncode == 2 and sentence in result.stderr and "1 records in runs are unsent" in result.stderr
        ), result.stderr
    assert not list(tmp_path.rglob("*.synced"))


@pytest.mark.parametrize(
    ("delay", "heard"),
    [(0.0, 0), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0.0, 1), (0.0, 2), (2.0, 1)))],
)
def test_a_server_that_dies_or_is_slow_stops_no_run_and_the_local_record_is_whole(
    delay: float, heard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    rows = [EPOCH | {"epoch": epoch} for epoch in (1, 2)]
    monkeypatch.setitem(wandb_logger.LIMITS, "finish_timeout", 10)
    with Server(delay) as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # what another test of this process has begun speaks to no server
        sink, place = start_logger(tmp_path, told, "online")
        assert sink.run is not None, told
        for row in rows[:heard]:
            sink.log(row)
    for row in rows[heard:]:  # the server has died at the start, in the middle, or before the end
        sink.log(row)
    for row in rows:
        place.append_epoch(row)  # as a run does, whatever becomes of the server
    start = time.monotonic()
    sink.end({})
    assert time.monotonic() - start < 60
    wandb.teardown()  # as the end of the process does
    assert [row["epoch"] for row in place.history()] == [1, 2]
    items = [item for record in records(place.path) if "history" in record for item in record["history"]["item"]]
    assert [item["value_json"] for item in items if item.get("nested_key") == ["fold0/epoch"]] == ["1", "2"]
    assert KEY not in " ".join(told)


def test_a_clock_that_jumps_back_gives_no_negative_times(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = itertools.count(2_000_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: next(now))
    run(compose(*tiny, "epochs=1"))
    (place,) = (tmp_path / "runs").glob("t-*")
    assert json.loads((place / "about.json").read_text())["seconds"] > 0
    rows = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in rows)


BAD_SETTINGS = {
    "a project": {"WANDB_PROJECT": "a/b"}, "a mode": {"WANDB_MODE": "nonsense"}, "a run id": {"WANDB_RUN_ID": "a/b"},
    "a server": {"WANDB_BASE_URL": "no address", "WANDB_MODE": "online"},
    "a number": {"WANDB_X_STATS_SAMPLING_INTERVAL": "often"}, "a wish": {"WANDB_RESUME": "perhaps"},
    "the package": {"PYTHONPATH": "broken"},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_SETTINGS)
def test_what_wandb_refuses_is_an_outage(kind: str, tmp_path: Path) -> None:
    variables = dict(BAD_SETTINGS[kind])
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text("raise RuntimeError('half installed')\n", encoding="utf-8")
    script = (
        "from pathlib import Path\nfrom maskcls.components.logger import LogContext, wandb_\nfrom maskcls.storage.run import Run\n"
        "sink = wandb_(print, LogContext())\nsink.begin(Run(Path('runs/t-0')), {'folds': 2, 'fold': None})\n"
        "sink.log({'fold': 0, 'epoch': 1, 'f1': 0.5})\nsink.end({})\n"
    )
    path = environment()["PYTHONPATH"]
    variables["PYTHONPATH"] = f"{tmp_path}:{path}" if kind == "the package" else path
    (tmp_path / "cwd").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "cwd", env=environment(**{"WANDB_API_KEY": "k" * 40} | variables),
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    told = done.stdout.splitlines()
    assert told and all(line.startswith("W&B") for line in told) and "W&B logging stopped" in told[-1], told


@pytest.mark.parametrize(
    "words", [{"project": "a/b"}, {"project": "p" * 200}, {"entity": "a b/c"}, {"tags": ["t" * 100]}]
)
def test_what_wandb_refuses_in_the_config_is_an_outage(words: dict[str, Any], tmp_path: Path) -> None:
    told: list[str] = []
    sink = logger.wandb_(told.append, LogContext(), **words)
    sink.begin(Run(tmp_path / "runs" / "t-0"), {"folds": 2, "fold": None})
    sink.log({"fold": 0, "epoch": 1, "f1": 0.5})
    sink.end({})
    stops = [line for line in told if "W&B: offline" not in line]
    assert len(stops) <= 1 and all("W&B logging stopped" in line and "\n" not in line for line in stops)
