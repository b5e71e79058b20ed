"""Heads: 18 probabilities from one part or from the outer product of three, and the loss as a sum over the parts."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from maskcls.components import head
from maskcls.components.head import Head, single
from maskcls.components.loss import Loss, ce, compute_class_weights
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.core.task import Task

LABELS = torch.arange(18)


def triple(task: Task = MASK18, **weights: float) -> Head:
    """Return a head for each attribute, with a weight of 1 unless another one is given."""
    return head.triple(task, **dict.fromkeys(task.names, 1.0) | weights)


def years(task: Task = MASK18, **params: Any) -> Head:
    """Return a head over years, with a weight of 1 for each attribute unless another one is given."""
    return head.years(task, **dict.fromkeys(task.names, 1.0) | params)


def logits(outputs: int, rows: int = 9) -> torch.Tensor:
    return 3 * torch.randn(rows, outputs, generator=torch.Generator().manual_seed(0))


def test_sizes_and_outputs() -> None:
    assert (single(task=MASK18).sizes, single(task=MASK18).outputs) == ([18], 18)
    assert (triple(task=MASK18).sizes, triple(task=MASK18).outputs) == ([3, 2, 3], 8)


def test_probabilities_of_a_single_head_are_its_softmax() -> None:
    x = logits(18)
    torch.testing.assert_close(single(task=MASK18).probabilities(x), x.softmax(1))


def test_probabilities_of_three_heads_are_their_products() -> None:
    x = logits(8)
    mask, gender, age = x[:, :3].softmax(1), x[:, 3:5].softmax(1), x[:, 5:].softmax(1)
    probs = triple(task=MASK18).probabilities(x)
    assert probs.shape == (9, 18)
    for row, m, g, a in itertools.product(range(9), range(3), range(2), range(3)):
        expected = mask[row, m] * gender[row, g] * age[row, a]
        torch.testing.assert_close(probs[row, int(MASK18.encode(m, g, a))], expected)


def test_marginals_of_the_outer_product_give_the_parts_back() -> None:
    x = logits(8)
    parts = [part.softmax(1) for part in x.split([3, 2, 3], 1)]
    probs = triple(task=MASK18).probabilities(x)
    for got, again, part in zip(triple(task=MASK18).split_targets(probs), MASK18.marginals(probs.numpy()), parts, strict=True):
        torch.testing.assert_close(got, part)
        np.testing.assert_allclose(again, part.numpy(), atol=1e-6)


@pytest.mark.parametrize("head", [single(task=MASK18), triple(task=MASK18), years(task=MASK18)])
def test_probabilities_sum_to_one_in_float32_also_from_half_precision(head: Head) -> None:
    probs = head.probabilities(logits(head.outputs).bfloat16())
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs.sum(1), torch.ones(9))


def test_targets_of_the_parts_are_the_attributes_of_the_label() -> None:
    for part, values in zip(triple(task=MASK18).split_targets(torch.eye(18)), MASK18.decode(LABELS.numpy()), strict=True):
        assert part.argmax(1).tolist() == values.tolist() and torch.equal(part.sum(1), torch.ones(18))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0), (0.0, 0.0, 1.0)])
def test_the_objective_of_three_heads_is_a_weighted_sum(weights: tuple[float, float, float]) -> None:
    x = logits(8, 18)
    parts = zip(weights, x.split([3, 2, 3], 1), MASK18.decode(LABELS.numpy()), strict=True)
    expected = sum(w * cross_entropy(part, torch.from_numpy(values)) for w, part, values in parts)
    head = triple(mask=weights[0], gender=weights[1], age=weights[2], task=MASK18)
    torch.testing.assert_close(head.build_criterion(ce, torch.ones(18))(x, torch.eye(18)), expected)


def test_the_objective_of_a_single_head_is_its_loss() -> None:
    x = logits(18, 18)
    torch.testing.assert_close(single(task=MASK18).build_criterion(ce, torch.ones(18))(x, torch.eye(18)), cross_entropy(x, LABELS))


def test_each_part_has_class_weights_of_its_own_counts() -> None:
    counts = torch.arange(1.0, 19)
    seen: list[torch.Tensor] = []
    triple(task=MASK18).build_criterion(lambda own: seen.append(own) or ce(own, class_weights="inverse"), counts)  # type: ignore[func-returns-value]
    for own, values, size in zip(seen, MASK18.decode(LABELS.numpy()), (3, 2, 3), strict=True):
        expected = [counts[torch.from_numpy(values == v)].sum().item() for v in range(size)]
        assert own.tolist() == expected
        assert (compute_class_weights(own, "inverse") * own).sum() / own.sum() == pytest.approx(1)


def test_mixed_targets_reach_the_parts_as_mixtures() -> None:
    targets = (0.3 * torch.eye(18)[0] + 0.7 * torch.eye(18)[17])[None]
    mask, gender, age = triple(task=MASK18).split_targets(targets)
    for part, expected in ((mask, [0.3, 0, 0.7]), (gender, [0.3, 0.7]), (age, [0.3, 0, 0.7])):
        torch.testing.assert_close(part, torch.tensor([expected]))


@pytest.mark.parametrize("weights", [[], [1.0, 2.0]])
def test_a_wrong_number_of_own_class_weights_is_told(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match=f"expected 18 weights, got {len(weights)}"):
        single(task=MASK18).build_criterion(ce, torch.ones(18), {"class_weights": weights})


@pytest.mark.parametrize(("head", "size"), [(single(task=MASK18), 18), (triple(task=MASK18), 8), (years(task=MASK18), 8)])
def test_own_class_weights_reach_the_parts_in_order(head: Head, size: int) -> None:
    given = [float(i) for i in range(1, size + 1)]
    parts = head.split_class_weights(given)
    assert [len(part) for part in parts] == head.sizes
    if head.sizes[-1] == 91:
        assert parts[2] == [6.0] * 20 + [7.0] * 30 + [8.0] * 41
    else:
        assert [*itertools.chain(*parts)] == given
    seen: list[list[float]] = []

    def build(counts: torch.Tensor, class_weights: list[float]) -> Loss:
        seen.append(class_weights)
        return ce(counts, class_weights=class_weights)

    head.build_criterion(build, torch.ones(head.target_size), {"class_weights": given})
    assert seen == parts


@pytest.mark.parametrize(("head", "sizes"), [(single(task=MASK18), "18"), (triple(task=MASK18), r"3 \+ 2 \+ 3"), (years(task=MASK18), r"3 \+ 2 \+ 3")])
def test_another_number_of_class_weights_is_an_error(head: Head, sizes: str) -> None:
    with pytest.raises(ConfigError, match=f"loss.class_weights: expected {sizes} weights, got 4"):
        head.build_criterion(ce, torch.ones(head.target_size), {"class_weights": [1.0, 2.0, 3.0, 4.0]})
