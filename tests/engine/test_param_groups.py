"""Parameter groups: the classifier's own learning rate, alone and with layer_decay; what is trained later is in them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import ConfigError
from maskcls.engine.train_state import TrainState, build_train_state

HEAD = {"classifier.weight", "classifier.bias"}


def begin(*words: str) -> TrainState:
    """Return the state of a tiny network at half of its learning rate of 0.1."""
    fixed = ("model=timm", "model.arch=test_efficientnet", "model.pretrained=false", "hardware=cpu", "optimizer.lr=0.1")
    cfg = validate(compose("name=t", *fixed, *words))
    state = build_train_state(cfg, cfg.head.build(), cfg.hardware.build(), (32, 24), 0)
    state.set_lr(0.5)
    return state


def rates(state: TrainState) -> dict[str, float]:
    """Return the learning rate of each parameter, each in one group."""
    names = {id(parameter): name for name, parameter in state.model.named_parameters()}
    pairs = [(names[id(p)], group["lr"]) for group in state.optimizer.param_groups for p in group["params"]]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def test_without_words_there_is_one_group() -> None:
    assert len(begin().optimizer.param_groups) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "adamp", "sgd", "madgrad"])
def test_the_classifier_has_a_learning_rate_of_its_own(optimizer: str) -> None:
    state = begin("head_lr=0.3", f"optimizer={optimizer}")
    found = rates(state)
    assert found.keys() == dict(state.model.named_parameters()).keys()
    assert {name for name in found if found[name] == pytest.approx(0.15)} == HEAD
    assert {name for name in found if found[name] == pytest.approx(0.05)} == found.keys() - HEAD
    assert state.lr == pytest.approx(0.05), "what is logged is the rate of the config"


def test_the_classifiers_steps_are_larger_by_the_ratio() -> None:
    moved = []
    for words in ((), ("head_lr=0.3",)):
        state = begin("optimizer=sgd", "optimizer.weight_decay=0", *words)
        before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
        torch.manual_seed(1)
        state.model(torch.randn(4, 3, 32, 24)).square().sum().backward()
        state.optimizer.step()
        moved.append({name: p.detach() - before[name] for name, p in state.model.named_parameters()})
    for name, plain in moved[0].items():
        torch.testing.assert_close(moved[1][name], plain * (3 if name in HEAD else 1), rtol=1e-3, atol=1e-6)


def test_layer_decay_and_the_classifiers_rate_compose() -> None:
    plain, both = rates(begin("layer_decay=0.5")), rates(begin("layer_decay=0.5", "head_lr=0.3"))
    assert {name for name in both if both[name] == pytest.approx(0.15)} == HEAD
    assert all(both[name] == plain[name] for name in both.keys() - HEAD)
    assert plain["conv_stem.weight"] < plain["classifier.weight"]


@pytest.mark.parametrize("words", [(), ("layer_decay=0.5",), ("head_lr=0.3",)])
def test_frozen_parameters_are_in_the_groups_only_if_they_are_trained_later(words: tuple[str, ...]) -> None:
    frozen = begin("model.frozen=backbone", *words)
    assert rates(frozen).keys() == HEAD
    later = begin("model.frozen=backbone", "freeze_epochs=1", *words)
    assert rates(later).keys() == dict(later.model.named_parameters()).keys()
    assert {name for name, p in later.model.named_parameters() if p.requires_grad} == HEAD, "still frozen"


def test_a_classifier_that_is_frozen_or_unknown_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"head_lr=0\.3 has no effect: model\.frozen freezes the classifier"):
        begin("head_lr=0.3", "model.frozen=[classifier]")
    from maskcls.components import model

    def plain(outputs: int, height: int, width: int, fold: int = 0, *, arch: str, pretrained: bool) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, outputs))

    monkeypatch.setitem(model.registry.builders, "plain", plain)
    with pytest.raises(ConfigError, match=r"head_lr=0\.3 needs a pretrained_cfg of model=plain .*\. Remove head_lr"):
        begin("head_lr=0.3", "model.name=plain")
