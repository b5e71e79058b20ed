"""Weights of a file: equal to the source's in every tensor, whatever wraps them, or refused with a sentence."""

from __future__ import annotations

import os
import random
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from maskcls.components import model
from maskcls.components.model import timm_
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.storage.pretrained import load_pretrained, resolve_weights
from maskcls.storage.weight_matching import match_weights
from maskcls.system import console

TINY = "test_efficientnet"
PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "net.",
    "model.",
    "backbone.",
    "a.b.c.",
]
LAST = "classifier."


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    """Return weights as training leaves them: no two tensors are equal."""
    torch.manual_seed(0)
    state = timm.create_model(TINY, num_classes=18).state_dict()
    return {key: torch.rand_like(x) if x.is_floating_point() else x for key, x in state.items()}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info_once", lines.append)
    return lines


def body(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: x for key, x in state.items() if not key.startswith(LAST) and not key.endswith("num_batches_tracked")}


def fill(content: Any, folder: Path, ending: str = ".pth") -> dict[str, torch.Tensor]:
    """Return the state of a fresh network that a file with this content filled."""
    file = folder / f"w{ending}"
    save_file(content, file) if ending == ".safetensors" else torch.save(content, file)
    net = timm.create_model(TINY, num_classes=18)
    load_pretrained(net, file, TINY)
    return dict(net.state_dict())


def assert_loaded(state: dict[str, torch.Tensor], source: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(state[key], x) for key, x in body(source).items())
    assert not torch.equal(state["classifier.weight"], source["classifier.weight"]), "the last layer is new"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_common_prefix_is_stripped_and_said(
    prefix: str, ending: str, source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]
) -> None:
    state = {prefix + key: source[key] for key in sorted(source, reverse=True)}
    assert_loaded(fill(state, tmp_path, ending), source)
    shown = prefix.replace("_orig_mod.", "")
    how = f"loaded by name{f' without the prefix {shown!r}' if shown else ''}; 2 not used: {shown}classifier."
    assert len(said) == 1 and f"{len(body(source))} tensors {how}" in said[0]


@pytest.mark.parametrize(
    "key", ["state_dict", "model", "model_state_dict", "net", "ema", "model_ema", "state_dict_ema", "anything"]
)
def test_weights_lie_under_a_key(key: str, source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]) -> None:
    content = {
        "epoch": 3,
        key: source,
        "arch": "x",
        "args": Namespace(lr=0.1),
        "optimizer": {"state": {0: {"m": torch.ones(2)}}},
    }
    assert_loaded(fill(content, tmp_path), source)


def test_the_moving_average_is_taken_as_timm_does_and_said(
    source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]
) -> None:
    other = {key: x + 1 for key, x in source.items()}
    for key, rest in (("state_dict_ema", "state_dict"), ("model_ema", "model")):
        averaged = {"n_averaged": torch.tensor(5)} | {f"module.{name}": x for name, x in source.items()}
        assert_loaded(fill({rest: other, key: averaged}, tmp_path), source)
        assert f"model.pretrained: w.pth has several sets of weights: {key} used, not {rest}" in said


def test_a_lightning_checkpoint_is_read(source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]) -> None:
    state = {f"model.{key}": x for key, x in source.items()} | {"loss.weight": torch.ones(18)}
    content = {
        "epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.5", "state_dict": state, "loops": {"fit_loop": {}},
        "callbacks": {}, "optimizer_states": [{"state": {}, "param_groups": []}], "hyper_parameters": {"lr": 0.1},
    }  # fmt: skip
    assert_loaded(fill(content, tmp_path), source)
    assert "without the prefix 'model.'; 3 not used" in said[0] and "loss.weight" in said[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda s: {f"{p}.{k}": x for p in ("student", "teacher") for k, x in s.items()}, r"several prefixes \(student., teacher.\)"),
        (lambda s: {"first": s, "second": s}, r"several sets of weights \(first, second\)"),
        (lambda s: dict(list(s.items())[:3]), r"\d+ of \d+ tensors differ, first bn1.running_mean .*got none"),
        (lambda s: {k: x.to(torch.complex64) if k == "bn1.weight" else x for k, x in s.items()}, "bn1.weight: expected torch.float32"),
        (lambda s: {k: x.int() if k == "bn1.weight" else x for k, x in s.items()}, "bn1.weight: expected torch.float32"),
        (lambda s: {k: x * torch.nan if k == "bn1.weight" else x for k, x in s.items()}, "bn1.weight has non-finite values"),
    ],
)  # fmt: skip
def test_what_could_be_wrong_is_refused(
    content: Any, reason: str, source: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"model.pretrained: .*{reason}"):
        fill(content(source), tmp_path)


def rename(key: str) -> str:
    """Return a foreign name that keeps numbers and the kind of tensor."""
    *modules, kind = key.split(".")
    return ".".join([*(part if part.isdecimal() else f"x_{part}" for part in modules), kind])


def test_key_order_decides_only_where_no_name_is_known(
    source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]
) -> None:
    foreign = {rename(key): x for key, x in source.items()}
    assert_loaded(fill(foreign, tmp_path), source)
    assert "in key order, as no name matches; 2 not used: x_classifier.weight, x_classifier.bias" in said[0]
    for harmed in (
        dict(sorted(foreign.items())),
        dict(reversed(foreign.items())),
        {**foreign, "x_more.weight": torch.ones(1)},
    ):
        with pytest.raises(ConfigError, match="no name matches"):
            fill(harmed, tmp_path)
    with pytest.raises(ConfigError, match="file has no key order"):
        fill(foreign, tmp_path, ".safetensors")


def numbered(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.full((2,), float(i)) for i, key in enumerate(keys)}


@pytest.mark.parametrize(
    "keys",
    [
        ["b.1.weight", "b.1.bias", "b.0.weight", "b.0.bias"],  # numbers go down
        ["b.0.bias", "b.0.weight", "b.1.weight", "b.1.bias"],  # another kind of tensor
        ["b.0.weight", "b.1.bias", "b.1.weight", "b.0.bias"],  # modules mixed
        ["b.weight", "b.bias", "b.weight2", "b.bias2"], ["b.0.weight", "b.0.bias", "b.1.weight"],
    ],
)  # fmt: skip
def test_a_key_order_of_equal_shapes_is_not_trusted_blindly(keys: list[str]) -> None:
    wanted = numbered("m.0.weight", "m.0.bias", "m.1.weight", "m.1.bias")
    with pytest.raises(ValueError, match="no name matches"):
        match_weights(numbered(*keys), wanted, 2, True)
    right = numbered("b.2.weight", "b.2.bias", "b.10.weight", "b.10.bias", "last.weight")
    assert list(match_weights(right, wanted, 2, True).tensors.values()) == list(right.values())[:4]


def test_a_tensor_of_another_shape_is_named(source: dict[str, torch.Tensor], tmp_path: Path) -> None:
    turned = {key: x.transpose(0, 1).contiguous() if key == "conv_head.weight" else x for key, x in source.items()}
    with pytest.raises(
        ConfigError, match=r"1 of 73 tensors differ, first conv_head.weight \(expected \(256, 64, 1, 1\), got \(64, 256"
    ):
        fill(turned, tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_generated_file_is_loaded_to_the_bit_or_refused(
    data: st.DataObject, source: dict[str, torch.Tensor], tmp_path: Path, said: list[str]
) -> None:
    draw, state = data.draw, dict(source)
    if draw(st.booleans(), "foreign"):
        state = {rename(key): x for key, x in state.items()}
    names = list(state)
    some = st.sampled_from([0, 0, 0, 1])
    for name in draw(st.lists(st.sampled_from(names), max_size=2 * draw(some)), "missing"):
        state.pop(name, None)
    for name in draw(
        st.lists(st.sampled_from([name for name in state if state[name].dim() == 4]), max_size=draw(some)), "transposed"
    ):
        state[name] = state[name].transpose(0, 1)
    for name in draw(st.lists(st.sampled_from(["extra", "head.fc.weight", "conv_stem.w", "bn1"]), max_size=2), "extra"):
        state[name] = torch.ones(3)
    if draw(st.booleans(), "shuffled"):
        keys = list(state)
        random.Random(draw(st.integers(0, 999))).shuffle(keys)
        state = {key: state[key] for key in keys}
    prefix = draw(
        st.sampled_from(PREFIXES) | st.text("ab_", min_size=1, max_size=3).map(lambda text: f"{text}."), "prefix"
    )
    content: Any = {prefix + key: x.contiguous() for key, x in state.items()}
    ending = draw(st.sampled_from([".pth", ".safetensors"]))
    if ending == ".pth":
        for key in draw(st.lists(st.sampled_from(["state_dict", "model_ema", "ema", "net"]), max_size=2), "wrapped"):
            content = {key: content, "epoch": 1}
    said.clear()
    try:
        filled = fill(content, tmp_path, ending)
    except ConfigError as error:
        assert str(error).startswith("model.pretrained: ") and len(error.messages) == 1
        return
    assert all(torch.equal(filled[key], x) for key, x in body(source).items())
    unused = len([key for key in state if not key.endswith("num_batches_tracked")]) - len(body(source))
    assert len(said) == 1 and (f"; {unused} not used: " in said[0] if unused else "not used" not in said[0])


def test_files_that_hold_no_weights_are_refused_quickly(tmp_path: Path, source: dict[str, torch.Tensor]) -> None:
    for ending in (".pth", ".safetensors"):
        os.mkfifo(tmp_path / f"pipe{ending}")
        (tmp_path / f"folder{ending}").mkdir()
        (tmp_path / f"empty{ending}").touch()
        (tmp_path / f"long{ending}").write_bytes(b"\xff" * 8 + b"{" * 99)
        with (tmp_path / f"sparse{ending}").open("wb") as file:
            file.truncate(10 * 2**30)
    torch.save(timm.create_model(TINY), tmp_path / "whole.pth")
    save_file(source, tmp_path / "cut.safetensors")
    os.truncate(tmp_path / "cut.safetensors", 5000)
    begun = time.monotonic()
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(
            (ConfigError, ValueError), match=r"cannot read weights from|is not a regular file"
        ) as caught:
            load_pretrained(timm.create_model(TINY), resolve_weights(str(file)), TINY)
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert "save model.state_dict(), not the model" in str(refusal(tmp_path / "whole.pth"))
    assert time.monotonic() - begun < 20


def refusal(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        timm_(18, 32, 32, arch=TINY, pretrained=str(file))
    return caught.value


@pytest.mark.parametrize("name", ["outer.inner", "outer.space.inner"])
def test_a_package_inside_another_is_found_without_running_any(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path.joinpath(*name.split("."))
    place.mkdir(parents=True)
    for folder in (tmp_path / "outer", place):  # outer/space has no __init__.py: a namespace
        (folder / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (place / "w.pth").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_weights(f"package:{name}") == place / "w.pth"
    for wrong in (f"{name}.no", "outer.no.inner", f"{name}..", f".{name}", "", "os.path", "outer/inner", "__main__.x"):
        faults: list[str] = []
        model.registry.check({"name": "timm", "arch": TINY, "pretrained": f"package:{wrong}"}, faults, task=MASK18)
        assert len(faults) == 1 and f"package '{wrong}' is not installed" in faults[0]
    assert not (tmp_path / "ran").exists() and not [key for key in sys.modules if key.startswith("outer")]


def test_a_run_of_a_larger_network_is_no_beginning(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "fold0").mkdir()
    (tmp_path / "metrics.json").touch()
    torch.save({"model": timm.create_model("resnet34", num_classes=18).state_dict()}, tmp_path / "fold0" / "best.pt")
    with pytest.raises(ConfigError, match=r"model.init: .* is not a checkpoint of resnet18: layer1\.2"):
        timm_(18, 32, 32, arch="resnet18", init=str(tmp_path))
    timm_(8, 32, 32, arch="resnet34", init=str(tmp_path))
    assert said == [f"model.init: fc.bias, fc.weight of {tmp_path}/fold0/best.pt not used: the classifier keeps its initialization"]
