"""AdamP over many weights at once: no step waits for the device.

Heo et al., AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights, ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.adam import adam

NUMBERS = 2**18  # of the weights that a CPU steps together: what is made on the way stays in its cache


class AdamP(Optimizer):
    """AdamP, with the steps of the adamp package.

    That one asks the device for each weight whether its step is projected, and waits for the answer; here the answer
    stays on the device, as a factor. Adam's part is torch's fused kernel.
    """

    def __init__(
        self, params: Iterable[Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, delta: float = 0.1, wd_ratio: float = 0.1,
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "delta": delta}
        super().__init__(params, settings | {"wd_ratio": wd_ratio, "fused": True})
        self.layouts: dict[tuple[torch.Size, ...], Layout] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a closure, which computes loss and gradients anew, is called first and its loss returned."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            given: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            for weights in batches([p for p in given if p.dim() < 2]):
                moves = self.moves(group, weights, gradients(weights))
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, moves)
            for weights in batches([p for p in given if p.dim() > 1]):
                grads = gradients(weights)
                moves = self.moves(group, weights, grads)
                torch._foreach_mul_(weights, self.kept(group, weights, grads, moves))
                torch._foreach_add_(weights, moves)
        return loss

    def moves(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        """Bring the moments up to date and return by how much Adam would move each weight."""
        for p in weights:
            if not self.state[p]:
                step = torch.zeros((), device=p.device)
                self.state[p] |= {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        states = [self.state[p] for p in weights]
        first, second, steps = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq", "step"))
        moves = [torch.zeros_like(p) for p in weights]  # what begins at 0 ends at the move
        (beta1, beta2), rate = group["betas"], group["lr"]
        adam(
            moves, grads, first, second, [], steps, fused=True, amsgrad=False, beta1=beta1, beta2=beta2, lr=rate,
            weight_decay=0.0, eps=group["eps"], maximize=False,
        )  # fmt: skip
        return moves

    def kept(
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
        decay = torch.where(by_row | as_one, 1 - rate * group["wd_ratio"], 1 - rate)
        parts = (layout.spread(decay) - along).split(layout.counts)
        return [part.view(-1, *[1] * (p.dim() - 1)) for part, p in zip(parts, weights, strict=True)]

    def layout(self, weights: list[Tensor]) -> Layout:
        """Return how the rows of the weights lie one after the other; it is sent to the device once."""
        shapes = tuple(p.shape for p in weights)
        if shapes not in self.layouts:
            self.layouts[shapes] = Layout(shapes, weights[0].device)
        return self.layouts[shapes]


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


def batches(weights: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the weights in lists: all at once on a GPU, on a CPU as many as its cache holds."""
    limit = NUMBERS if weights and weights[0].device.type == "cpu" else math.inf
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


def gradients(weights: list[Tensor]) -> list[Tensor]:
    """Return the gradients, each in the memory layout of its weight, which the fused kernel takes for granted."""
    pairs = [(p, p.grad) for p in weights if p.grad is not None]
    return [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for p, g in pairs]


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each row of each tensor, one after the other, (R,)."""
    return torch.cat([torch.linalg.vector_norm(x, dim=tuple(range(1, x.dim()))) for x in tensors])


def products(some: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the inner product of each row of each tensor with the other's, one after the other, (R,)."""
    return torch.cat([(x * y).sum(tuple(range(1, x.dim()))) for x, y in zip(some, others, strict=True)])


def cosine(product: Tensor, norm: Tensor, other: Tensor, eps: float) -> Tensor:
    """Return the size of the cosine of two vectors by their inner product and norms."""
    return (product / (norm.clamp_min(eps) * other.clamp_min(eps))).abs()
