"""The gradient of a 5 × 5 depthwise convolution's weights on a CPU, taken in three parts that are quick.

oneDNN 3.12, which torch calls, has a kernel of its own for depthwise weight gradients of up to 3 columns; wider ones go
through its kernel for any groups, which takes about ten times as long. In a step of EfficientNet-B4 that was a quarter
of the time. The middle three columns are such a narrow gradient as they stand; each outer one is the same of an output
gradient that is shifted sideways. Only the order of summation differs. Lower precision goes torch's way, and so does
timm's Conv2dSame, which pads by itself (the layers of stride 2 in networks named tf_…).
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import pad

Network = TypeVar("Network", bound=nn.Module)
NARROWEST = 3  # pixels: narrower photos have nothing left after the shift


def use_fast_depthwise(model: Network) -> Network:
    """Return the model after its 5 × 5 depthwise convolutions were given the quick gradient, weights untouched."""
    for module in model.modules():
        if type(module) is nn.Conv2d and fits(module) and torch.backends.mkldnn.is_available():
            module.__class__ = Depthwise5
    return model


def fits(conv: nn.Conv2d) -> bool:
    """Return True if a convolution is depthwise, 5 × 5, padded by 2, without bias, and steps by 1 or 2."""
    plain = (conv.padding, conv.dilation, conv.padding_mode, conv.bias) == ((2, 2), (1, 1), "zeros", None)
    return plain and conv.stride in ((1, 1), (2, 2)) and conv.weight.shape == (conv.groups, 1, 5, 5)


def is_plain_step(weight: Tensor, images: Tensor) -> bool:
    """Return True if a plain step of training, on the CPU and in fp32, needs the weight's gradient.

    Other kinds of tensor (fake ones, FX proxies), recorders (jit.trace, the ONNX exporter), transforms (torch.func) and
    forward-mode derivatives go torch's way.
    """
    if type(images) not in (Tensor, nn.Parameter) or torch.jit.is_tracing() or forward_ad._current_level >= 0:
        return False
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return False
    learns = torch.is_grad_enabled() and weight.requires_grad and not torch.is_autocast_enabled("cpu")
    sizes = images.dim() == 4 and images.shape[-1] >= NARROWEST
    return learns and sizes and is_dense_fp32(images) and is_dense_fp32(weight)


def is_dense_fp32(x: Tensor) -> bool:
    """Return True if a tensor holds fp32 numbers in the CPU's memory."""
    return x.dtype is torch.float32 and x.layout is torch.strided and x.device.type == "cpu"


class Depthwise5(nn.Conv2d):
    """A convolution as `fits` describes it; what needs no quick gradient goes torch's way.

    Each forward asks anew, for a layer may be changed or copied (a folded batch-norm gives it a bias).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve photos (N, C, H, W)."""
        if torch.jit.is_scripting():
            return self._conv_forward(images, self.weight, self.bias)
        if is_plain_step(self.weight, images) and fits(self):
            return Convolution.apply(images, self.weight, self.stride[0])
        return self._conv_forward(images, self.weight, self.bias)


class Convolution(torch.autograd.Function):
    """torch's convolution with another order of summation in its backward pass, itself made of torch's operators."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int) -> Tensor:
        """Return the convolution of images (N, C, H, W) with a weight (C, 1, 5, 5)."""
        ctx.save_for_backward(images, weight)
        ctx.stride = stride
        return torch.conv2d(images, weight, stride=stride, padding=2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """Return the gradients of images and weight."""
        images, weight = ctx.saved_tensors
        inward = gradient(grad, images, weight, ctx.stride, 2, True) if ctx.needs_input_grad[0] else None
        shift, width = 2 // ctx.stride, 1 if ctx.stride == 1 else 3  # a single column must not be strided over
        outer = [
            gradient(pad(grad, (by, -by)), images, weight[..., :width], ctx.stride, width // 2)[..., width // 2, None]
            for by in (-shift, shift)
        ]
        middle = gradient(grad, images, weight[..., :3], ctx.stride, 1)
        return inward, torch.cat([outer[0], middle, outer[1]], 3), None


def gradient(
    grad: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int, of_images: bool = False
) -> Tensor:
    """Return torch's gradient of the images, or else of the weight, (C, 1, 5, columns), with `padding` to the sides."""
    of_images_or_weight = torch.ops.aten.convolution_backward(
        grad, images, weight, None, [stride] * 2, [2, padding], [1, 1], False, [0, 0], len(weight),
        [of_images, not of_images, False],
    )  # fmt: skip
    result: Tensor = of_images_or_weight[0 if of_images else 1]
    return result
