"""AdamP over many weights at once: no step waits for the device.

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
LACKING = ("nesterov", "amsgrad", "maximize", "differentiable")  # options of other optimizers that would change a step
NUMBERS = 2**18  # of the weights that a CPU steps together: what is made on the way stays in its cache


class AdamP(Optimizer):
    """AdamP, with the steps of the adamp package.

    That one asks the device for each weight whether its step is projected, and waits for the answer; here the answer
    stays on the device, as a factor. Adam's part is torch's fused kernel. A state_dict passes to the package's class
    and back; its Nesterov steps are refused.
    """

    def __init__(
        self, params: Iterable[Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, delta: float = 0.1, wd_ratio: float = 0.1,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, settings | {"wd_ratio": wd_ratio, "nesterov": False, "fused": True})
        self.layouts: dict[Any, Layout] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; what AdamP does not do is refused."""
        super().add_param_group(param_group)
        check_group(self.param_groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the state in the form of the adamp package, which counts steps in whole numbers."""
        content = super().state_dict()
        states = content["state"].items()
        return content | {"state": {key: state | {"step": int(state["step"])} for key, state in states}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy, or of load_state_dict: this class's or the package's."""
        for group in state["param_groups"]:
            group.setdefault("nesterov", False)
            group["fused"] = True
            check_group(group)
            for p in group["params"]:
                if own := state["state"].get(p):
                    check_state(p, own)
                    own["step"] = torch.tensor(float(own["step"]), device=p.device)
        super().__setstate__(state)
        self.layouts = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a closure, which computes loss and gradients anew, is called first and its loss returned."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group, given in [(group, learning(group["params"])) for group in self.param_groups]:
            for weights in batches([p for p in given if p.dim() < 2]):
                moves, _ = self.adam_update(group, weights)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, moves)
            for weights in batches([p for p in given if p.dim() > 1]):
                moves, grads = self.adam_update(group, weights)
                torch._foreach_mul_(weights, self.projection_factor(group, weights, grads, moves))
                torch._foreach_add_(weights, moves)
        return loss

    def adam_update(self, group: dict[str, Any], weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Bring the moments up to date; return by how much Adam would move each weight, and the gradients.

        The fused kernel goes over memory, not over indices: all that it is given lies as the moves do.
        """
        moves = [torch.zeros_like(p) for p in weights]  # what begins at 0 ends at the move
        grads = [laid(p.grad, move) for p, move in zip(weights, moves, strict=True) if p.grad is not None]
        states = [self.state[p] for p in weights]
        for own, move in zip(states, moves, strict=True):
            if not own:
                step = torch.zeros((), device=move.device)
                own |= {"step": step, "exp_avg": torch.zeros_like(move), "exp_avg_sq": torch.zeros_like(move)}
            elif any(own[key].stride() != move.stride() for key in MOMENTS):
                own |= {key: laid(own[key], move) for key in MOMENTS}
        first, second, steps = ([state[key] for state in states] for key in (*MOMENTS, "step"))
        (beta1, beta2), rate = group["betas"], group["lr"]
        adam(
            moves, grads, first, second, [], steps, fused=True, amsgrad=False, beta1=beta1, beta2=beta2, lr=rate,
            weight_decay=0.0, eps=group["eps"], maximize=False,
        )  # fmt: skip
        return moves, grads

    def projection_factor(
        self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor], moves: list[Tensor]
    ) -> list[Tensor]:
        """Return the factor of each row of each weight, (rows, 1, …): its decay, and what the projection gives back.

        The projection takes from a move its part along the weight: p ← p·decay + m − p·(p·m)/|p|². Where gradient and
        weight are nearly at right angles in each row, it is taken of each row; else, where they are so as a whole, of
        the whole weight; else not at all.
        """
        layout, eps, delta = self.layout(weights), group["eps"], group["delta"]
        gg, pp, gp, pm = norms(grads), norms(weights), products(grads, weights), products(weights, moves)
        by_row = layout.largest(cosine(gp, gg, pp, eps)) < delta / layout.fan.sqrt()
        g, p = (layout.sums(norm.square()).sqrt() for norm in (gg, pp))
        as_one = cosine(layout.sums(gp), g, p, eps) < delta / (layout.fan * layout.rows).sqrt()
        whole = torch.where(as_one, layout.sums(pm) / (p + eps).square(), 0)
        along = torch.where(layout.spread(by_row), pm / (pp + eps).square(), layout.spread(whole))
        rate = group["lr"] * group["weight_decay"]
        factors = [1 - rate * group["wd_ratio"], 1 - rate]
        if pp.dtype is torch.float64:  # torch makes float32 of plain numbers
            factors = [torch.as_tensor(factor, dtype=pp.dtype) for factor in factors]
        decay = torch.where(by_row | as_one, factors[0], factors[1])
        parts = (layout.spread(decay) - along).split(layout.counts)
        return [part.view(-1, *[1] * (p.dim() - 1)) for part, p in zip(parts, weights, strict=True)]

    def layout(self, weights: list[Tensor]) -> Layout:
        """Return how the rows of the weights lie one after the other; it is sent to the device once."""
        shapes, device = tuple(p.shape for p in weights), weights[0].device
        if (shapes, device) not in self.layouts:
            self.layouts[shapes, device] = Layout(shapes, device)
        return self.layouts[shapes, device]


class Layout:
    """The rows of K weights, one after the other in a vector (R,)."""

    def __init__(self, shapes: Sequence[torch.Size], device: torch.device) -> None:
        self.counts = [shape[0] for shape in shapes]
        self.rows = torch.tensor(self.counts, device=device)
        self.fan = torch.tensor([float(shape.numel() // shape[0]) for shape in shapes], device=device)

    def largest(self, values: Tensor) -> Tensor:
        """Return each weight's largest value, (R,) → (K,)."""
        return torch.segment_reduce(values, "max", lengths=self.rows, unsafe=True)

    def sums(self, values: Tensor) -> Tensor:
        """Return each weight's sum, (R,) → (K,)."""
        return torch.segment_reduce(values, "sum", lengths=self.rows, unsafe=True)

    def spread(self, values: Tensor) -> Tensor:
        """Return for each row its weight's value, (K,) → (R,)."""
        return values.repeat_interleave(self.rows, output_size=sum(self.counts))


def check_group(group: Mapping[str, Any]) -> None:
    """Raise a ValueError for settings or weights with which AdamP would take other steps than they ask for."""
    if absent := [key for key in ("lr", "betas", "eps", "weight_decay", "delta", "wd_ratio") if key not in group]:
        raise ValueError(f"AdamP: expected a state of AdamP, got one without {', '.join(absent)}")
    if wanted := [key for key in LACKING if group.get(key)]:
        raise ValueError(f"AdamP: {wanted[0]}=True is not supported")
    for p in group["params"]:
        if p.layout is not torch.strided or not p.is_floating_point():
            raise ValueError(f"AdamP: expected dense floating-point weights, got {p.dtype}, {p.layout}")
        if any(step == 0 and size > 1 for step, size in zip(p.stride(), p.shape, strict=True)):
            raise ValueError(f"AdamP: expected weights with their own memory, got an expanded tensor, {tuple(p.shape)}")


def check_state(p: Tensor, state: Mapping[str, Any]) -> None:
    """Raise a ValueError for moments of another weight: the fused kernel would read beyond their memory."""
    for key in MOMENTS:
        if state[key].shape != p.shape:
            raise ValueError(f"AdamP: expected {key} of shape {tuple(p.shape)}, got {tuple(state[key].shape)}")


def learning(params: Iterable[Tensor]) -> list[Tensor]:
    """Return the weights that have a gradient; a ValueError for a sparse one comes before any weight is moved."""
    given = [p for p in params if p.grad is not None and p.numel()]
    if sparse := [p for p in given if p.grad is not None and p.grad.layout is not torch.strided]:
        p = sparse[0]
        raise ValueError(f"AdamP: expected dense gradients, got a sparse one for a weight {tuple(p.shape)}")
    return given


def batches(weights: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the weights in lists of one device and dtype: all at once on a GPU, on a CPU as many as its cache holds."""
    kinds: dict[Any, list[Tensor]] = {}
    for p in weights:
        kinds.setdefault((p.device, p.dtype), []).append(p)
    for (device, _), alike in kinds.items():
        yield from portions(alike, NUMBERS if device.type == "cpu" else math.inf)


def portions(weights: Iterable[Tensor], limit: float) -> Iterator[list[Tensor]]:
    """Yield the weights in lists of at most `limit` numbers, a larger weight alone."""
    part: list[Tensor] = []
    size = 0
    for p in weights:
        if part and size + p.numel() > limit:
            yield part
            part, size = [], 0
        part.append(p)
        size += p.numel()
    if part:
        yield part


def laid(x: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the memory layout of another one, which is dense."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each row of each tensor, one after the other, (R,)."""
    return torch.cat([torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim()))) for x in tensors])


def products(some: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the inner product of each row of each tensor with the other's, one after the other, (R,)."""
    return torch.cat([(x * y).sum(tuple(range(1, x.dim()))) for x, y in zip(some, others, strict=True)])


def cosine(product: Tensor, norm: Tensor, other: Tensor, eps: float) -> Tensor:
    """Return the size of the cosine of two vectors by their inner product and norms."""
    return (product / (norm.clamp_min(eps) * other.clamp_min(eps))).abs()
