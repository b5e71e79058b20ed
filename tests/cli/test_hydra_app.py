"""Flags of a Hydra command that exclude each other, and commands without sweeps: refused before any work."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from maskcls.cli import predict, run

MODES = [["-m"], ["hydra.mode=MULTIRUN"], ["--cfg", "job"], ["--info", "config"], ["-sc", "install=bash"], ["--run"]]
NAMES = ["--multirun", "hydra.mode=MULTIRUN", "--cfg", "--info", "--shell-completion", "--run"]
PAIRS = [pair for pair in itertools.permutations(range(len(MODES)), 2) if set(pair) != {0, 1}]  # both are a sweep


@pytest.mark.parametrize("pair", PAIRS)
def test_of_two_modes_none_is_obeyed(
    pair: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run", *MODES[pair[0]], "loss=ce,focal", *MODES[pair[1]]])
    with pytest.raises(SystemExit) as caught:
        run.main()
    told = capsys.readouterr()
    assert caught.value.code == 2 and told.out == "" and list(tmp_path.iterdir()) == []
    (line,) = told.err.splitlines()
    assert line.endswith(" exclude each other. Remove all but one") and all(NAMES[i] in line for i in pair)


@pytest.mark.parametrize("mode", [MODES[0], MODES[1]])
def test_predict_refuses_a_sweep_before_any_work(
    mode: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["maskcls predict", *mode, "runs=[a-1]", "blend=mean,rank"])
    with pytest.raises(SystemExit) as caught:
        predict.main()
    told = capsys.readouterr()
    assert caught.value.code == 2 and told.out == "" and list(tmp_path.iterdir()) == []
    assert told.err == "maskcls predict has no sweeps (-m). Run it once for each value, with another out=<file>\n"
