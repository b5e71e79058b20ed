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
from google.protobuf.json_format import MessageToDict
from wandb.proto.wandb_internal_pb2 import Record
from wandbserver import KEY, Server

from maskcls.components import logger
from maskcls.components.logger import Wandb, resolve_mode
from maskcls.config.compose import compose
from maskcls.engine.runner import run
from maskcls.storage.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]


def records(folder: Path) -> list[dict[str, Any]]:
    """Read the records of the one offline file below a folder: LevelDB's log format, of wandb's own messages."""
    (file,) = folder.rglob("run-*.wandb")
    content, place, message, found = file.read_bytes(), 7, b"", []  # behind the file's own head
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no room for a head: the next block
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(MessageToDict(Record.FromString(message), preserving_proto_field_name=True))
            message = b""
    return found


def test_the_offline_file_holds_config_epochs_summary_and_group(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    words = [word for word in tiny if word != "logger=none"]
    result = command("-m", *words, "loss=focal", "loss.gamma=1.5")
    assert result.returncode == 0, result.stderr
    (place,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    text = [json.dumps(record) for record in records(place)]
    whole = "\n".join(text)
    (run,) = [
        line
        for line in text
        if (place.name in line and "run_id" in line.lower()) or "runGroup" in line or "run_group" in line
    ][:1]
    assert "sweep-" in run and "gamma" in run and "1.5" in run
    metrics = json.loads((place / "metrics.json").read_text())
    for row in (json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()):
        assert f"fold{row['fold']}/f1" in whole and repr(row["loss"])[:8] in whole
    assert "oof/f1" in whole and repr(metrics["oof"]["f1"])[:8] in whole


def test_without_a_key_the_run_is_offline_and_nothing_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert resolve_mode(lambda note: None, "auto") == "offline"
    assert resolve_mode(lambda note: None, "disabled") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode(lambda note: None, "auto") == "disabled"


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


def test_a_reproduction_is_a_group_and_its_closing_table_a_run(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    words = [word for word in tiny if word.startswith(("data.", "runs_dir", "cache_dir", "hardware"))]
    smaller = (
        "model=timm",
        "model.arch=test_efficientnet",
        "batch=16",
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
    sink = Wandb(told.append, "maskcls", None, None, [], mode)
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
    assert told == [] and (1 in exit_codes(place.path)) == failed


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
    monkeypatch.setitem(logger.LIMITS, "finish_timeout", 10)
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
        "from pathlib import Path\nfrom maskcls.components.logger import wandb_\nfrom maskcls.storage.run import Run\n"
        "sink = wandb_(print)\nsink.begin(Run(Path('runs/t-0')), {'folds': 2, 'fold': None})\n"
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
    sink = logger.wandb_(told.append, **words)
    sink.begin(Run(tmp_path / "runs" / "t-0"), {"folds": 2, "fold": None})
    sink.log({"fold": 0, "epoch": 1, "f1": 0.5})
    sink.end({})
    assert len(told) <= 1 and all("W&B logging stopped" in line and "\n" not in line for line in told)
