"""Optimizers of torch, timm and adamp, over the parameters that are to be trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from maskcls.registry import NonNegative, Positive, Registry, Share

word = Registry("optimizer")
Params = Iterable[Parameter]


@word
def sgd(
    params: Params, fused: bool, *, lr: Positive = 1e-3, weight_decay: NonNegative = 5e-4, momentum: Share = 0.9,
    nesterov: bool = False,
) -> Optimizer:  # fmt: skip
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


@word
def adam(params: Params, fused: bool, *, lr: Positive = 1e-4, weight_decay: NonNegative = 0.0) -> Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is L2, in the gradient."""
    return torch.optim.Adam(params, lr, weight_decay=weight_decay, fused=fused)


@word
def adamw(params: Params, fused: bool, *, lr: Positive = 1e-3, weight_decay: NonNegative = 1e-2) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(params, lr, weight_decay=weight_decay, fused=fused)


@word
def adamp(params: Params, fused: bool, *, lr: Positive = 3e-4, weight_decay: NonNegative = 1e-5) -> Optimizer:
    """AdamP of the adamp package (Heo et al. 2021): no growth of the norms of scale-invariant weights."""
    from adamp import AdamP

    class Reshaping(AdamP):
        """AdamP whose views of a weight also work in the channels-last memory layout."""

        def _channel_view(self, x: Tensor) -> Tensor:
            return x.reshape(x.size(0), -1)

        def _layer_view(self, x: Tensor) -> Tensor:
            return x.reshape(1, -1)

    return Reshaping(params, lr, weight_decay=weight_decay)


@word
def madgrad(
    params: Params, fused: bool, *, lr: Positive = 1e-4, weight_decay: NonNegative = 0.0, momentum: Share = 0.9
) -> Optimizer:
    """MADGRAD of timm (Defazio & Jelassi 2021)."""
    from timm.optim.madgrad import MADGRAD

    return MADGRAD(params, lr, momentum, weight_decay)
