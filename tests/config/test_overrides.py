"""Command-line grammar, Unicode values, suggestions for unknown keys, shell completion."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from maskcls.config.completion import SCRIPTS
from maskcls.config.compose import compose, wrap_hydra_errors
from maskcls.config.groups import GROUPS
from maskcls.config.override_grammar import accept_text, exact_line, parse, split_flags
from maskcls.config.overrides import to_hydra
from maskcls.config.suggestions import ALIASES, KEY_OF_ALIAS, KeySuggester
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError
from maskcls.core.schema import option_fields

Command = Callable[..., subprocess.CompletedProcess[str]]
SIGNS = " ,=[]{}()~$&#!;:<>|?*%+@^`'\"-_.가힣데이터ñżдλ字😀👩‍🔬\u0301"
PATHS = st.text(st.sampled_from(SIGNS + "abz019"), max_size=12).filter(lambda text: "${" not in text)


def value_of(argument: str) -> str:
    """Return the value of an override, as Hydra reads and OmegaConf resolves what the command line makes of it."""
    override = parse(accept_text(argument))
    assert override
    if override.is_sweep_override():
        raise ConfigError(exact_line(argument))
    return OmegaConf.create({"key": override.value()}).key


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["/", "./", "~/", "../", "데", "a"]), PATHS)
@example("/", "데이터/얼굴")
@example("/", " a")
@example("/", "a ")
@example("/", "a (1)/b, c")
@example("/", 'it\'s="x"')
@example("/", "$HOME&~")
def test_a_path_arrives_exactly_or_by_the_line_that_is_shown(start: str, path: str) -> None:
    typed = start + path
    try:
        assert value_of(f"data.root={typed}") == typed
    except ConfigError as error:
        (line,) = re.findall(r"To pass the value literally, type (.*)$", str(error), re.DOTALL)
        (argument,) = shlex.split(line)
        assert value_of(argument) == typed


@pytest.mark.parametrize("path", ["/데이터/얼굴", "/a (1)", "/a,b", "/a[b]=c", "/it's", "~/$x {y}"])
def test_a_path_arrives_exactly_in_the_config_or_by_the_line_that_is_shown(path: str) -> None:
    try:
        assert compose(f"data.root={path}").data.root == path
    except ConfigError as error:
        (argument,) = shlex.split(str(error).partition("To pass the value literally, type ")[2])
        assert compose(argument).data.root == path


@pytest.mark.parametrize("path", ["/데이터/얼굴", "~/x", "/a#b&c", "/ñandú/Ωmega", "/😀", "/a~b"])
def test_letters_of_any_script_need_no_quotes(path: str) -> None:
    assert value_of(f"data.root={path}") == path


def test_lists_and_sweeps_of_any_script_stay_lists_and_sweeps() -> None:
    assert to_hydra(["photos=[/가/a.jpg,/나/b.jpg]"]) == ['++photos=["/가/a.jpg","/나/b.jpg"]']
    assert to_hydra(["-m", "data.root=/가,/나"]) == ["-m", '++data.root="/가","/나"']


def test_many_values_without_m_are_a_sentence_and_not_a_list() -> None:
    with pytest.raises(ConfigError, match=r"^loss=ce,focal: several values are a sweep\. Add -m to run it$"):
        compose("loss=ce,focal")
    with pytest.raises(
        ConfigError, match=r"Add -m to run it\. To pass the value literally, type 'data\.root=\"/a,b\"'$"
    ):
        compose("data.root=/a,b")


def test_text_that_the_locale_cannot_read_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match="not text in this locale"):
        compose("data.root=/\udceb\udc8d")


LINES = ["-m A B", "A -m B", "A B -m", "A --multirun B", "A B --multirun"]


@pytest.mark.parametrize("line", LINES)
def test_a_flag_stands_anywhere(line: str) -> None:
    words = line.replace("A", "loss=ce,focal").replace("B", "epochs=1").split()
    assert split_flags(words) == (["--multirun"], ["loss=ce,focal", "epochs=1"])


@pytest.mark.parametrize(
    ("line", "flags", "words"),
    [
        ("a=1 -c job b=2 -p data", ["--cfg=job", "--package=data"], ["a=1", "b=2"]),
        ("a=1 --cfg job --resolve b=2", ["--cfg=job", "--resolve"], ["a=1", "b=2"]),
        ("a=1 -cd conf b=2 -cn other c=3", ["--config-name=other", "--config-dir=conf"], ["a=1", "b=2", "c=3"]),
        ("-i a=1", ["--info=all"], ["a=1"]),
        ("a=1 -i defaults b=2", ["--info=defaults"], ["a=1", "b=2"]),
        ("~loss -h a=1", ["--help"], ["~loss", "a=1"]),
        ("", [], []),
    ],
)
def test_flags_and_their_values_leave_the_overrides_in_order(line: str, flags: list[str], words: list[str]) -> None:
    assert split_flags(line.split()) == (flags, words)


@pytest.mark.parametrize("line", ["--epochs 3", "a=1 --epochs=3"])
def test_a_flag_that_there_is_not_is_shown_as_an_option(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^unknown flag --epochs\. Use key=value, for example epochs=…$"):
        split_flags(line.split())


SHOWN = {
    "epochs": "expected key=value, got 'epochs'",
    "데이터=3": "keys may contain the letters a to z",
    "loss=초점": "unknown loss '초점', expected one of ce",
    "loss=adamw": "unknown loss 'adamw', did you mean optimizer=adamw?",
    "loss.gamma=[1": "cannot parse 'loss.gamma=[1'",
    "hydra.foo=1": "Could not override 'hydra.foo'",
    "data.x.y=1": "unknown parameter 'x' of data=synthetic",
}


@pytest.mark.parametrize("word", SHOWN)
def test_no_sign_is_shown_that_nobody_typed(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(compose(word))
    assert SHOWN[word] in str(caught.value) and "+" not in str(caught.value)


def test_what_hydra_says_of_an_override_is_said_of_what_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"^bad word: epochs=1$"), wrap_hydra_errors(["++epochs=1"], ["epochs=1"]):
        import hydra.errors

        raise hydra.errors.HydraException("bad word: ++epochs=1\nTo append use +epochs=1")
    with pytest.raises(ConfigError, match=r"\+\+epochs=1$"), wrap_hydra_errors(["++epochs=1"], ["++epochs=1"]):
        raise hydra.errors.HydraException("bad word: ++epochs=1")


@pytest.mark.slow
def test_about_keeps_the_command_that_was_typed(tiny: list[str], tmp_path: Path, command: Command) -> None:
    given = [tiny[0], "-m", *tiny[1:], "epochs=1", "fold=0", "loss=focal", "loss.gamma=1.5"]
    result = command(*given)
    assert result.returncode == 0, result.stderr
    (about,) = (tmp_path / "runs").glob("t-*/about.json")
    assert json.loads(about.read_text(encoding="utf-8"))["command"] == ["run.py", *given]


SOUGHT = {
    "lr=1e-3": "'optimizer.lr'", "device=cuda": "'hardware'", "workers=2": "'hardware.workers'",
    "num_workers=2": "'hardware.workers'", "img_size=64": "'crop.height crop.width'", "size=64": "'crop.height crop.width'",
    "project=x": "'logger.project'", "batchsize=8": "'batch_size'", "weight_decay=0": "'optimizer.weight_decay'",
    "momentum=0.9": "'optimizer.momentum' (of optimizer=sgd)", "gpus=1": "'hardware'", "arch=resnet18": "'model.arch'",
    "pretrained=true": "'model.pretrained'", "label_smoothing=0.1": "'loss.label_smoothing'", "k_fold=5": "'folds'",
    "n_splits=5": "'folds'", "Batch_Size=8": "'batch_size'", "learning_rat=1": "'optimizer.lr'",
    "trainer.max_epochs=3": "'epochs'", "alpha=1": "'mixing.alpha' (of mixing=mixup)", "los.gamma=1": "'loss'",
    "optimizer.momentum=0.9": "'optimizer.momentum' (of optimizer=sgd)", "loss.gamma=1": "'loss.gamma' (of loss=focal)",
    "optimizer.bs=8": "'batch_size'", "crop.size=64": "'crop.height crop.width'", "test_size=0.2": "'split.share' (of split=holdout)",
}  # fmt: skip


@pytest.mark.parametrize("word", SOUGHT)
def test_the_right_key_is_looked_for_in_all_groups(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(compose("name=t", word))
    (sentence,) = caught.value.messages
    assert sentence.startswith("unknown") and sentence.endswith(f"did you mean {SOUGHT[word]}?")


RENAMED = {  # keys of earlier versions: the key of today
    "batch=8": "batch_size", "clip=1": "clip_grad", "accumulate=2": "grad_accum_steps", "exam=0.2": "eval_fraction",
    "average=2": "average_epochs", "scheduler=plateau scheduler.wait=3": "scheduler.patience",
    "scheduler=onecycle scheduler.rise=0.2": "scheduler.pct_start", "scheduler=step scheduler.every=2": "scheduler.step_size",
    "model.drop=0.1": "model.drop_rate", "model.drop_path=0.1": "model.drop_path_rate",
    "loss.weights=inverse": "loss.class_weights", "loss.smoothing=0.1": "loss.label_smoothing", "mixing=mixup mixing.p=0.5": "mixing.prob",
}  # fmt: skip


@pytest.mark.parametrize("words", RENAMED)
def test_an_earlier_name_of_a_key_is_answered_with_its_name_of_today(words: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{RENAMED[words]}'\\?$"):
        validate(compose("name=t", *words.split()))


@pytest.mark.parametrize("group", [group for group in GROUPS if group in Config.__dataclass_fields__])
def test_every_bare_name_of_a_parameter_leads_to_its_group(group: str) -> None:
    top = [*Config.__dataclass_fields__]
    for option, build in GROUPS[group].builders.items():
        keys = KeySuggester(top, {name: registry for name, registry in GROUPS.items() if name in top}, {group: option})
        for name in {*option_fields(build)} - {*top}:
            assert f"'{group}.{name}'" in keys.describe_unknown(name, 1), (option, name)


def test_every_foreign_name_leads_to_a_key_that_there_is() -> None:
    assert not set(KEY_OF_ALIAS) & set(Config.__dataclass_fields__)
    for key in " ".join(ALIASES).split():
        group, _, name = key.partition(".")
        assert group in Config.__dataclass_fields__
        assert not name or any(name in option_fields(build) for build in GROUPS[group].builders.values()), key


def query(line: str, command: Command) -> list[str]:
    module = "predict" if "predict" in line else "run"
    result = command("-sc", "query=bash", name=module, COMP_LINE=line)
    assert result.returncode == 0 and not result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python -m maskcls.run los", ["loss.", "loss="]),
        ("python -m maskcls.run loss=fo", ["loss=focal"]),
        ("python -m maskcls.run -m loss=focal loss.gamma=1,2 team=foc", ["team=focal"]),
        ("python -m maskcls.run loss.beta=0.5 epo", ["epochs="]),
        ("python -m maskcls predict blend=me", ["blend=mean"]),
        ("python -m maskcls.run data.root=[/a, epo", ["epochs="]),
    ],
)
def test_the_shell_completes_groups_options_and_keys(line: str, words: list[str], command: Command) -> None:
    assert query(line, command) == words


@pytest.mark.parametrize("typed", ["loss=fo", "team=foca"])
def test_bash_completes_by_the_script_that_is_installed(typed: str, command: Command, tmp_path: Path) -> None:
    script = command("-sc", "install=bash")
    assert script.returncode == 0 and script.stdout.strip() == SCRIPTS["install=bash"].strip()
    line = f"{sys.executable} -m maskcls.run {typed}"
    test = f"{script.stdout}\nCOMP_LINE={line!r} COMP_POINT={len(line)}\n_maskcls_complete\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    from conftest import environment

    done = subprocess.run(
        ["bash", "-c", test], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [typed.partition("=")[2] + {"loss=fo": "cal", "team=foca": "l"}[typed]], done.stderr


@pytest.mark.parametrize("word", ["install=fish", "", "install"])
def test_another_shell_is_a_sentence(word: str, command: Command) -> None:
    result = command("-sc", *filter(None, [word]))
    assert result.returncode == 2 and result.stderr.startswith("unknown shell completion")


@pytest.mark.parametrize("text", ["pseudo.run=runs/{}", "runs=[runs/{},b-12345678]", "model.init={}"])
def test_the_placeholder_of_a_ladders_command_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"put the directory of that rung's run, .* for <the run of recipe>$"):
        to_hydra([text.format("<the run of recipe>")])
