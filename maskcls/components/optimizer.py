"""Optimizers of the trainable parameters."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, ValidationInfo
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from maskcls.core.errors import unknown_message
from maskcls.core.registry import Registry
from maskcls.core.schema import NonNegativeFloat, PositiveFloat, Proportion
from maskcls.ops.adamp import AdamP

registry = Registry("optimizer")
Params = Iterable[Parameter]
LOOKAHEAD = "lookahead_"  # timm's prefix (Zhang et al. 2019)
EXTERNAL = {"apex.": "apex", "bitsandbytes.": "bitsandbytes"}  # module prefix: package


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
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate
        weight_decay: L2 weight decay, added to the gradient
        momentum: momentum of the gradient
        nesterov: use Nesterov momentum
    """
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


@registry.register
def adam(params: Params, fused: bool, *, lr: PositiveFloat = 1e-4, weight_decay: NonNegativeFloat = 0.0) -> Optimizer:
    """Adam (Kingma & Ba 2015); weight decay is L2, in the gradient.

    Args:
        lr: learning rate
        weight_decay: L2 weight decay, added to the gradient
    """
    return torch.optim.Adam(params, lr, weight_decay=weight_decay, fused=fused)


@registry.register
def adamw(params: Params, fused: bool, *, lr: PositiveFloat = 1e-3, weight_decay: NonNegativeFloat = 1e-2) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    Args:
        lr: learning rate
        weight_decay: decoupled weight decay
    """
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

    Args:
        lr: learning rate
        weight_decay: decoupled weight decay
        package: use the adamp package instead of the same steps in fewer kernels
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
    """MADGRAD of timm (Defazio & Jelassi 2021).

    Args:
        lr: learning rate
        weight_decay: L2 weight decay, added to the gradient
        momentum: momentum of the averaged steps
    """
    from timm.optim.madgrad import MADGRAD

    return MADGRAD(params, lr, momentum, weight_decay)


def check_opt(opt: str) -> str:
    """Return the name of a timm optimizer; ValueError if it is unknown or cannot be used here."""
    from timm.optim import get_optimizer_info, list_optimizers

    base = opt.removeprefix(LOOKAHEAD)
    names = [str(name) for name in list_optimizers()]
    if base not in names:
        raise ValueError(unknown_message("timm optimizer", opt, [*names, *(LOOKAHEAD + name for name in names)]))
    info: Any = get_optimizer_info(base)
    if info.second_order:
        raise ValueError(f"{opt} needs second derivatives, which the training loop does not compute. Choose another")
    for prefix, package in EXTERNAL.items():
        if isinstance(info.opt_class, str) and info.opt_class.startswith(prefix):
            raise ValueError(f"{opt} needs the package {package}, whose state cannot be resumed here. Choose another")
    if info.opt_class.__name__ == "Kron":
        raise ValueError(f"{opt} compiles code for each shape of weights, which takes minutes. Choose another")
    return opt


def opt_parameters(opt: str) -> dict[str, inspect.Parameter]:
    """Return the parameters of a timm optimizer's class by name."""
    from timm.optim import get_optimizer_class

    cls: Any = get_optimizer_class(opt.removeprefix(LOOKAHEAD), bind_defaults=False)
    return dict(inspect.signature(cls).parameters)


def check_opt_lr(lr: float | None, info: ValidationInfo) -> float | None:
    """Return the learning rate, by default the optimizer's own; ValueError if it has none."""
    if lr is not None or "opt" not in info.data:
        return lr
    default = opt_parameters(info.data["opt"])["lr"].default
    if not isinstance(default, float):
        raise ValueError(f"{info.data['opt']} has no default learning rate. Set optimizer.lr=…")
    return default


def check_opt_kwargs(kwargs: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Return the arguments of a timm optimizer after a step with them; ValueError for a wrong name or value."""
    if not {"opt", "lr", "weight_decay"} <= info.data.keys():
        return kwargs  # their errors are reported instead
    opt = info.data["opt"]
    allowed = opt_parameters(opt).keys() - {"params", "lr", "weight_decay"}
    if wrong := [key for key in kwargs if key not in allowed]:
        raise ValueError(unknown_message("argument", wrong[0], allowed, opt))
    weights = [Parameter(torch.ones(shape)) for shape in ((4, 3, 3, 3), (4,), (6, 5))]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timm_(weights, False, **info.data, kwargs=kwargs).step()
    except Exception as error:  # each optimizer has its own exception types
        raise ValueError(f"{opt}: {' '.join(str(error).split())[:200]}") from error
    return kwargs


@registry.register
def timm_(
    params: Params,
    fused: bool,
    *,
    opt: Annotated[str, AfterValidator(check_opt)],
    lr: Annotated[PositiveFloat | None, AfterValidator(check_opt_lr)] = None,
    weight_decay: NonNegativeFloat = 0.0,
    kwargs: Annotated[dict[str, Any], AfterValidator(check_opt_kwargs)] = {},
) -> Optimizer:
    """Any optimizer of timm by name, such as lion or lookahead_radam; momentum is 0.9 where there is one.

    Args:
        opt: name of a timm optimizer, such as lion
        lr: learning rate; null: the optimizer's own default
        weight_decay: weight decay, coupled or decoupled as the optimizer does
        kwargs: other arguments of the optimizer, such as {betas: [0.9, 0.99]}
    """
    from timm.optim import create_optimizer_v2

    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return create_optimizer_v2(params, opt=opt, lr=lr, weight_decay=weight_decay, **arguments)  # type: ignore[arg-type]
