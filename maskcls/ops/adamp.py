"""AdamP on lists of weights, without device synchronization.

Heo et al., AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights, ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.adam import adam

MOMENTS = ("exp_avg", "exp_avg_sq")
UNSUPPORTED = ("nesterov", "amsgrad", "maximize", "differentiable")  # options of other optimizers that change a step
CPU_CHUNK_SIZE = 2**18  # elements that a CPU updates together, so that intermediate tensors fit in its cache


class AdamP(Optimizer):
    """AdamP optimizer with the same steps as the adamp package.

    The package reads from the device, for each weight, whether to project its step; here the decision stays on the
    device, as a factor. Adam's update is torch's fused kernel. A state_dict can be loaded by the package's class and
    vice versa. Nesterov steps are not supported.
    """

    def __init__(
        self, params: Iterable[Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, delta: float = 0.1, wd_ratio: float = 0.1,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, defaults | {"wd_ratio": wd_ratio, "nesterov": False, "fused": True})
        self.layouts: dict[Any, RowLayout] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own options; raise ValueError for unsupported ones."""
        super().add_param_group(param_group)
        check_group(self.param_groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the state in the format of the adamp package, whose step counts are integers."""
        state_dict = super().state_dict()
        states = state_dict["state"].items()
        return state_dict | {"state": {key: state | {"step": int(state["step"])} for key, state in states}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state on copying, unpickling and load_state_dict; it may come from the package's class."""
        for group in state["param_groups"]:
            group.setdefault("nesterov", False)
            group["fused"] = True
            check_group(group)
            for p in group["params"]:
                if p_state := state["state"].get(p):
                    check_state(p, p_state)
                    p_state["step"] = torch.tensor(float(p_state["step"]), device=p.device)
        super().__setstate__(state)
        self.layouts = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights; a closure recomputes loss and gradients first, and its loss is returned."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group, params in [(group, weights_with_grad(group["params"])) for group in self.param_groups]:
            for weights in chunk_weights([p for p in params if p.dim() < 2]):
                updates, _ = self.adam_update(group, weights)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, updates)
            for weights in chunk_weights([p for p in params if p.dim() > 1]):
                updates, grads = self.adam_update(group, weights)
                torch._foreach_mul_(weights, self.projection_factor(group, weights, grads, updates))
                torch._foreach_add_(weights, updates)
        return loss

    def adam_update(self, group: dict[str, Any], weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Update the moments; return Adam's update of each weight, and the gradients.

        The fused kernel works on memory, not on indices: all its tensors need the strides of the updates.
        """
        updates = [torch.zeros_like(p) for p in weights]  # Adam applied to zeros gives the update alone
        pairs = zip(weights, updates, strict=True)
        grads = [match_strides(p.grad, update) for p, update in pairs if p.grad is not None]
        states = [self.state[p] for p in weights]
        for state, update in zip(states, updates, strict=True):
            if not state:
                step = torch.zeros((), device=update.device)
                state |= {"step": step, "exp_avg": torch.zeros_like(update), "exp_avg_sq": torch.zeros_like(update)}
            elif any(state[key].stride() != update.stride() for key in MOMENTS):
                state |= {key: match_strides(state[key], update) for key in MOMENTS}
        exp_avgs, exp_avg_sqs, steps = ([state[key] for state in states] for key in (*MOMENTS, "step"))
        (beta1, beta2), lr = group["betas"], group["lr"]
        adam(
            updates, grads, exp_avgs, exp_avg_sqs, [], steps, fused=True, amsgrad=False, beta1=beta1, beta2=beta2,
            lr=lr, weight_decay=0.0, eps=group["eps"], maximize=False,
        )  # fmt: skip
        return updates, grads

    def projection_factor(
        self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor], updates: list[Tensor]
    ) -> list[Tensor]:
        """Return the factor of each row of each weight, (rows, 1, …): weight decay less the projection.

        The projection removes the component of an update along the weight: p ← p·decay + u − p·(p·u)/|p|². It is
        applied to each row if gradient and weight are nearly orthogonal in every row; else to the whole weight if
        they are nearly orthogonal as a whole; else not at all.
        """
        layout, eps, delta = self.row_layout(weights), group["eps"], group["delta"]
        gg, pp, gp, pu = row_norms(grads), row_norms(weights), row_dots(grads, weights), row_dots(weights, updates)
        by_row = layout.max(abs_cosine(gp, gg, pp, eps)) < delta / layout.row_size.sqrt()
        g, p = (layout.sum(norm.square()).sqrt() for norm in (gg, pp))
        by_weight = abs_cosine(layout.sum(gp), g, p, eps) < delta / (layout.row_size * layout.num_rows).sqrt()
        weight_part = torch.where(by_weight, layout.sum(pu) / (p + eps).square(), 0)
        projection = torch.where(layout.expand(by_row), pu / (pp + eps).square(), layout.expand(weight_part))
        decay_rate = group["lr"] * group["weight_decay"]
        factors = [1 - decay_rate * group["wd_ratio"], 1 - decay_rate]
        if pp.dtype is torch.float64:  # torch converts Python floats to float32
            factors = [torch.as_tensor(factor, dtype=pp.dtype) for factor in factors]
        decay = torch.where(by_row | by_weight, factors[0], factors[1])
        parts = (layout.expand(decay) - projection).split(layout.row_counts)
        return [part.view(-1, *[1] * (p.dim() - 1)) for part, p in zip(parts, weights, strict=True)]

    def row_layout(self, weights: list[Tensor]) -> RowLayout:
        """Return the row layout of the weights; it is copied to the device once."""
        shapes, device = tuple(p.shape for p in weights), weights[0].device
        if (shapes, device) not in self.layouts:
            self.layouts[shapes, device] = RowLayout(shapes, device)
        return self.layouts[shapes, device]


class RowLayout:
    """The rows of K weights, concatenated in a vector of R rows."""

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self.row_counts = [shape[0] for shape in shapes]
        self.num_rows = torch.tensor(self.row_counts, device=device)
        self.row_size = torch.tensor([float(shape.numel() // shape[0]) for shape in shapes], device=device)

    def max(self, values: Tensor) -> Tensor:
        """Return the maximum over each weight's rows, (R,) → (K,)."""
        return torch.segment_reduce(values, "max", lengths=self.num_rows, unsafe=True)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over each weight's rows, (R,) → (K,)."""
        return torch.segment_reduce(values, "sum", lengths=self.num_rows, unsafe=True)

    def expand(self, values: Tensor) -> Tensor:
        """Repeat each weight's value for each of its rows, (K,) → (R,)."""
        return values.repeat_interleave(self.num_rows, output_size=sum(self.row_counts))


def check_group(group: Mapping[str, Any]) -> None:
    """Raise ValueError for missing or unsupported options, and for weights that AdamP cannot update."""
    if missing := [key for key in ("lr", "betas", "eps", "weight_decay", "delta", "wd_ratio") if key not in group]:
        raise ValueError(f"AdamP: expected a state of AdamP, got one without {', '.join(missing)}")
    if unsupported := [key for key in UNSUPPORTED if group.get(key)]:
        raise ValueError(f"AdamP: {unsupported[0]}=True is not supported")
    for p in group["params"]:
        if p.layout is not torch.strided or not p.is_floating_point():
            raise ValueError(f"AdamP: expected dense floating-point weights, got {p.dtype}, {p.layout}")
        if any(stride == 0 and size > 1 for stride, size in zip(p.stride(), p.shape, strict=True)):
            raise ValueError(f"AdamP: expected weights with their own memory, got an expanded tensor, {tuple(p.shape)}")


def check_state(p: Tensor, state: Mapping[str, Any]) -> None:
    """Raise ValueError for moments of another shape: the fused kernel would read past their memory."""
    for key in MOMENTS:
        if state[key].shape != p.shape:
            raise ValueError(f"AdamP: expected {key} of shape {tuple(p.shape)}, got {tuple(state[key].shape)}")


def weights_with_grad(params: Iterable[Tensor]) -> list[Tensor]:
    """Return the weights that have a gradient; raise ValueError for a sparse one, before any weight is updated."""
    weights = [p for p in params if p.grad is not None and p.numel()]
    if sparse := [p for p in weights if p.grad is not None and p.grad.layout is not torch.strided]:
        p = sparse[0]
        raise ValueError(f"AdamP: expected dense gradients, got a sparse one for a weight {tuple(p.shape)}")
    return weights


def chunk_weights(weights: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield lists of weights of one device and dtype: on a GPU all of them, on a CPU as many as its cache holds."""
    groups: dict[Any, list[Tensor]] = {}
    for p in weights:
        groups.setdefault((p.device, p.dtype), []).append(p)
    for (device, _), group in groups.items():
        yield from split_by_size(group, CPU_CHUNK_SIZE if device.type == "cpu" else math.inf)


def split_by_size(weights: Iterable[Tensor], max_size: float) -> Iterator[list[Tensor]]:
    """Yield lists of weights with at most `max_size` elements in total; a larger weight has a list of its own."""
    chunk: list[Tensor] = []
    size = 0
    for p in weights:
        if chunk and size + p.numel() > max_size:
            yield chunk
            chunk, size = [], 0
        chunk.append(p)
        size += p.numel()
    if chunk:
        yield chunk


def match_strides(x: Tensor, other: Tensor) -> Tensor:
    """Return a tensor with the strides of another, dense one; copy it only if they differ."""
    return x if x.stride() == other.stride() else torch.empty_like(other).copy_(x)


def row_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each row of each tensor, concatenated, (R,)."""
    return torch.cat([torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim()))) for x in tensors])


def row_dots(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the inner product of each row of each tensor with the row of the other, concatenated, (R,)."""
    return torch.cat([(x * y).sum(tuple(range(1, x.dim()))) for x, y in zip(tensors, others, strict=True)])


def abs_cosine(product: Tensor, norm: Tensor, other_norm: Tensor, eps: float) -> Tensor:
    """Return the absolute cosine of two vectors from their inner product and norms."""
    return (product / (norm.clamp_min(eps) * other_norm.clamp_min(eps))).abs()
