"""Optimizers of the trainable parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, PositiveFloat, Proportion
from maskcls.ops.adamp import AdamP

registry = Registry("optimizer")
Params = Iterable[Parameter]


@registry.register
def sgd(
    params: Params,
    fused: bool,
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 5e-4,
    momentum: Proportion = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


@registry.register
def adam(params: Params, fused: bool, *, lr: PositiveFloat = 1e-4, weight_decay: NonNegativeFloat = 0.0) -> Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is L2, in the gradient."""
    return torch.optim.Adam(params, lr, weight_decay=weight_decay, fused=fused)


@registry.register
def adamw(params: Params, fused: bool, *, lr: PositiveFloat = 1e-3, weight_decay: NonNegativeFloat = 1e-2) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(params, lr, weight_decay=weight_decay, fused=fused)


@registry.register
def adamp(
    params: Params,
    fused: bool,
    *,
    lr: PositiveFloat = 3e-4,
    weight_decay: NonNegativeFloat = 1e-5,
    package: bool = False,
) -> Optimizer:
    """AdamP (Heo et al. 2021): slows the growth of scale-invariant weights; package=true uses the adamp package.

    Both take the same steps; the package synchronizes with the device at each weight.
    """
    return (reference_adamp() if package else AdamP)(params, lr, weight_decay=weight_decay)


def reference_adamp() -> Callable[..., Optimizer]:
    """Return AdamP of the adamp package, extended to weights of any memory layout."""
    import adamp

    class Reshaping(adamp.AdamP):
        def _channel_view(self, x: Tensor) -> Tensor:
            return x.reshape(x.size(0), -1)

        def _layer_view(self, x: Tensor) -> Tensor:
            return x.reshape(1, -1)

    return Reshaping


@registry.register
def madgrad(
    params: Params,
    fused: bool,
    *,
    lr: PositiveFloat = 1e-4,
    weight_decay: NonNegativeFloat = 0.0,
    momentum: Proportion = 0.9,
) -> Optimizer:
    """MADGRAD of timm (Defazio & Jelassi 2021)."""
    from timm.optim.madgrad import MADGRAD

    return MADGRAD(params, lr, momentum, weight_decay)
