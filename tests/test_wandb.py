"""Weights & Biases, for real: what an offline file holds, how the mode is decided, how an outage ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import environment

from maskcls.parts.logger import settle

Command = Callable[..., subprocess.CompletedProcess[str]]


def records(folder: Path) -> list[dict[str, object]]:
    """Read the records of the one offline file below a folder, by wandb's own reader."""
    (file,) = folder.rglob("run-*.wandb")
    call = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    result = subprocess.run(call, env=environment(), capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


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
    assert settle(lambda note: None, "auto") == "offline"
    assert settle(lambda note: None, "disabled") == "disabled"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert settle(lambda note: None, "auto") == "disabled"


def test_with_a_key_and_no_way_to_the_server_the_run_is_offline_within_seconds(
    tiny: list[str], tmp_path: Path, command: Command
) -> None:
    with socket.socket() as probe:  # a port on which nobody listens
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    words = [word for word in tiny if word != "logger=none"]
    key = "k" * 40
    result = command(*words, "epochs=1", WANDB_MODE="online", WANDB_API_KEY=key, WANDB_BASE_URL=address)
    assert result.returncode == 0 and "cannot be reached" in result.stdout, result.stderr
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
