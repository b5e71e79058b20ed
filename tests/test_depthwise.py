"""The quick gradient of 5 × 5 depthwise convolutions is torch's own, and is given to no other layer."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from maskcls.depthwise import Depthwise5, hastened

CHANNELS = 6


def conv(stride: int = 1, **changes: object) -> nn.Conv2d:
    plain = {"kernel_size": 5, "stride": stride, "padding": 2, "groups": CHANNELS, "bias": False}
    return nn.Conv2d(CHANNELS, CHANNELS, **(plain | changes))


def gradients(layer: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, the images' gradient and the weight's for a fixed gradient of the outputs."""
    images = images.clone().requires_grad_()
    out = layer(images)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out))
    assert images.grad is not None and layer.weight.grad is not None
    return out.detach(), images.grad, layer.weight.grad


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(13, 7), (25, 14), (5, 5), (7, 4), (2, 3), (6, 2), (3, 1), (1, 8)])
def test_the_gradients_are_those_of_torch(size: tuple[int, int], stride: int, layout: torch.memory_format) -> None:
    images = torch.randn(3, CHANNELS, *size, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=layout
    )
    theirs = conv(stride)
    mine = hastened(copy.deepcopy(theirs))
    assert type(mine) is Depthwise5
    quick = mine(images).grad_fn
    assert quick is not None and quick.name() == ("ConvolutionBackward" if size[1] >= 3 else "ConvolutionBackward0")
    mine(images).square().sum().backward()  # without a gradient of the images
    theirs(images).square().sum().backward()
    for layer in (mine, theirs):
        assert layer.weight.grad is not None
    assert torch.allclose(mine.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    mine.weight.grad = theirs.weight.grad = None
    truth = gradients(theirs.double(), images.double())
    for got, want in zip(gradients(mine, images), truth, strict=True):
        assert got.dtype is torch.float32 and torch.allclose(got.double(), want, atol=1e-5 * float(want.abs().max()))
    assert mine.weight.grad is not None and mine.weight.grad.shape == mine.weight.shape


@pytest.mark.parametrize(
    "layer",
    [conv(kernel_size=3, padding=1), conv(padding=0), conv(stride=3), conv(dilation=2), conv(groups=2), conv(bias=True),
     conv(padding_mode="reflect"), nn.Linear(3, 3)],
)  # fmt: skip
def test_other_layers_stay_as_they_are(layer: nn.Module) -> None:
    assert type(hastened(nn.Sequential(layer))[0]) is type(layer) is not Depthwise5


def test_a_network_keeps_its_weights_and_outputs_and_learns_the_same() -> None:
    theirs = timm.create_model("mobilenetv3_small_050", num_classes=3).eval()
    mine = hastened(copy.deepcopy(theirs))
    images = torch.randn(2, 3, 48, 40)
    assert sum(type(module) is Depthwise5 for module in mine.modules()) == 8
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for model in (theirs, mine):
        model(images).square().sum().backward()
    assert torch.equal(mine(images), theirs(images))
    pairs = list(zip(mine.parameters(), theirs.parameters(), strict=True))
    assert all(torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-5) for p, q in pairs)


def test_frozen_weights_and_lower_precision_go_torchs_way() -> None:
    layer, images = hastened(conv()), torch.randn(2, CHANNELS, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(images)
    out.float().sum().backward()
    assert out.dtype is torch.bfloat16 and layer.weight.grad is not None
    layer.weight.requires_grad_(False).grad = None
    layer(images).sum().backward()
    assert layer.weight.grad is None and images.grad is not None
