"""Help of run and predict: the same form as the help of the other commands, without heavy imports."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

from maskcls.cli.hydra_help import print_hydra_help
from maskcls.config.groups import GROUPS
from maskcls.core.config import Config
from maskcls.core.registry import Component

CODE = """
import sys
sys.argv = ["maskcls predict", "blend=mean", "-h"]
from maskcls.cli.predict import main
main()
print(sorted({"torch", "timm", "pandas"} & set(sys.modules)))
"""


def test_the_help_of_run_has_all_keys_groups_and_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    print_hydra_help(ModuleType("maskcls.cli.run", "Training."), "config")
    text = capsys.readouterr().out
    assert text.startswith("Training.\n\nOptions of maskcls run:\n  name=")
    names = {line.strip().partition("=")[0] for line in text.splitlines() if line.startswith("  ") and "=" in line}
    assert {*Config.__annotations__} <= names and {"team", "tried"} <= names and "sweeps" not in names
    assert "  loss=ce                        ce, f1, focal, smoothing\n" in text
    assert max(map(len, text.splitlines())) <= 160 and "\n  -m  " in text
    groups = [name for name, kind in Config.__annotations__.items() if kind == Component.__name__]
    assert {*groups} <= {*GROUPS}


def test_the_help_of_predict_lists_its_own_keys_and_is_ours_without_heavy_imports() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Prediction with one run") and "Options of maskcls predict:\n  runs=(required)  " in done.stdout
    assert "blend=mean" in done.stdout and "loss" not in done.stdout.replace("group=loss", "") and "\n  -m  " not in done.stdout
    assert "Hydra specific" not in done.stdout and done.stdout.endswith("[]\n")
