"""Optimizers: to the number those of torch, timm and adamp; each goes downhill."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adamp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import Lion, Lookahead, list_optimizers
from timm.optim.madgrad import MADGRAD

from maskcls.components import optimizer
from maskcls.core.schema import option_fields
from maskcls.engine.train_state import TrainState
from maskcls.ops.adamp import AdamP

PAIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"lr": 0.05, "weight_decay": 0.01, "momentum": 0.8, "nesterov": True},
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.8, weight_decay=0.01, nesterov=True),
    ),
    "adam": ({"lr": 0.05, "weight_decay": 0.01}, lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.01)),
    "adamw": ({"lr": 0.05, "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.1)),
    "adamp": ({"lr": 0.05, "weight_decay": 0.1, "package": False}, lambda p: adamp.AdamP(p, lr=0.05, weight_decay=0.1)),
    "adamp_package": (
        {"lr": 0.05, "weight_decay": 0.1, "package": True},
        lambda p: adamp.AdamP(p, lr=0.05, weight_decay=0.1),
    ),
    "madgrad": (
        {"lr": 0.05, "weight_decay": 0.01, "momentum": 0.8},
        lambda p: MADGRAD(p, lr=0.05, momentum=0.8, weight_decay=0.01),
    ),
    "timm": (
        {"opt": "lookahead_lion", "lr": 0.05, "weight_decay": 0.1, "kwargs": {"betas": [0.8, 0.9]}},
        lambda p: Lookahead(Lion(p, lr=0.05, betas=(0.8, 0.9), weight_decay=0.1)),
    ),
}


def parameters() -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape, generator=random)) for shape in ((4, 3), (4,), (2, 3, 3, 3))]


def quadratic(params: list[torch.nn.Parameter]) -> torch.Tensor:
    return torch.stack([((p - 0.5) ** 2 * (i + 1)).sum() for i, p in enumerate(params)]).sum()


def walk(made: torch.optim.Optimizer, params: list[torch.nn.Parameter], steps: int) -> float:
    for _ in range(steps):
        made.zero_grad()
        quadratic(params).backward()
        made.step()
    return quadratic(params).item()


def named(key: str) -> Any:
    """Return the builder of a pair's optimizer."""
    return optimizer.registry.builders[key.removesuffix("_package")]


def required(key: str) -> dict[str, Any]:
    """Return the parameters of a pair that have no default."""
    return {name: PAIRS[key][0][name] for name, (_, default) in option_fields(named(key)).items() if default is ...}


def test_every_optimizer_is_held_to_another() -> None:
    assert set(PAIRS) - {"adamp_package"} == set(optimizer.registry.builders)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("fused", [False, True])
def test_each_equals_the_published_one(name: str, fused: bool) -> None:
    options, other = PAIRS[name]
    assert set(options) == set(option_fields(named(name))), "each of its parameters is tried"
    mine, theirs = parameters(), parameters()
    walk(named(name)(mine, fused, **options), mine, 6)
    walk(other(theirs), theirs, 6)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_each_goes_downhill(name: str) -> None:
    params = parameters()
    before = quadratic(params).item()
    after = walk(named(name)(params, True, **required(name), lr=0.02, weight_decay=0.0), params, 300)
    assert after < 0.05 * before


@pytest.mark.parametrize("name", sorted(set(PAIRS) - {"madgrad"}))  # whose average still moves to its last point
def test_the_rate_is_read_at_each_step(name: str) -> None:
    params = parameters()
    made = named(name)(params, True, **required(name), lr=0.02, weight_decay=0.0)
    walk(made, params, 2)
    before = [p.detach().clone() for p in params]
    for group in made.param_groups:
        group["lr"] = 0.0
    walk(made, params, 2)
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))


SHAPES = ((), (7,), (6, 5), (8, 4, 3, 3), (8, 1, 5, 5), (9, 6, 1, 1), (1, 12))


def weights(layout: torch.memory_format) -> list[torch.nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=random) for shape in SHAPES]
    return [torch.nn.Parameter(x.to(memory_format=layout) if x.dim() == 4 else x) for x in made]


def gradient(p: torch.Tensor, kind: str, random: torch.Generator) -> torch.Tensor:
    """Return a gradient at right angles to each row of a weight (channel), to all of it alone (layer), or any one."""
    g = torch.randn(p.shape, generator=random)
    if p.dim() < 2 or kind == "any":
        return g + p.sign()
    rows, whole = p.detach().flatten(1), p.detach().reshape(1, -1)
    if kind == "channel":
        flat = g.flatten(1)
        return (flat - rows * (flat * rows).sum(1, keepdim=True) / rows.square().sum(1, keepdim=True)).view(p.shape)
    turned = (rows * torch.linspace(-2, 2, len(rows))[:, None] + 0.1 * g.flatten(1)).reshape(1, -1)
    return (turned - whole * (turned * whole).sum() / whole.square().sum()).view(p.shape)


@pytest.mark.parametrize("kind", ["any", "channel", "layer", "each"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamp_takes_the_steps_of_the_package(kind: str, layout: torch.memory_format, decay: float) -> None:
    mine, theirs = weights(layout), weights(torch.contiguous_format)
    optimizers = [AdamP(mine, 0.02, weight_decay=decay), adamp.AdamP(theirs, 0.02, weight_decay=decay)]
    random = torch.Generator().manual_seed(1)
    for i in range(30):
        now = ("any", "channel", "layer")[i % 3] if kind == "each" else kind
        for a, b in zip(mine, theirs, strict=True):
            b.grad = gradient(b, now, random)
            a.grad = torch.empty_like(a).copy_(b.grad) if i % 2 else b.grad.clone()  # of either memory layout
        for one in optimizers:
            one.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "projected"), [("any", 0), ("channel", 1), ("layer", 1)])
def test_the_gradients_above_call_for_the_projections_that_they_name(kind: str, projected: int) -> None:
    ratios = []

    class Told(adamp.AdamP):
        def _projection(self, *given: Any) -> Any:
            views = []
            self._channel_view = lambda x: views.append("channel") or x.view(x.size(0), -1)  # type: ignore[func-returns-value]
            self._layer_view = lambda x: views.append("layer") or x.view(1, -1)  # type: ignore[func-returns-value]
            result = super()._projection(*given)
            ratios.append((result[1] != 1, views[-1]))
            return result

    params = weights(torch.contiguous_format)
    for p in params:
        p.grad = gradient(p, kind, torch.Generator().manual_seed(1))
    Told(params, 0.02).step()
    deep = [
        found
        for found, shape in zip(ratios, [shape for shape in SHAPES if len(shape) > 1], strict=True)
        if shape[0] > 1
    ]
    assert all(bool(found) == bool(projected) for found, _ in deep)
    assert not projected or all(view == kind for _, view in deep)


def test_adamp_never_waits_for_the_device() -> None:
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    with FakeTensorMode():  # tensors without numbers: to ask for one is an error
        params = [torch.nn.Parameter(torch.ones(shape)) for shape in SHAPES]
        for p in params:
            p.grad = torch.ones_like(p)
        AdamP(params, 0.1, weight_decay=0.1).step()
        with pytest.raises(DataDependentOutputException):
            adamp.AdamP(params, 0.1).step()


def test_adamp_restored_takes_the_same_steps_and_skips_what_has_no_gradient() -> None:
    params = weights(torch.contiguous_format)
    one = AdamP(params[:-1], 0.05)
    random = torch.Generator().manual_seed(2)
    for p in params[1:]:
        p.grad = gradient(p, "any", random)
    one.step()
    others = [torch.nn.Parameter(p.detach().clone()) for p in params]
    two = AdamP(others[:-1], 0.1)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for p, q in zip(params, others, strict=True):
        q.grad = p.grad
    one.step(), two.step()
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))
    assert torch.equal(params[0], weights(torch.contiguous_format)[0])


def test_adamp_calls_a_closure_first_and_returns_its_loss() -> None:
    mine, theirs = (torch.nn.Parameter(torch.arange(6.0).reshape(2, 3) + 1) for _ in range(2))
    one, two = AdamP([mine], 0.1), AdamP([theirs], 0.1)

    def closure() -> torch.Tensor:
        one.zero_grad()
        loss = mine.square().sum()
        loss.backward()
        return loss

    assert one.step(closure).item() == 91.0
    theirs.square().sum().backward()
    assert two.step() is None and torch.equal(mine, theirs)


SETTINGS = {"lr": 0.05, "weight_decay": 0.1}


def learn(made: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    """Take steps down gradients drawn by a seed."""
    random = torch.Generator().manual_seed(seed)
    params = [p for group in made.param_groups for p in group["params"]]
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=random).to(p)
        made.step()


def assert_near(mine: Any, theirs: Any) -> None:
    for a, b in zip(mine, theirs, strict=True):
        loose = 2e-2 if a.dtype.itemsize == 2 else 1e-6
        torch.testing.assert_close(a.detach(), b.detach(), rtol=loose, atol=loose)


@pytest.mark.parametrize("how", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_of_adamp_steps_as_it_does(how: Any) -> None:
    made = AdamP(parameters(), **SETTINGS)
    learn(made, 2)
    twin = how(made)
    for one in (made, twin):
        learn(one, 2, seed=1)
    pairs = zip(made.param_groups[0]["params"], twin.param_groups[0]["params"], strict=True)
    assert all(torch.equal(p, q) and p is not q for p, q in pairs)


@pytest.mark.parametrize(("first", "second"), [(AdamP, adamp.AdamP), (adamp.AdamP, AdamP), (AdamP, AdamP)])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_state_passes_to_the_package_and_back(first: Any, second: Any, steps: int) -> None:
    theirs, mine = parameters(), parameters()
    reference, made = adamp.AdamP(theirs, **SETTINGS), first(mine, **SETTINGS)
    learn(reference, steps), learn(made, steps)
    heir = second(mine, lr=9.0)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    heir.load_state_dict(torch.load(file, weights_only=True))
    learn(reference, 3, seed=1), learn(heir, 3, seed=1)
    assert_near(mine, theirs)


def test_a_state_that_is_not_adamps_is_refused() -> None:
    params = parameters()
    made = AdamP(params, 0.1)
    nesterov = adamp.AdamP(params, lr=0.1, nesterov=True).state_dict()
    with pytest.raises(ValueError, match="nesterov=True is not supported"):
        made.load_state_dict(nesterov)
    with pytest.raises(ValueError, match="got one without delta, wd_ratio"):
        AdamP(params, 0.1).load_state_dict(torch.optim.Adam(params).state_dict())
    learn(made, 1)
    with pytest.raises(ValueError, match=r"expected exp_avg of shape \(2, 3, 3, 3\), got \(4, 3\)"):
        AdamP(params[::-1], 0.1).load_state_dict(made.state_dict())


@pytest.mark.parametrize("option", ["nesterov", "maximize", "amsgrad"])
def test_adamp_refuses_an_option_that_it_would_pass_over(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=True is not supported"):
        AdamP([{"params": parameters(), option: True}], 0.1)  # type: ignore[list-item]


def test_adamp_refuses_sparse_and_complex_numbers_before_any_weight_moves() -> None:
    made, table = AdamP(params := parameters(), 0.1), torch.nn.Embedding(4, 3, sparse=True)
    made.add_param_group({"params": table.parameters()})
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.ones_like(p)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"expected dense gradients, got a sparse one for a weight \(4, 3\)"):
        made.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    with pytest.raises(ValueError, match="expected dense floating-point weights"):
        AdamP([torch.nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))], 0.1)
    with pytest.raises(ValueError, match=r"expected weights with their own memory, got an expanded tensor, \(3, 4\)"):
        AdamP([torch.nn.Parameter(torch.ones(3, 1).expand(3, 4))], 0.1)


def test_moments_follow_a_weight_whose_memory_layout_changes() -> None:
    mine, theirs = weights(torch.channels_last), weights(torch.contiguous_format)
    one, other = AdamP(mine, **SETTINGS), adamp.AdamP(theirs, **SETTINGS)
    learn(one, 2), learn(other, 2)
    for p in mine:
        p.data = p.data.contiguous()
    learn(one, 2, seed=1), learn(other, 2, seed=1)
    assert_near(mine, theirs)


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as it is": lambda x: x.clone(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.clone(),
    "turned": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1) if x.dim() > 1 else x.clone(),
    "every second": lambda x: torch.stack([x, x * 0 + 7], -1)[..., 0],
    "part of a larger one": lambda x: torch.cat([x, x * 0 + 7], -1)[..., : x.shape[-1]] if x.dim() else x.clone(),
}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_adamp_takes_the_packages_steps_on_generated_weights(data: st.DataObject) -> None:
    draw, random = data.draw, torch.Generator().manual_seed(data.draw(st.integers(0, 999), "seed"))
    mine: list[torch.nn.Parameter] = []
    theirs: list[torch.nn.Parameter] = []
    for _ in range(draw(st.integers(1, 6), "weights")):
        shape = draw(st.lists(st.integers(1, 5), max_size=5), "shape")
        x = torch.randn(shape, generator=random).to(draw(st.sampled_from([torch.float32, torch.float64]), "dtype"))
        view = VIEWS[draw(st.sampled_from(list(VIEWS)), "view")]
        mine, theirs = [*mine, torch.nn.Parameter(view(x))], [*theirs, torch.nn.Parameter(x.clone())]
    options = {"lr": draw(st.sampled_from([0.0, 1e-3, 0.05])), "weight_decay": draw(st.sampled_from([0.0, 0.1])),
               "delta": draw(st.sampled_from([0.0, 0.1, 2.0])), "wd_ratio": draw(st.sampled_from([0.0, 0.1, 1.0]))}  # fmt: skip
    pair = AdamP(mine[:2], **options), adamp.AdamP(theirs[:2], **options)
    for _ in range(4):
        if len(pair[0].param_groups) == 1 and mine[2:] and draw(st.booleans(), "group is added"):
            (
                pair[0].add_param_group({"params": mine[2:], "lr": 0.02}),
                pair[1].add_param_group({"params": theirs[2:], "lr": 0.02}),
            )
        for a, b in zip(mine, theirs, strict=True):
            kind = draw(st.sampled_from(["none", "zero", "any", "channel", "layer", "huge"]), "gradient")
            g = gradient(b.float(), kind if kind in ("channel", "layer") else "any", random).to(b)
            g = g * {"zero": 0.0, "huge": 1e8}.get(kind, 1.0)
            a.grad, b.grad = (None, None) if kind == "none" else (VIEWS[draw(st.sampled_from(list(VIEWS)))](g), g)
        for one in pair:
            one.step()
        assert_near(mine, theirs)


def test_adamp_in_half_precision_is_near_the_package() -> None:
    mine, theirs = (
        [torch.nn.Parameter(p.detach().bfloat16()) for p in weights(torch.contiguous_format)] for _ in range(2)
    )
    learn(AdamP(mine, 0.01), 2), learn(adamp.AdamP(theirs, lr=0.01), 2)
    assert_near(mine, theirs)


def test_weights_without_numbers_and_a_rate_in_a_tensor_are_stepped_over_and_read() -> None:
    mine, theirs = ([*parameters(), torch.nn.Parameter(torch.zeros(0, 3))] for _ in range(2))
    learn(AdamP(mine, torch.tensor(0.05), weight_decay=0.1), 3), learn(AdamP(theirs, 0.05, weight_decay=0.1), 3)  # type: ignore[arg-type]
    assert_near(mine, theirs)


def usable() -> list[str]:
    """Return the names of timm's optimizers that are accepted, and two with lookahead."""
    return [*filter(lambda name: not refusal(name), list_optimizers()), "lookahead_adamw", "lookahead_lamb"]


def refusal(opt: str, **options: Any) -> str:
    """Return the message about a timm optimizer, an empty text if it is accepted."""
    errors: list[str] = []
    raw = {"name": "timm", "opt": opt, "lr": 0.01, **options}
    component = optimizer.registry.check(raw, errors)
    assert (component is None) == bool(errors)
    return "\n".join(errors)


def test_most_of_timms_optimizers_are_accepted_and_the_others_are_known() -> None:
    refused = {name for name in list_optimizers() if refusal(name)}
    families = ("adahessian", "kron", "bnb", "fused")
    assert refused == {name for name in list_optimizers() if name.startswith(families)}
    assert len(usable()) > 65 and {"lion", "muon", "adan", "lamb", "radam", "nadamw", "adafactorbv"} <= {*usable()}


@pytest.mark.parametrize("opt", usable())
def test_each_timm_optimizer_resumes_to_the_bit(opt: str, tmp_path: Path) -> None:
    def fresh() -> TrainState:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.BatchNorm2d(32), torch.nn.Conv2d(32, 33, 1))
        groups = [{"params": [*part.parameters()], "weight_decay": 0.01, "lr_scale": scale}
                  for part, scale in ((net[:2], 0.5), (net[2:], 1.0))]  # fmt: skip
        component = optimizer.registry.check({"name": "timm", "opt": opt, "lr": 0.01}, [])
        assert component is not None
        made = component.build(groups, True)
        return TrainState(net, made, torch.amp.GradScaler("cpu", enabled=False), 0.01)

    def take(state: TrainState, steps: range) -> None:
        for i in steps:
            images = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(i))
            state.set_lr(1 / (1 + i))
            state.model(images).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
            state.optimizer.step()
            state.optimizer.zero_grad()

    one, two = fresh(), fresh()
    before = copy.deepcopy(one.model.state_dict())
    take(one, range(7))  # lookahead moves its slow weights at each sixth
    one.save(tmp_path / "last.pt")
    two.load(tmp_path / "last.pt")
    take(one, range(7, 13)), take(two, range(7, 13))
    weights = [state.model.state_dict() for state in (one, two)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]) and torch.isfinite(value).all()
        assert not torch.equal(value, before[name]), f"{name} has not moved"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"opt": "lin"}, "optimizer.opt (timm): unknown timm optimizer 'lin', did you mean 'lion'?"),
        ({"opt": "lookahead_radm"}, "did you mean 'lookahead_radam'?"),
        ({"opt": "loohahead_adam"}, "did you mean 'lookahead_adam'?"),
        ({"opt": "adahessian"}, "optimizer.opt (timm): adahessian needs second derivatives"),
        ({"opt": "bnblion8bit"}, "bnblion8bit needs the package bitsandbytes"),
        ({"opt": "lookahead_kron"}, "lookahead_kron compiles code for each shape of weights"),
        ({"opt": "adafactor", "lr": None}, "optimizer.lr (timm): adafactor has no default learning rate"),
        ({"opt": "lion", "kwargs": {"beta": 0.9}}, "optimizer.kwargs (timm): unknown argument 'beta' of lion, did you mean 'betas'?"),
        ({"opt": "lion", "kwargs": {"momentum": 0.9}}, "unknown argument 'momentum' of lion"),
        ({"opt": "lion", "kwargs": {"lr": 0.9}}, "unknown argument 'lr' of lion"),
        ({"opt": "lion", "kwargs": {"betas": [0.9, 2]}}, "optimizer.kwargs (timm): lion: Invalid beta"),
        ({"opt": "lion", "kwargs": {"betas": 0.9}}, "optimizer.kwargs (timm): lion: "),
        ({"opt": "adamw", "kwargs": {"eps": "small"}}, "optimizer.kwargs (timm): adamw: "),
        ({"opt": "lion", "lr": -1.0, "kwargs": {"x": 1}}, "optimizer.lr (timm) must be greater than 0, got -1.0"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_argument_of_timms_optimizers_is_a_sentence(options: dict[str, Any], sentence: str) -> None:
    (found,) = refusal(**options).splitlines()
    assert sentence in found


def test_the_learning_rate_is_the_optimizers_own_unless_it_is_given() -> None:
    for opt, lr, expected in (("lion", None, 1e-4), ("lookahead_muon", None, 0.02), ("lion", 0.5, 0.5)):
        component = optimizer.registry.check({"name": "timm", "opt": opt, "lr": lr}, [])
        assert component is not None and component.params["lr"] == expected
        assert component.build(parameters(), True).param_groups[0]["lr"] == expected
