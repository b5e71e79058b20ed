"""Options of plugins: chosen, swept, listed and completed as the options that have a YAML file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from maskcls.cli import options
from maskcls.components.sampler import build_order
from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.config.overrides import named_plugins, to_hydra
from maskcls.config.validation import validate
from maskcls.core.errors import ConfigError

Command = Callable[..., subprocess.CompletedProcess[str]]
NAME = "options_of_the_tests"
CODE = '''
import numpy as np
from maskcls.components import loss, sampler

@loss.registry.register
def squared(class_counts, *, scale: float = 1.0):
    """Squared error.

    Args:
        scale: factor of the loss
    """
    return lambda logits, targets: scale * (logits.softmax(1) - targets).square().sum(1).mean()

@sampler.registry.register
def ordered(labels):
    """All rows in their order."""
    return lambda rng: np.arange(len(labels))
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the override of a plugin with a loss and a sampler; what it registers is forgotten afterwards."""
    (tmp_path / f"{NAME}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    for registry in GROUPS.values():
        monkeypatch.setattr(registry, "builders", dict(registry.builders))
    yield f"plugins=[{NAME}]"
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("line", ["P loss=squared loss.scale=2.0 sampler=ordered", "sampler=ordered loss=squared loss.scale=2.0 P"])
def test_an_option_of_a_plugin_is_chosen_as_any_other(line: str, plugin: str) -> None:
    cfg = validate(compose(*line.replace("P", plugin).split()))
    assert (cfg.loss.name, cfg.loss.params, cfg.sampler.name) == ("squared", {"scale": 2.0}, "ordered")
    assert build_order(cfg.sampler, np.zeros(3, int), np.arange(3))(np.random.default_rng(0)).tolist() == [0, 1, 2]
    assert cfg == validate(compose(plugin, "loss.name=squared", "loss.scale=2.0", "sampler.name=ordered"))


def test_a_misspelt_option_or_parameter_of_a_plugin_is_reported_with_the_nearest(plugin: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(plugin, "loss=squard", "sampler=ordered", "seed=-1")
    assert error.value.messages == ("unknown loss 'squard', did you mean 'squared'?", "seed must be at least 0, got -1")
    with pytest.raises(ConfigError, match="unknown parameter 'scal' of loss=squared, did you mean 'scale'"):
        validate(compose(plugin, "loss=squared", "loss.scal=2"))


def test_without_its_plugin_an_option_is_unknown_also_if_an_earlier_config_had_it(plugin: str) -> None:
    compose(plugin, "loss=squared")
    with pytest.raises(ConfigError, match="unknown loss 'squared'"):
        compose("loss=squared")


def test_a_plugin_cannot_replace_an_option_that_has_a_yaml_file(plugin: str, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.py").write_text(CODE.replace("def squared(", "def smoothing("))
    with pytest.raises(ConfigError) as error:
        compose(plugin, "loss=smoothing")
    assert str(error.value) == f"plugins: {NAME}: smoothing: loss=smoothing is an option of maskcls. Rename it"
    assert "smoothing" not in GROUPS["loss"].builders


def test_all_values_of_a_sweep_are_checked(plugin: str) -> None:
    assert to_hydra(["-m", plugin, "loss=ce,squared"])[2] == "loss=ce,squared"
    with pytest.raises(ConfigError, match="unknown loss 'sqare', did you mean 'squared'"):
        to_hydra(["-m", plugin, "loss=ce,squared,sqare"])


def test_plugins_are_found_in_overrides_experiments_and_their_parents(tmp_path: Path) -> None:
    folder = tmp_path / "exp"
    folder.mkdir()
    (folder / "first.yaml").write_text("defaults: [second, {override /loss: ce}, _self_]\nplugins: [a]\n")
    (folder / "second.yaml").write_text("defaults: [first]\nplugins: [b, c]\n")
    (folder / "broken.yaml").write_text("plugins: [\n")
    (folder / "empty.yaml").write_text("")
    dirs = ["--config-dir", str(tmp_path)]
    assert list(named_plugins([*dirs, "exp=first"])) == ["a", "b", "c"]
    assert list(named_plugins([*dirs, "-m", "+exp=second,broken,empty", "exp=nothing"])) == ["b", "c", "a"]
    assert list(named_plugins(["++plugins=[a,b]", "plugins=[c],[d]", "plugins=3", "loss.x=[1", "name=plugins"])) == [*"abcd"]


@pytest.mark.slow
def test_commands_know_the_options_of_a_plugin_in_the_working_directory(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine" / "exp").mkdir(parents=True)
    (tmp_path / f"{NAME}.py").write_text(CODE)
    (tmp_path / "mine" / "exp" / "squared.yaml").write_text(
        f"# @package _global_\ndefaults:\n  - override /loss: squared\nplugins: [{NAME}]\nloss: {{scale: 3.0}}\n"
    )
    printed = command("--config-dir", "mine", "exp=squared", "--cfg", "job", "-p", "loss")
    assert printed.stdout == "# @package loss\n# loss=squared\nname: squared\nscale: 3.0\n", printed.stderr
    line = f"python -m maskcls.run loss=squared plugins=[{NAME}] sampler=o"
    assert command("-sc", "query=bash", COMP_LINE=line).stdout.split() == ["sampler=ordered"]


def test_the_options_of_a_plugin_are_listed(
    plugin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["maskcls options", "group=loss", plugin])
    options.main()
    assert capsys.readouterr().out.endswith("loss=squared  Squared error\n  loss.scale=1.0  float  factor of the loss\n")


@pytest.mark.slow
def test_a_sweep_over_an_option_of_a_plugin_is_resumed_predicted_and_compared(
    tiny: list[str], command: Command, tmp_path: Path
) -> None:
    (tmp_path / f"{NAME}.py").write_text(CODE)
    plugin = f"plugins=[{NAME}]"
    swept = command("-m", *tiny, "epochs=1", plugin, "loss=ce,squared", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    assert swept.returncode == 0 and "loss=squared" in swept.stdout, swept.stderr
    runs = sorted((tmp_path / "runs").glob("t-*/metrics.json"))
    (path,) = [run.parent for run in runs if "name: squared" in (run.parent / "config.yaml").read_text()]
    before = path.joinpath("metrics.json").stat().st_mtime_ns
    again = command(*tiny, "epochs=1", plugin, "loss=squared", "loss.scale=1.0")
    assert again.returncode == 0 and path.joinpath("metrics.json").stat().st_mtime_ns == before
    assert len(list((tmp_path / "runs").glob("t-*"))) == len(runs) == 2
    assert command(f"runs=[{path}]", name="predict").returncode == 0
    compared = command("runs=" + ",".join(str(run.parent) for run in runs), name="compare")
    assert compared.returncode == 0, compared.stderr
