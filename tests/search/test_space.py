"""Spaces of searches: read from a file, in Hydra's grammar or from the command line; checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcls.config.config_folders import resource_dir
from maskcls.core.errors import ConfigError
from maskcls.search.params import Param, parse_sweep, read_params
from maskcls.search.plan import Search, TuneConfig, plan_search
from maskcls.search.space import Space, to_words

FIXED = {"loss": "ce", "optimizer": "adamw", "epochs": 3}


def planned(*words: str, search: str | None = None, n_trials: int = 20, method: Any = "random", **changed: Any) -> Search:
    """Return the checked search of a command line."""
    options = {"search_seed": 0, "prune": True, "storage": None, "retry": False} | changed
    return plan_search(TuneConfig(search, n_trials, method, overrides=words, **options))


@pytest.mark.parametrize(("entry", "expected"), [
    ([1, "a", None, True, [1, 2]], Param("k", (1, "a", None, True, "[1, 2]"))),
    ({"low": 1, "high": 5}, Param("k", low=1, high=5)),
    ({"low": 1e-4, "high": 1e-2, "log": True, "when": "loss=focal"}, Param("k", low=1e-4, high=1e-2, log=True, when=(("loss", "focal"),))),
    ("1,2,5", Param("k", (1, 2, 5))),
    ("choice(a,b)", Param("k", ("a", "b"))),
    ("interval(0.5,5)", Param("k", low=0.5, high=5.0)),
    ("tag(log,interval(1e-4,1e-2))", Param("k", low=1e-4, high=1e-2, log=True)),
    ("int(interval(1,8))", Param("k", low=1, high=8)),
    ("range(1,5)", Param("k", low=1, high=4)),
])  # fmt: skip
def test_an_entry_is_a_list_a_mapping_or_a_sweep_of_hydra(entry: Any, expected: Param) -> None:
    assert read_params("k", entry) == [expected]


@pytest.mark.parametrize(("entry", "message"), [
    ({"low": 1}, "space.k.high: expected a number, got None"),
    ({"lo": 1, "high": 2}, "did you mean 'low'"),
    ({"low": 2, "high": 1}, "low must be below high, got 2 and 1"),
    ({"low": 0, "high": float("inf")}, "low must be below high, got 0 and inf"),
    ({"low": "a", "high": 1}, "space.k.low: expected a number, got 'a'"),
    ({"low": True, "high": 2}, "expected a number, got True"),
    ({"low": 0, "high": 1, "log": True}, "a log range must be above 0"),
    ({"low": 0, "high": 1, "log": "yes"}, "space.k.log: expected true or false"),
    ({"low": 1, "high": 4, "log": True, "step": 1}, "a log range has no step"),
    ({"low": 0, "high": 1, "step": 0}, "a range needs a step above 0"),
    ({"low": 0, "high": 1, "when": "loss"}, "space.k.when: expected key=value, such as loss=focal, got 'loss'"),
    ({"choices": [1], "low": 0, "high": 1}, "expected either choices, or low and high"),
    ({"choices": []}, "expected a list of choices"), ([], "expected a list of choices"),
    ("5", "expected several values, got '5'"), ("glob(*)", "expected several values"), (5, "expected several values, got 5"),
])  # fmt: skip
def test_a_bad_entry_is_one_sentence_with_its_key(entry: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_params("k", entry)
    assert message in str(error.value) and "space.k" in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["low", "high", "log", "step", "choices", "when", "x"]), inner, max_size=4)))  # fmt: skip
def test_any_entry_is_read_or_refused_with_a_sentence(entry: Any) -> None:
    try:
        params = read_params("optimizer.lr", entry)
    except ConfigError as error:
        assert str(error).startswith(("space.optimizer.lr", "cannot parse"))
    else:
        for param in params:
            trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
            value = param.suggest(trial) if all(not isinstance(v, float) or v == v for v in param.ends) else param.first
            assert value in param.choices if param.choices else param.low <= value <= param.high


def conditional() -> Space:
    """Return a space with a searched group, its parameter, and ranges of another group's option."""
    entries = {
        "loss.gamma": {"low": 1, "high": 3}, "loss": ["ce", "focal"], "optimizer": ["adamw", "sgd"],
        "optimizer.lr": [{"when": "optimizer=adamw", "choices": [1e-3]}, {"when": "optimizer=sgd", "choices": [0.1, 0.2]}],
    }  # fmt: skip
    return Space.of(entries, {}, FIXED)


def test_a_parameter_is_set_only_under_its_condition_and_under_options_that_have_it() -> None:
    words = [" ".join(to_words(values)) for values in conditional().grid()]
    assert words == [f"loss={loss} optimizer={name} {gamma}optimizer.lr={lr}"
                     for loss, gammas in (("ce", [""]), ("focal", [f"loss.gamma={i} " for i in (1, 2, 3)]))
                     for name, rates in (("adamw", [0.001]), ("sgd", [0.1, 0.2]))
                     for gamma in gammas for lr in rates]  # fmt: skip


def test_conditions_name_known_keys_that_come_before() -> None:
    with pytest.raises(ConfigError, match=r"space\.epochs\.when: batch must come before epochs"):
        Space.of({"epochs": {"choices": [1, 2], "when": "batch=1"}, "batch": [1, 2]}, {}, FIXED)
    with pytest.raises(ConfigError, match="unknown key 'los', did you mean 'loss'"):
        Space.of({"epochs": {"choices": [1, 2], "when": "los=ce"}}, {}, FIXED)


def test_values_of_ranges_have_four_digits_and_stay_within() -> None:
    param = parse_sweep("optimizer.lr=tag(log,interval(1.23456e-4,1e-2))")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    values = [param.suggest(study.ask()) for _ in range(50)]
    assert all(param.low <= value <= param.high and float(f"{value:.4g}") == value for value in values)


@pytest.mark.slow
def test_every_search_file_is_read_and_its_choices_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(path.stem for path in (resource_dir("experiments") / "search").glob("*.yaml"))
    assert {"focal", "recipe"} <= set(files)
    for name in files:
        search = planned("model.pretrained=false", search=name)
        assert search.space.params and search.folder.parts[:2] == ("runs", "studies")
    assert not list(tmp_path.iterdir())


def test_the_command_line_has_a_space_of_its_own_and_replaces_that_of_the_file() -> None:
    own = planned("loss=ce,focal", "epochs=range(1,3)", "model.pretrained=false")
    assert [param.key for param in own.space.params] == ["loss", "epochs"] and own.base == ("model.pretrained=false",)
    of_file = planned("loss.gamma=1,2", "optimizer.lr=0.001", "model.pretrained=false", search="focal")
    assert of_file.space.params == (Param("loss.gamma", (1, 2)),)  # the rate is fixed
    assert planned("model.pretrained=false", search="focal").id != of_file.id


@pytest.mark.parametrize(("words", "changed", "message"), [
    (["epochs=1"], {}, "the search has no parameters"),
    (["loss.gama=1,2", "loss=ce,focal"], {}, "unknown parameter 'gama' of loss=ce,focal, did you mean 'gamma'?"),
    (["optimizer.lr=0.1,-1"], {}, "optimizer.lr (adamw) must be greater than 0, got -1"),
    (["optimiser.lr=0.1,0.2"], {}, "did you mean 'optimizer'"),
    (["loss=ce,focl"], {}, "focl"),
    (["fold=0", "epochs=1,2"], {}, "fold: a trial trains all folds"),
    (["epochs=1,2"], {"storage": "journal.db"}, "storage: expected a URL"),
    (["optimizer.lr=interval(0.1,0.2)"], {"method": "grid"}, "a grid needs choices"),
    (["epochs=1,2"], {"search": "focl"}, "unknown search 'focl', did you mean 'focal'?"),
    (["epochs=1,2", "space.loss=ce"], {}, "only a search file sets space"),
])  # fmt: skip
def test_what_is_wrong_is_said_before_any_work(words: list[str], changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        planned(*words, "model.pretrained=false", f"runs_dir={tmp_path}/runs", **changed)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())
