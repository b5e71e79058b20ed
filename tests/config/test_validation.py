"""Config validation: all errors at once, defaults, and the hash of the values that change results."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from maskcls.components import loss
from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.config.validation import validate
from maskcls.core.config import NOT_HASHED, Config
from maskcls.core.errors import ConfigError
from maskcls.storage.run import run_content
from maskcls.system.files import content_hash

Raw = dict[str, Any]
QUICK = ("name=t", "model=timm", "model.arch=test_resnet")


@pytest.fixture(scope="module")
def base() -> Raw:
    return validate(compose(*QUICK)).to_dict()


def changed(base: Raw, path: str, value: Any) -> Raw:
    raw = copy.deepcopy(base)
    *parents, last = path.split(".")
    place = raw
    for key in parents:
        place = place[key]
    place[last] = value
    return raw


def sign(raw: Any) -> str:
    return content_hash(run_content(validate(raw)))


def sentences(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        validate(compose(*QUICK, *overrides))
    return caught.value.messages


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("loss=focal loss.gama=1", "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?"),
        ("loss=focal loss.gamma=high", "loss.gamma (focal): expected float, got 'high'"),
        ("loss=focal loss.gamma=-1", "loss.gamma (focal) must be at least 0, got -1"),
        ("loss=focla", "unknown loss 'focla', did you mean 'focal'?"),
        ("loss.name=focla", "unknown loss 'focla', did you mean 'focal'?"),
        ("loss.weights=invers", "loss.weights (ce): unknown value 'invers', did you mean 'inverse'?"),
        ("optimzer=sgd", "unknown key 'optimzer', did you mean 'optimizer'?"),
        ("epohcs=3", "unknown key 'epohcs', did you mean 'epochs'?"),
        ("epochs=2.0", "epochs: expected int, got 2.0"),
        ("batch=0", "batch must be at least 1, got 0"),
        ("folds=1", "folds must be at least 2, got 1"),
        ("fold=5", "fold=5 is out of range: there are 5 folds, 0 to 4"),
        ("fold=first", "fold: expected int, got 'first'"),
        ("precision=fp61", "precision: unknown value 'fp61', did you mean 'fp16'?"),
        ("select=bst", "select: unknown value 'bst', did you mean 'best'?"),
        ("name=a/b", "name: expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got 'a/b'"),
        ("name=..", "name: expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got '..'"),
        ("clip=0", "clip must be greater than 0, got 0"),
        ("scheduler=multistep scheduler.milestones=[1,a]", "scheduler.milestones (multistep): expected int, got 'a'"),
        ("scheduler=step scheduler.unit=epoch", "scheduler.unit (step): unknown value 'epoch', did you mean 'epochs'?"),
        ("model.arch=resnt18", "model.arch (timm): unknown timm architecture 'resnt18', did you mean 'resnet18'?"),
        ("model.pretrained=3", "model.pretrained (timm): expected bool (true or false) or str, got 3"),
        ("data=table", "data.file (table) has no default. Set data.file=…"),
        ("plugins=[no_such_module]", "plugins: cannot import 'no_such_module': No module named 'no_such_module'"),
    ],
)
def test_each_wrong_word_has_its_sentence(overrides: str, sentence: str) -> None:
    assert sentences(*overrides.split()) == (sentence,)


@pytest.mark.parametrize("word", ["loss=3", "loss=null", "loss=[ce"])
def test_what_hydra_itself_refuses_is_a_config_error_too(word: str) -> None:
    with pytest.raises(ConfigError):
        validate(compose(*QUICK, word))


def test_all_faults_are_told_at_once() -> None:
    told = sentences(
        "epochs=x", "bacth=3", "loss=focal", "loss.gama=1", "loss.smoothing=no", "optimizer.lr=0", "crop.width=-1"
    )
    assert sorted(told) == sorted(
        [
            "epochs: expected int, got 'x'",
            "unknown key 'bacth', did you mean 'batch'?",
            "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?",
            "loss.smoothing (focal): expected float, got 'no'",
            "optimizer.lr (adamw) must be greater than 0, got 0",
            "crop.width (resize) must be at least 1, got -1",
        ]
    )


def test_a_missing_group_and_a_missing_value_are_faults(base: Raw) -> None:
    raw = {key: value for key, value in base.items() if key not in ("loss", "epochs")}
    with pytest.raises(ConfigError) as caught:
        validate(raw)
    assert len(caught.value.messages) == 2
    assert caught.value.messages[0] == "epochs has no default. Set epochs=…"
    assert caught.value.messages[1].startswith("loss: expected a section with a name, got None")


def test_defaults_of_the_code_are_filled_in() -> None:
    cfg = validate(compose(*QUICK, "loss=focal"))
    assert cfg.to_dict()["loss"] == {"name": "focal", "gamma": 2.0, "weights": "none", "smoothing": 0.0, "beta": 0.999}
    assert cfg.loss.params["gamma"] == 2.0
    assert cfg.hashed_items()["loss"] == cfg.to_dict()["loss"]


def test_a_filled_config_checks_to_itself(base: Raw) -> None:
    assert validate(copy.deepcopy(base)).to_dict() == base


def test_what_stands_in_a_default_may_be_said_without_changing_the_hash(base: Raw) -> None:
    assert sign(compose(*QUICK)) == sign(base) == sign(compose(*QUICK, "loss.smoothing=0", "crop.height=80"))


def test_the_order_of_keys_does_not_change_the_hash(base: Raw) -> None:
    assert sign(dict(reversed(base.items()))) == sign(base)


OTHER = {
    "name": "other", "fold": 2, "hardware": {"name": "cpu", "workers": 3}, "logger": {"name": "none"},
    "runs_dir": "elsewhere", "cache_dir": "elsewhere", "on_error": "skip", "data.root": "elsewhere",
}  # fmt: skip


@pytest.mark.parametrize("path", OTHER)
def test_what_does_not_change_results_is_not_in_the_hash(base: Raw, path: str) -> None:
    assert sign(changed(base, path, OTHER[path])) == sign(base)


def test_every_word_that_is_outside_the_hash_was_tried() -> None:
    assert set(NOT_HASHED) == set(OTHER) - {"data.root"}


def test_where_a_table_lies_is_not_in_the_hash(base: Raw, tmp_path: Path) -> None:
    signs = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "t.csv"
        file.write_text("path,label\n")
        signs.add(sign(changed(base, "data", {"name": "table", "file": str(file)})))
    assert len(signs) == 1 and signs != {sign(base)}


INSIDE = {
    "seed": 1, "epochs": 5, "batch": 16, "folds": 3, "people": 9, "exam": 0.2, "select": "last", "precision": "bf16", "clip": 1.0, "patience": 2,
    "plugins": ["json"], "data.people": 121, "data.seed": 1, "split": {"name": "holdout"}, "crop.width": 80,
    "augmentation.transforms": {}, "augmentation.p": 0.5, "sampler": {"name": "weighted"}, "model.arch": "test_vit",
    "model.drop": 0.1, "model.frozen": ["conv1"], "model.normalize": "competition", "head": {"name": "single"},
    "extra": {"name": "folder", "root": "."}, "labels.border": 58, "overlay": {"name": "masks", "of": "train"},
    "mixing": {"name": "mixup"}, "tta": {"name": "flip"}, "average": 2, "accumulate": 2, "ema": 0.9, "layer_decay": 0.8,
    "loss.smoothing": 0.1, "loss.beta": 0.9, "optimizer.lr": 2e-3, "scheduler.warmup": 1,
}  # fmt: skip


@pytest.mark.parametrize("path", INSIDE)
def test_anything_else_changes_the_hash(base: Raw, path: str) -> None:
    assert sign(changed(base, path, INSIDE[path])) != sign(base)


def test_every_word_that_is_in_the_hash_was_tried() -> None:
    assert {path.split(".")[0] for path in INSIDE} | {"pseudo"} == set(Config.__dataclass_fields__) - set(NOT_HASHED)
    assert set(GROUPS) - {"blend"} <= set(Config.__dataclass_fields__)  # blend is a word of maskcls.predict


def test_a_new_default_in_the_code_changes_the_hash(base: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    def first(counts: torch.Tensor, *, power: float = 1.0) -> None: ...
    def second(counts: torch.Tensor, *, power: float = 2.0) -> None: ...

    raw, signs = changed(base, "loss", {"name": "mine"}), set()
    for build in (first, second):
        monkeypatch.setitem(loss.registry.builders, "mine", build)
        signs.add(sign(raw))
    assert len(signs) == 2


def test_a_plugin_brings_a_loss_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_losses_for_maskcls.py").write_text(
        "import torch\nfrom maskcls.components.loss import registry\n\n"
        "@registry.register\ndef mine(counts: torch.Tensor, *, power: float = 2.0):\n"
        "    return lambda logits, targets: ((logits.softmax(1) - targets).abs() ** power).sum()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loss.registry, "builders", dict(loss.registry.builders))
    plugins = "plugins=[my_losses_for_maskcls]"
    try:
        cfg = validate(compose(*QUICK, plugins, "loss.name=mine", "loss.power=1.0"))
        value = cfg.loss.build(torch.ones(2))(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
        assert value.item() == pytest.approx(1.0)
        told = sentences(plugins, "loss.name=mine", "loss.pwoer=1.0")
        assert told == ("unknown parameter 'pwoer' of loss=mine, did you mean 'power'?",)
    finally:
        sys.modules.pop("my_losses_for_maskcls", None)


def test_without_its_plugin_the_word_is_unknown() -> None:
    assert sentences("loss.name=mine") == ("unknown loss 'mine', expected one of ce, f1, focal",)


def test_an_interpolation_that_leads_nowhere_is_a_sentence() -> None:
    with pytest.raises(ConfigError):
        validate(compose(*QUICK, "epochs=${nowhere}"))
