"""Losses against torch's own and against formulas written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot

from maskcls.components.loss import ce, compute_class_weights, f1, focal, smooth_labels

EQUAL = torch.ones(18)
COUNTS = torch.tensor([549.0, 410, 83, 732, 817, 109, 0, 5])
BUILDERS = {"ce": ce, "focal": focal, "f1": f1}


def batch(rows: int = 12, classes: int = 18, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and class indices."""
    random = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, classes, generator=random), torch.randint(classes, (rows,), generator=random)


def hot(indices: torch.Tensor, classes: int = 18) -> torch.Tensor:
    return one_hot(indices, classes).float()


def blurred(rows: int, classes: int = 18, seed: int = 1) -> torch.Tensor:
    """Return distributions such as mixup makes."""
    return torch.rand(rows, classes, generator=torch.Generator().manual_seed(seed)).pow(3).softmax(1)


def test_cross_entropy_equals_torchs() -> None:
    logits, indices = batch()
    torch.testing.assert_close(ce(EQUAL)(logits, hot(indices)), cross_entropy(logits, indices))
    targets = blurred(12)
    torch.testing.assert_close(ce(EQUAL)(logits, targets), cross_entropy(logits, targets))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_smoothing_equals_torchs(share: float) -> None:
    logits, indices = batch()
    expected = cross_entropy(logits, indices, label_smoothing=share)
    torch.testing.assert_close(ce(EQUAL, label_smoothing=share)(logits, hot(indices)), expected)
    torch.testing.assert_close(
        ce(EQUAL, label_smoothing=share)(logits, blurred(12)), cross_entropy(logits, blurred(12), label_smoothing=share)
    )


@settings(deadline=None)
@given(st.floats(0, 0.99), st.integers(2, 18))
def test_smoothed_targets_are_distributions_that_keep_their_order(share: float, classes: int) -> None:
    targets = blurred(5, classes)
    result = smooth_labels(targets, share)
    torch.testing.assert_close(result.sum(1), torch.ones(5))
    assert (result >= 0).all()
    torch.testing.assert_close(result - result.mean(1, keepdim=True), (targets - 1 / classes) * (1 - share))


def numpy_focal(logits: Any, targets: Any, gamma: float, weight: Any) -> float:
    total = 0.0
    for row, target in zip(logits.astype(float), targets.astype(float), strict=True):
        p = np.exp(row - row.max())
        p /= p.sum()
        total += sum(-w * t * (1 - q) ** gamma * np.log(q) for q, t, w in zip(p, target, weight, strict=True))
    return total / len(logits)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 5), st.integers(0, 100), st.booleans())
def test_focal_equals_its_formula(gamma: float, seed: int, hard: bool) -> None:
    logits, indices = batch(6, 8, seed)
    targets = hot(indices, 8) if hard else blurred(6, 8, seed)
    for way in ("none", "inverse", "effective"):
        weight = compute_class_weights(COUNTS, way).double().numpy()  # type: ignore[arg-type]
        got = focal(COUNTS, gamma=gamma, class_weights=way)(logits, targets).item()  # type: ignore[arg-type]
        assert got == pytest.approx(numpy_focal(logits.numpy(), targets.numpy(), gamma, weight), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": "inverse"}, {"class_weights": "effective"}])
def test_focal_with_gamma_zero_is_cross_entropy(options: dict[str, Any]) -> None:
    logits, indices = batch(classes=8)
    targets = hot(indices, 8)
    assert torch.equal(focal(COUNTS, gamma=0.0, **options)(logits, targets), ce(COUNTS, **options)(logits, targets))


def test_focal_weighs_what_is_already_right_less() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.1, 0.0]])
    target, pair = torch.tensor([[1.0, 0.0]]), torch.ones(2)
    shares = [(focal(pair)(x, target) / ce(pair)(x, target)).item() for x in (sure, unsure)]
    assert shares[0] < 0.001 < 0.2 < shares[1] < 0.25


def test_weighted_cross_entropy_is_the_mean_of_weighted_terms() -> None:
    logits, indices = batch(classes=8)
    weight = compute_class_weights(COUNTS, "effective")
    expected = cross_entropy(logits, indices, weight=weight, reduction="none").mean()
    torch.testing.assert_close(ce(COUNTS, class_weights="effective")(logits, hot(indices, 8)), expected)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999, 0.9999])
def test_effective_weights_follow_cui_et_al(beta: float) -> None:
    weight = compute_class_weights(COUNTS, "effective", beta).double().numpy()
    n = COUNTS.double().numpy()
    there = n > 0
    effective = np.array([sum(beta**i for i in range(int(count))) for count in n[there]])  # (1 − beta^n) / (1 − beta)
    np.testing.assert_allclose(weight[there] * effective, (weight[there] * effective)[0], rtol=1e-4)


def test_inverse_weights_give_each_class_the_same_say() -> None:
    say = (compute_class_weights(COUNTS, "inverse") * COUNTS)[COUNTS > 0]
    torch.testing.assert_close(say, say[0].expand_as(say))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 20_000), min_size=2, max_size=18).filter(any),
    st.sampled_from(["inverse", "effective"]), st.sampled_from([0.0, 0.9, 0.999, 0.99999]),
)  # fmt: skip
def test_weights_have_mean_one_over_the_photos_and_none_for_absent_classes(counts: Any, way: Any, beta: float) -> None:
    n = torch.tensor(counts).float()
    weight = compute_class_weights(n, way, beta)
    assert weight.shape == n.shape and weight.dtype == torch.float32 and torch.isfinite(weight).all()
    assert (weight * n).sum().item() / n.sum().item() == pytest.approx(1, rel=1e-4)
    assert ((weight == 0) == (n == 0)).all()


def test_without_weights_each_class_weighs_one() -> None:
    assert compute_class_weights(COUNTS, "none").tolist() == [1.0] * 8


def numpy_f1(logits: Any, targets: Any, weight: Any) -> float:
    e = np.exp(logits - logits.max(1, keepdims=True))
    p, scores = e / e.sum(1, keepdims=True), []
    for c in range(logits.shape[1]):
        hits, misses = (p[:, c] * targets[:, c]).sum(), (p[:, c] * (1 - targets[:, c])).sum()
        lost = ((1 - p[:, c]) * targets[:, c]).sum()
        scores.append(hits / (hits + (misses + lost) / 2))
    return 1 - float(np.average(scores, weights=weight))


@pytest.mark.parametrize("way", ["none", "inverse", "effective"])
@pytest.mark.parametrize("seed", [0, 1])
def test_f1_equals_its_formula(way: Any, seed: int) -> None:
    logits, _ = batch(20, 8, seed)
    targets, weight = blurred(20, 8, seed), compute_class_weights(COUNTS, way)
    expected = numpy_f1(logits.double().numpy(), targets.double().numpy(), weight.double().numpy())
    assert f1(COUNTS, class_weights=way)(logits, targets).item() == pytest.approx(expected, abs=1e-5)


def test_f1_is_nought_for_a_perfect_batch_and_nearly_one_for_a_wrong_one() -> None:
    targets = hot(torch.arange(18))
    assert f1(EQUAL)(60 * targets, targets).item() == pytest.approx(0, abs=1e-6)
    assert f1(EQUAL)(60 * targets.roll(1, 1), targets).item() == pytest.approx(1, abs=1e-6)


GRADIENTS = {
    "ce": ce(EQUAL[:5], label_smoothing=0.1),
    "focal": focal(EQUAL[:5]),
    "focal 0.5": focal(COUNTS[:5], gamma=0.5, class_weights="inverse"),
    "f1": f1(COUNTS[:5], class_weights="effective"),
    "f1 smoothed": f1(EQUAL[:5], label_smoothing=0.1),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_equal_finite_differences(name: str) -> None:
    logits = batch(4, 5)[0].double().requires_grad_()
    targets = blurred(4, 5).double()
    assert torch.autograd.gradcheck(lambda x: GRADIENTS[name](x, targets), (logits,))


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("size", [0.0, 1e2, 1e4, 1e30])
@pytest.mark.parametrize("options", [{}, {"class_weights": "inverse"}, {"label_smoothing": 0.1}])
def test_losses_and_gradients_stay_finite_at_extreme_logits(name: str, size: float, options: dict[str, Any]) -> None:
    logits = (torch.eye(8) * size).requires_grad_()
    for targets in (torch.eye(8), torch.eye(8).roll(1, 1), torch.full((8, 8), 1 / 8)):
        for gamma in (0.5, 2.0) if name == "focal" else (None,):
            more = options if gamma is None else options | {"gamma": gamma}
            loss = BUILDERS[name](COUNTS, **more)(logits, targets)
            (gradient,) = torch.autograd.grad(loss, logits)
            assert torch.isfinite(loss) and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", BUILDERS)
def test_descent_on_each_loss_learns_the_labels(name: str) -> None:
    logits, indices = torch.zeros(18, 18, requires_grad=True), torch.arange(18)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        BUILDERS[name](EQUAL)(logits, hot(indices)).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1), indices)


def test_own_class_weights_scale_each_class_and_keep_the_mean_of_one() -> None:
    counts, given = torch.tensor([3.0, 1.0]), [1.0, 5.0]
    weights = compute_class_weights(counts, given)
    torch.testing.assert_close(weights, torch.tensor([0.5, 2.5]))  # 3 · 0.5 + 1 · 2.5 = 4 images
    x, targets = torch.tensor([[0.3, -0.2], [1.0, 2.0]]), torch.eye(2)
    expected = -(weights * x.log_softmax(1).diagonal()).mean()
    torch.testing.assert_close(ce(counts, class_weights=given)(x, targets), expected)
