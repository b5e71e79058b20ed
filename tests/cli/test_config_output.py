"""--cfg job: the complete config of every option, as YAML that is read back as the same config."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from maskcls.cli.config_output import output_flags, print_config
from maskcls.config.compose import compose
from maskcls.config.config_folders import list_options, resource_dir
from maskcls.config.groups import GROUPS
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.schema import option_fields

Command = Callable[..., subprocess.CompletedProcess[str]]
REQUIRED = {
    "data=competition": ["data.root=people"], "data=table": ["data.file=t.csv"], "extra=table": ["extra.file=t.csv"],
    "extra=folder": ["extra.root=people"], "overlay=masks": ["extra=folder", "extra.root=people"], "pseudo=confident": ["pseudo.run=people"], "model=timm": ["model.arch=resnet18"],
    "optimizer=timm": ["optimizer.opt=lion"], "pseudo=distil": ["pseudo.runs=[people]"],
    "task=attributes": ["task.attributes=[{name: a, values: [x, y]}]", "data=table", "data.file=t.csv"],
}  # fmt: skip
OPTIONS = [f"{group}={option}" for group, options in list_options(resource_dir("conf")).items() if group != "blend"
           for option in sorted(options)]  # fmt: skip


@pytest.mark.parametrize("option", [*OPTIONS, "team=heads", "madgrad=clahe"])
def test_the_printed_config_of_every_option_is_complete_and_read_back_as_the_same_config(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "t.csv").write_text("path,label\n")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people" / "eval.csv").touch()
    cfg = compose(option, *REQUIRED.get(option, []))
    print_config(cfg, ["--cfg=job"], is_run=True)
    text = capsys.readouterr().out
    assert f"# {option}\n" in text
    content = yaml.safe_load(text)
    again, checked = validate(content), validate(cfg)
    names = checked.task.build().names
    assert again.to_dict() == checked.to_dict() and again.hashed_items() == checked.hashed_items()
    assert list(content) == list(Config.__dataclass_fields__)
    for group in content.keys() & GROUPS.keys():
        assert content[group].keys() == {"name", *option_fields(GROUPS[group].builders[content[group]["name"]], names)}


def test_an_option_has_its_word_above_it_also_where_the_name_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    print_config(compose("loss=smoothing", "sampler.name=weighted", "winner=recipe"), ["--cfg=job"], is_run=True)
    text = capsys.readouterr().out
    assert text.startswith("# winner=recipe\nname: ")
    assert "# loss=smoothing\nloss:\n  name: ce\n" in text and "# sampler=weighted\nsampler:\n" in text


def test_a_package_is_a_part_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    cfg = compose("loss=focal")
    for package, start in [
        ("loss", "# @package loss\n# loss=focal\nname: focal\ngamma: 2.0\n"),
        ("crop.height", "# @package crop.height\n80\n"),
        ("_global_", "name: effnet_lite0\nseed: 0\n"),
    ]:
        print_config(cfg, ["--cfg=job", f"--package={package}", "--resolve"], is_run=True)
        assert capsys.readouterr().out.startswith(start)
    with pytest.raises(ConfigError, match=r"^unknown package 'los', did you mean 'loss'\?$"):
        print_config(cfg, ["--cfg=job", "--package=los"], is_run=True)


def test_a_config_with_errors_is_printed_before_they_are_raised(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)^model.arch.*\nunknown parameter 'gama' of loss=focal"):
        print_config(compose("loss=focal", "loss.gama=3", "model=timm"), ["--cfg=job"], is_run=True)
    content = yaml.safe_load(capsys.readouterr().out)
    assert content["loss"]["gama"] == 3 and content["loss"]["gamma"] == 2.0 and content["model"]["arch"] == "???"


def test_only_the_flags_of_cfg_job_are_taken_from_hydra() -> None:
    assert output_flags(["--resolve", "--cfg=job", "--config-dir=c"]) == ["--resolve", "--cfg=job"]
    assert output_flags(["--cfg=hydra", "--package=a"]) == output_flags(["--cfg=job", "--multirun"]) == []


@pytest.mark.slow
def test_the_command_prints_the_config_of_a_run_or_of_a_prediction_and_leaves_no_trace(
    command: Command, tmp_path: Path
) -> None:
    printed = command("loss=focal", "--cfg", "job", "epochs=2")
    assert printed.returncode == 0 and printed.stderr == ""
    assert yaml.safe_load(printed.stdout)["loss"]["gamma"] == 2.0 and "# loss=focal\n" in printed.stdout
    predict = command("--cfg", "job", "blend=fitted", name="predict")
    assert predict.returncode == 0 and yaml.safe_load(predict.stdout)["blend"]["folds"] == 5
    wrong = command("loss.gamma=x", "loss=focal", "-c", "job", "-p", "loss")
    assert wrong.returncode == 2 and wrong.stderr == "loss.gamma (focal): expected float, got 'x'\n"
    assert list(tmp_path.iterdir()) == []
