"""Fast gradient of 5 × 5 depthwise convolutions: equal to torch's own, and used in no other layer."""

from __future__ import annotations

import copy
import io
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from maskcls.ops import depthwise_conv
from maskcls.ops.depthwise_conv import Depthwise5, conv_grad, use_fast_depthwise

CHANNELS = 6


def conv(stride: int = 1, **changes: object) -> nn.Conv2d:
    options = {"kernel_size": 5, "stride": stride, "padding": 2, "groups": CHANNELS, "bias": False}
    return nn.Conv2d(CHANNELS, CHANNELS, **(options | changes))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that grows with each part of a fast gradient; it is empty if torch's own is used."""
    computed: list[bool] = []
    monkeypatch.setattr(depthwise_conv, "conv_grad", lambda *args: computed.append(True) or conv_grad(*args))  # type: ignore[func-returns-value]
    return computed


def gradients(
    call: Callable[[Tensor], Tensor], images: Tensor, layer: nn.Conv2d | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, the images' gradient and the weight's for a fixed gradient of the outputs."""
    images = images.clone().requires_grad_()
    weight: Any = (layer or call).weight  # type: ignore[union-attr]
    out = call(images)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out))
    assert images.grad is not None and weight.grad is not None
    return out.detach(), images.grad, weight.grad


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(13, 7), (25, 14), (5, 5), (7, 4), (2, 3), (6, 2), (3, 2), (3, 1), (1, 1), (1, 8)])
def test_the_gradients_are_those_of_torch(
    size: tuple[int, int], stride: int, layout: torch.memory_format, parts: list[bool]
) -> None:
    images = torch.randn(3, CHANNELS, *size, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=layout
    )
    theirs = conv(stride)
    mine = use_fast_depthwise(copy.deepcopy(theirs))
    assert type(mine) is Depthwise5
    mine(images).square().sum().backward()  # without a gradient of the images
    assert len(parts) == 3
    theirs(images).square().sum().backward()
    for layer in (mine, theirs):
        assert layer.weight.grad is not None
    assert torch.allclose(mine.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    mine.weight.grad = theirs.weight.grad = None
    expected = gradients(theirs.double(), images.double())
    for got, want in zip(gradients(mine, images), expected, strict=True):
        assert got.dtype is torch.float32 and torch.allclose(got.double(), want, atol=1e-5 * float(want.abs().max()))
    assert mine.weight.grad is not None and mine.weight.grad.shape == mine.weight.shape


@pytest.mark.parametrize(
    "layer",
    [conv(kernel_size=3, padding=1), conv(padding=0), conv(stride=3), conv(dilation=2), conv(groups=2), conv(bias=True),
     conv(padding_mode="reflect"), nn.Linear(3, 3)],
)  # fmt: skip
def test_other_layers_stay_as_they_are(layer: nn.Module) -> None:
    assert type(use_fast_depthwise(nn.Sequential(layer))[0]) is type(layer) is not Depthwise5


def test_a_network_keeps_its_weights_and_outputs_and_learns_the_same() -> None:
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    mine = use_fast_depthwise(copy.deepcopy(theirs))
    images = torch.randn(2, 3, 48, 40)
    assert sum(type(module) is Depthwise5 for module in mine.modules()) == 8
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for model in (theirs, mine):
        model(images).square().sum().backward()
    assert torch.equal(mine(images), theirs(images))
    pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
    assert all(torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5) for p, q in pairs)


def test_frozen_weights_and_lower_precision_go_torchs_way(parts: list[bool]) -> None:
    layer, images = use_fast_depthwise(conv()), torch.randn(2, CHANNELS, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(images)
    out.float().sum().backward()
    assert out.dtype is torch.bfloat16 and layer.weight.grad is not None
    layer.weight.requires_grad_(False).grad = None
    layer(images).sum().backward()
    assert layer.weight.grad is None and images.grad is not None and not parts


IMAGES = torch.randn(3, CHANNELS, 9, 8, generator=torch.Generator().manual_seed(0))


def assert_same(mine: Any, theirs: Any) -> None:
    """Compare tensors relative to their largest value."""
    for got, want in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * float(want.detach().abs().max()))


def set_weight(layer: nn.Conv2d, columns: int) -> None:
    layer.weight = nn.Parameter(layer.weight.detach()[..., :columns].clone())


CHANGES: dict[str, Callable[[nn.Conv2d], Any]] = {
    "bias": lambda layer: setattr(layer, "bias", nn.Parameter(torch.arange(float(CHANNELS)))),
    "padding": lambda layer: setattr(layer, "padding", (1, 2)),
    "padding by name": lambda layer: setattr(layer, "padding", "valid"),
    "stride": lambda layer: setattr(layer, "stride", (3, 3)),
    "other stride": lambda layer: setattr(layer, "stride", (2, 2)),
    "dilation": lambda layer: setattr(layer, "dilation", (2, 2)),
    "smaller weight": lambda layer: set_weight(layer, 3),
    "double": lambda layer: layer.double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), lambda layer: layer])
def test_a_layer_that_is_changed_later_computes_what_it_then_describes(
    change: str, how: Callable[[nn.Conv2d], nn.Conv2d]
) -> None:
    theirs = conv()
    mine = how(use_fast_depthwise(copy.deepcopy(theirs)))
    for layer in (mine, theirs):
        CHANGES[change](layer)
    images = IMAGES.to(mine.weight.dtype)
    assert_same(gradients(mine, images), gradients(theirs, images))
    if theirs.bias is not None:
        assert_same([mine.bias.grad], [theirs.bias.grad])  # type: ignore[union-attr]


def test_a_batch_norm_is_folded_into_the_layer() -> None:
    norm = nn.BatchNorm2d(CHANNELS).eval()
    nn.init.normal_(norm.bias), nn.init.normal_(norm.running_mean)  # type: ignore[arg-type]
    layer = use_fast_depthwise(conv().eval())
    assert_same([torch.nn.utils.fusion.fuse_conv_bn_eval(layer, norm)(IMAGES)], [norm(layer(IMAGES))])


def per_sample_gradients(layer: nn.Module) -> Tensor:
    """Return the gradient of each image's loss."""
    weights = dict(layer.named_parameters())

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        result: Tensor = functional_call(layer, weights, (image[None],)).square().sum()
        return result

    result: Tensor = vmap(grad(loss), (None, 0))(weights, IMAGES)["weight"]
    return result


def as_function_of_weight(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the layer's outputs as a function of its weight."""
    return lambda weight: functional_call(layer, {"weight": weight}, (IMAGES[:, :, :5, :5],))  # type: ignore[no-any-return]


def double_backward(layer: nn.Conv2d) -> tuple[Tensor, ...]:
    """Return gradients of a function of the gradients."""
    images = IMAGES.clone().requires_grad_()
    once = torch.autograd.grad(layer(images).square().sum(), (layer.weight, images), create_graph=True)
    return torch.autograd.grad(once[0].square().sum() + once[1].square().sum(), (layer.weight, images))


def forward_tangent(layer: nn.Module) -> Tensor:
    with forward_ad.dual_level():
        tangent: Tensor = forward_ad.unpack_dual(layer(forward_ad.make_dual(IMAGES, torch.ones_like(IMAGES)))).tangent
    return tangent


def trace_and_reload(layer: nn.Module) -> Any:
    """Return the traced layer, saved and loaded."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(layer, IMAGES), file)  # type: ignore[no-untyped-call]
    file.seek(0)
    return torch.jit.load(file)  # type: ignore[no-untyped-call]


CALLERS: dict[str, Callable[[nn.Conv2d], Any]] = {
    "unbatched": lambda layer: gradients(layer, IMAGES[0]),
    "no images": lambda layer: gradients(layer, IMAGES[:0])[2:],
    "torch.func.grad": lambda layer: [
        grad(lambda weight: as_function_of_weight(layer)(weight).square().sum())(layer.weight)
    ],
    "gradients of each image": lambda layer: [per_sample_gradients(layer)],
    "vmap": lambda layer: [vmap(layer)(IMAGES[:, None])],
    "torch.func.jvp": lambda layer: jvp(as_function_of_weight(layer), (layer.weight,), (torch.ones_like(layer.weight),)),
    "torch.func.hessian": lambda layer: [hessian(lambda weight: as_function_of_weight(layer)(weight).pow(3).sum())(layer.weight)],
    "forward mode": lambda layer: [forward_tangent(layer)],
    "double backward": double_backward,
    "jit.trace": lambda layer: [trace_and_reload(layer)(IMAGES)],
    "jit.script": lambda layer: [torch.jit.script(layer)(IMAGES)],
    "torch.fx": lambda layer: [torch.fx.symbolic_trace(nn.Sequential(layer))(IMAGES)],
    "make_fx": lambda layer: [make_fx(layer)(IMAGES)(IMAGES)],
    "mkldnn": lambda layer: [layer(IMAGES.to_mkldnn()).to_dense()],
    "checkpoint": lambda layer: gradients(
        lambda images: torch.utils.checkpoint.checkpoint(layer, images, use_reentrant=False), IMAGES, layer
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("caller", CALLERS)
def test_other_callers_get_torchs_numbers(caller: str) -> None:
    theirs = conv()
    mine = use_fast_depthwise(copy.deepcopy(theirs))
    assert_same(CALLERS[caller](mine), CALLERS[caller](theirs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler itself, on the oldest and newest torch
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_layer_holds_torchs_convolution_alone(strict: bool) -> None:
    layer = use_fast_depthwise(conv())
    program = torch.export.export(layer, (IMAGES,), strict=strict)
    assert "autograd" not in str(program.graph)
    assert_same([program.module()(IMAGES)], [layer(IMAGES)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler itself, on the oldest and newest torch
def test_a_compiled_layer_learns_as_torchs_does() -> None:
    theirs = conv()
    mine = torch.compile(use_fast_depthwise(copy.deepcopy(theirs)), backend="aot_eager")
    assert_same(gradients(mine, IMAGES), gradients(theirs, IMAGES))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_generated_layers_and_photos_give_torchs_numbers(data: st.DataObject) -> None:
    draw = data.draw
    channels = draw(st.sampled_from([1, 2, 7, 16]), "channels")
    layer = {
        "kernel_size": draw(st.sampled_from([5, 5, 3, (5, 3)]), "kernel"), "stride": draw(st.sampled_from([1, 2, (1, 2), 3]), "stride"),
        "padding": draw(st.sampled_from([2, 2, 1, (2, 1)]), "padding"), "dilation": draw(st.sampled_from([1, 1, 1, 2]), "dilation"),
        "groups": draw(st.sampled_from([channels, channels, 1]), "groups"), "bias": draw(st.sampled_from([False, False, True]), "bias"),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "circular"]), "mode"),
    }  # fmt: skip
    shape = [draw(st.integers(1, 3)), channels, draw(st.integers(8, 15), "height"), draw(st.integers(15, 20), "width")]
    images = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    images = images.contiguous(memory_format=draw(st.sampled_from([torch.contiguous_format, torch.channels_last])))
    if draw(st.booleans(), "strided"):
        images = images[..., ::2]
    theirs = nn.Conv2d(channels, channels, **layer).to(draw(st.sampled_from([torch.float32, torch.float64])))
    images = images.to(theirs.weight.dtype)
    mine = use_fast_depthwise(copy.deepcopy(theirs))
    assert_same(gradients(mine, images), gradients(theirs, images))


def poison() -> None:
    """Fill freed memory with NaN, which the next tensors find there."""
    waste = [torch.full((size,), float("nan")) for size in (64, 256, 1000, 5000, 20000) for _ in range(60)]
    random.Random(0).shuffle(waste)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_gradients_in_bfloat16_of_images_of_one_column_read_no_foreign_memory(kernel: int, height: int) -> None:
    plain = nn.Conv2d(96, 96, kernel, 2, kernel // 2, groups=96, bias=False).to(memory_format=torch.channels_last)
    layer = use_fast_depthwise(copy.deepcopy(plain))
    images = torch.randn(8, 96, height, 1, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    expected = gradients(plain, images)
    for _ in range(3):
        layer.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(images.clone().requires_grad_())
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        poison()
        out.backward(grad)
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad, expected[2], rtol=0.05, atol=0.1)
    torch.testing.assert_close(out.float(), expected[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("changes", [{"padding": 1}, {"kernel_size": 4}, {"dilation": 2}, {"padding_mode": "reflect"}])
def test_a_column_is_only_added_where_it_changes_no_output(changes: dict[str, Any]) -> None:
    layer = use_fast_depthwise(conv(2, **changes))
    with torch.autocast("cpu", torch.bfloat16):
        assert depthwise_conv.second_column(layer, images := torch.zeros(1, CHANNELS, 9, 1)) is images
