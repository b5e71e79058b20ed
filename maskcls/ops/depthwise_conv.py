"""Fast and safe CPU gradients for the weights of depthwise convolutions.

oneDNN 3.12, which torch calls, has a fast kernel for depthwise weight gradients of up to 3 columns; wider ones use its
kernel for general groups, which takes about ten times as long (a quarter of a step of EfficientNet-B4). Here the
gradient is computed in three parts: the middle three columns are such a narrow gradient, and each outer column is one
for an output gradient shifted sideways. Images of fewer rows than the kernel, the last feature maps of small photos,
are slow in all of oneDNN's kernels (10 ms instead of 0.3) and are padded with zeros. Only the order of summation
differs. Lower precision uses torch's own gradient, and so does timm's Conv2dSame, which pads its input itself (the
layers of stride 2 in networks named tf_…).

In bfloat16, the gradient of a depthwise convolution of stride 2 reads memory that nobody has written if the images
have a single column (kernels of 3, 5 and 7, channels last; oneDNN 3.12). Such images get a second column of zeros,
which changes no output.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.functional import pad

Network = TypeVar("Network", bound=nn.Module)
MIN_SIZE = (5, 3)  # rows and columns: oneDNN is slow for fewer rows than the kernel has, and a shift needs 3 columns


def use_fast_depthwise(model: Network) -> Network:
    """Give the model's depthwise convolutions the fast or the safe gradient, in place; return the model."""
    for module in model.modules():
        if type(module) is nn.Conv2d and torch.backends.mkldnn.is_available():
            if is_supported(module):
                module.__class__ = Depthwise5
            elif module.groups > 1 and module.stride == (2, 2):
                module.__class__ = DepthwiseStride2
    return model


def is_supported(conv: nn.Conv2d) -> bool:
    """Return True if a convolution is depthwise, 5 × 5, padded by 2, without bias, and of stride 1 or 2."""
    has_defaults = (conv.padding, conv.dilation, conv.padding_mode, conv.bias) == ((2, 2), (1, 1), "zeros", None)
    return has_defaults and conv.stride in ((1, 1), (2, 2)) and conv.weight.shape == (conv.groups, 1, 5, 5)


def is_plain_step(weight: Tensor, images: Tensor) -> bool:
    """Return True if this is an ordinary training step on the CPU in fp32 that needs the weight's gradient.

    Other tensor types (fake tensors, FX proxies), tracing (jit.trace, the ONNX exporter), torch.func transforms and
    forward-mode derivatives use torch's own gradient.
    """
    if type(images) not in (Tensor, nn.Parameter) or torch.jit.is_tracing() or forward_ad._current_level >= 0:
        return False
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return False
    needs_grad = torch.is_grad_enabled() and weight.requires_grad and not torch.is_autocast_enabled("cpu")
    return needs_grad and images.dim() == 4 and is_dense_fp32(images) and is_dense_fp32(weight)


def is_dense_fp32(x: Tensor) -> bool:
    """Return True if a tensor is dense, fp32 and on the CPU."""
    return x.dtype is torch.float32 and x.layout is torch.strided and x.device.type == "cpu"


class Depthwise5(nn.Conv2d):
    """A 5 × 5 depthwise convolution with the fast gradient where it applies, else torch's own.

    Each forward checks the layer again, because it may have been changed (a folded batch-norm adds a bias).
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images (N, C, H, W)."""
        if torch.jit.is_scripting():
            return self._conv_forward(images, self.weight, self.bias)
        if is_plain_step(self.weight, images) and is_supported(self):
            return Convolution.apply(images, self.weight, self.stride[0])
        return self._conv_forward(second_column(self, images), self.weight, self.bias)


class DepthwiseStride2(nn.Conv2d):
    """A convolution of stride 2 with groups, whose gradient in bfloat16 is right for images of one column, too."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images (N, C, H, W)."""
        if torch.jit.is_scripting():
            return self._conv_forward(images, self.weight, self.bias)
        return self._conv_forward(second_column(self, images), self.weight, self.bias)


def second_column(conv: nn.Conv2d, images: Tensor) -> Tensor:
    """Return images of one column with a column of zeros to the right, others as they are.

    A kernel of `2 × padding + 1` columns and stride 2 has one column of output for both.
    """
    if not torch.is_autocast_enabled("cpu") or type(images) is not Tensor or torch.jit.is_tracing():
        return images
    is_single = images.dim() == 4 and images.shape[3] == 1 and conv.stride == (2, 2) and conv.padding_mode == "zeros"
    has_padding = isinstance(conv.padding, tuple) and conv.kernel_size[1] == 2 * conv.padding[1] + 1
    return pad(images, (0, 1)) if is_single and has_padding and conv.dilation == (1, 1) else images


class Convolution(torch.autograd.Function):
    """Depthwise convolution whose backward pass has a different order of summation; built from torch operators."""

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
        images_grad = conv_grad(grad, images, weight, ctx.stride, 2, True) if ctx.needs_input_grad[0] else None
        images, grad = pad_to_min_size(images, grad, ctx.stride)
        shift, width = 2 // ctx.stride, 1 if ctx.stride == 1 else 3  # with stride 2 a single column would be skipped
        outer = [
            conv_grad(pad(grad, (by, -by)), images, weight[..., :width], ctx.stride, width // 2)[..., width // 2, None]
            for by in (-shift, shift)
        ]
        middle = conv_grad(grad, images, weight[..., :3], ctx.stride, 1)
        return images_grad, torch.cat([outer[0], middle, outer[1]], 3), None


def pad_to_min_size(images: Tensor, grad: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return images and the output gradient, padded with zeros at the bottom and right for images of MIN_SIZE."""
    sizes = [max(size, least) for size, least in zip(images.shape[2:], MIN_SIZE, strict=True)]
    return pad_to(images, sizes), pad_to(grad, [(size - 1) // stride + 1 for size in sizes])


def pad_to(images: Tensor, sizes: list[int]) -> Tensor:
    """Return images (N, C, H, W), padded with zeros at the bottom and right to these sizes."""
    height, width = (size - have for size, have in zip(sizes, images.shape[2:], strict=True))
    return pad(images, (0, width, 0, height)) if height or width else images


def conv_grad(
    grad: Tensor, images: Tensor, weight: Tensor, stride: int, padding: int, of_images: bool = False
) -> Tensor:
    """Return torch's gradient of the weight (C, 1, 5, columns), or of the images; `padding` is horizontal."""
    images_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, images, weight, None, [stride] * 2, [2, padding], [1, 1], False, [0, 0], len(weight),
        [of_images, not of_images, False],
    )  # fmt: skip
    result: Tensor = images_grad if of_images else weight_grad
    return result
