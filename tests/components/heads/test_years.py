"""A head over years: its targets, its probabilities, and a trained step equal to a plain one for every combination."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from maskcls.components import head
from maskcls.components.heads.base import Head
from maskcls.components.loss import ce, compute_class_weights, f1, focal
from maskcls.components.mixing import cutmix, halfcut, mixup
from maskcls.core.competition import MASK18
from maskcls.core.table import soft_target_columns, train_labels
from maskcls.core.task import Task

GRID = np.arange(10, 101)


def triple(task: Task = MASK18, **weights: float) -> Head:
    """Return a head for each attribute, with a weight of 1 unless another one is given."""
    return head.triple(task, **dict.fromkeys(task.names, 1.0) | weights)


def years(task: Task = MASK18, **params: Any) -> Head:
    """Return a head over years, with a weight of 1 for each attribute unless another one is given."""
    return head.years(task, **dict.fromkeys(task.names, 1.0) | params)


def logits(outputs: int, rows: int = 9) -> Tensor:
    return 3 * torch.randn(rows, outputs, generator=torch.Generator().manual_seed(0))


def rows_of(ages: Sequence[float], classes: list[int] | None = None) -> pd.DataFrame:
    """Return a table of women without a mask; an age of NaN has its class from `classes`."""
    age = np.array(ages, float)
    groups = np.where(np.isnan(age), classes or 0, MASK18["age"].bin(np.nan_to_num(age)))
    table = pd.DataFrame({"id": [f"{i}.jpg" for i in range(len(age))], "age": age, "part": "train", "label": MASK18.encode(2, 1, groups)})
    table[["age0", "age1", "age2"]] = np.eye(3)[groups]
    return table


def years_of(head: Head, table: pd.DataFrame) -> np.ndarray:
    targets = head.build_targets(table, np.arange(len(table)))
    assert targets.shape == (len(table), head.target_size) and targets.dtype == np.float32
    parts = np.split(targets, np.cumsum(head.sizes)[:2], axis=1)
    assert all(np.allclose(part.sum(1), 1, atol=1e-5) for part in parts)
    assert parts[0].argmax(1).tolist() == [2] * len(table) and parts[1].argmax(1).tolist() == [1] * len(table)
    return parts[2]


@pytest.mark.parametrize("shape", ["gaussian", "laplace"])
@pytest.mark.parametrize("sigma", [0.5, 3.0, 8.0])
def test_the_target_of_an_age_is_a_distribution_around_it(sigma: float, shape: str) -> None:
    ages = [16, 29, 30, 59, 60, 61, 99]
    targets = years_of(years(sigma=sigma, shape=shape, task=MASK18), rows_of(ages))
    for age, target in zip(ages, targets, strict=True):
        distance = torch.from_numpy(abs(GRID - age) / sigma)
        expected = (-distance if shape == "laplace" else -(distance**2) / 2).softmax(0)
        np.testing.assert_allclose(target, expected, atol=1e-6)
    assert (targets.argmax(1) + 10).tolist() == ages


def test_ages_outside_the_range_are_its_ends() -> None:
    targets = years_of(years(low=20, high=60, task=MASK18), rows_of([5, 20, 60, 93]))
    assert targets.argmax(1).tolist() == [0, 0, 40, 40]


@pytest.mark.parametrize("shape", ["gaussian", "laplace"])
def test_the_classes_of_sharp_targets_are_those_of_the_ages(shape: str) -> None:
    ages = np.arange(10, 100, 0.1).round(1)  # among them 29.5, 29.9, 30, 59.5, 59.9 and 60
    head = years(sigma=0.1, shape=shape, task=MASK18)
    targets = torch.from_numpy(head.build_targets(rows_of(ages.tolist()), np.arange(len(ages))))
    probs = head.probabilities((targets + 1e-12).log())
    assert probs.argmax(1).tolist() == MASK18.encode(2, 1, MASK18["age"].bin(ages)).tolist()
    assert probs.max(1).values.min() > 0.999


@pytest.mark.parametrize("border", [55, 58, 60])
@pytest.mark.parametrize(("age", "lower"), [(29.5, True), (29.9, True), (30.0, False), (30.5, False)])
def test_an_age_is_in_the_class_of_its_completed_years(age: float, lower: bool, border: int) -> None:
    for limit, shift in ((30, 0), (border, border - 30)):
        targets = years_of(years(sigma=0.3, border=border, task=MASK18), rows_of([age + shift, 20, 90]))
        assert targets[0, : limit - 10].sum() == pytest.approx(float(lower), abs=0.01)


def test_an_oldest_age_of_sixty_means_sixty_or_older() -> None:
    targets = years_of(years(task=MASK18), rows_of([20, 58, 60, 60]))
    assert targets[2, :50].sum() == 0 and targets[2].argmax() == 50 and np.array_equal(targets[2], targets[3])
    assert targets[1, 50:].sum() > 0.2  # 58 is known to the year


def test_a_drawn_mask_leaves_the_age_of_its_source_as_it_is() -> None:
    table = rows_of([20, 60, 60, 60, 60, 75])
    table["part"] = ["train", "train", "extra", "extra", "extra", "extra"]
    table["id"] = ["a.jpg", "b.jpg", "overlay/b.jpg/worn0", "extra/c.jpg", "overlay/extra/c.jpg/worn0", "extra/d.jpg"]
    targets = years_of(years(task=MASK18), table)
    assert targets[1, :50].sum() == 0 and np.array_equal(targets[1], targets[2])  # 60 or older
    assert targets[3, :50].sum() > 0.4 and np.array_equal(targets[3], targets[4])  # 60


def test_an_age_class_without_years_gets_the_years_of_its_training_images() -> None:
    table = rows_of([20, 24, 40, 70, float("nan"), float("nan")], [0, 0, 0, 0, 0, 2])
    head = years(sigma=0.1, task=MASK18)
    got = head.build_targets(table, np.array([0, 1, 2, 4, 5]))[:, 5:]  # the image of 70 is another fold's
    assert got[4, [10, 14]] == pytest.approx([0.5, 0.5]) and got[4].sum() == pytest.approx(1)
    np.testing.assert_allclose(got[5], [0] * 50 + [1 / 41] * 41, atol=1e-6)


def test_probabilities_of_years_are_sums_over_each_age_class() -> None:
    head = years(border=58, task=MASK18)
    x = logits(head.outputs)
    mask, gender, age = (part.softmax(1) for part in x.split([3, 2, 91], 1))
    sums = torch.stack([age[:, :20].sum(1), age[:, 20:48].sum(1), age[:, 48:].sum(1)], 1)
    expected = torch.einsum("nm,ng,na->nmga", mask, gender, sums).flatten(1)
    torch.testing.assert_close(head.probabilities(x), expected)


@pytest.mark.parametrize("shape", ["gaussian", "laplace"])
@pytest.mark.parametrize("border", [58, 60])
def test_a_censored_age_has_no_year_below_it(shape: str, border: int) -> None:
    targets = years_of(years(shape=shape, border=border, task=MASK18), rows_of([20, 45, 60, 60]))
    assert targets[2, :50].sum() == 0 and (np.diff(targets[2, 50:]) <= 0).all() and targets[2, 50] > 0
    known = years_of(years(shape=shape, border=border, task=MASK18), rows_of([20, 45, 60, 61]))
    assert known[2, :50].sum() > 0.4  # an older person is in the table, so 60 is an age


@pytest.mark.parametrize("expectation", [0.0, 0.5])
def test_the_objective_of_years_is_cross_entropy_and_the_error_of_the_expected_age(expectation: float) -> None:
    head, ages = years(age=2.0, expectation=expectation, task=MASK18), [21.0, 35.0, 47.0, 66.0]
    targets = torch.from_numpy(head.build_targets(rows_of(ages), np.arange(4)))
    x = logits(head.outputs, 4)
    mask, gender, age = x.split([3, 2, 91], 1)
    wanted = targets[:, 5:]
    error = ((age.softmax(1) - wanted) @ torch.arange(10.0, 101)).abs().mean()
    expected = (
        cross_entropy(mask, torch.full((4,), 2)) + cross_entropy(gender, torch.ones(4, dtype=torch.long))
        + 2 * (cross_entropy(age, wanted) + expectation * error)
    )  # fmt: skip
    torch.testing.assert_close(head.build_criterion(ce, targets.sum(0))(x, targets), expected)


@pytest.mark.parametrize("border", [55, 60])
@pytest.mark.parametrize("link", ["softmax", "corn"])
def test_probabilities_are_sums_over_the_years_of_each_class(link: str, border: int) -> None:
    head = years(link=link, border=border, task=MASK18)
    x = logits(head.outputs)
    probs = head.probabilities(x).reshape(-1, 3, 2, 3)
    torch.testing.assert_close(probs.sum((1, 2, 3)), torch.ones(9))
    ages = plain_years(x[:, 5:], link)
    for column, chosen in enumerate(MASK18["age"].bin(GRID, (30, border)) == c for c in range(3)):
        torch.testing.assert_close(probs[..., column].sum((1, 2)), ages[:, torch.from_numpy(chosen)].sum(1))


def plain_years(x: Tensor, link: str) -> Tensor:
    """Return probabilities of years (N, 91), year by year."""
    if link == "softmax":
        return x.softmax(1)
    at_least, columns = torch.ones(len(x)), []
    for i in range(90):
        older = torch.sigmoid(x[:, i] + np.log(90 - i))
        columns.append(at_least * (1 - older))
        at_least = at_least * older
    return torch.stack([*columns, at_least], 1)


def test_logits_of_zero_mean_that_all_years_are_equally_probable() -> None:
    for link in ("softmax", "corn"):
        head = years(link=link, task=MASK18)
        x = torch.zeros(1, head.outputs)
        torch.testing.assert_close(head.split_logits(x)[2].softmax(1), torch.full((1, 91), 1 / 91))


def test_the_loss_of_corn_is_binary_cross_entropy_of_the_ages_that_reach_a_year() -> None:
    head, ages = years(link="corn", sigma=0.01, task=MASK18), [10.0, 24.0, 59.0, 99.0]
    x = logits(head.outputs, 4)
    z = x[:, 5:] + torch.arange(90, 0, -1).log()
    expected = torch.zeros(4)
    for row, age in enumerate(ages):
        for i in range(min(int(age) - 9, 90)):  # the questions of those who are at least 10 + i
            target = torch.tensor(float(age > 10 + i))
            expected[row] += torch.nn.functional.binary_cross_entropy_with_logits(z[row, i], target)
    targets = torch.from_numpy(head.build_targets(rows_of(ages), np.arange(4)))[:, 5:]
    torch.testing.assert_close(cross_entropy(head.split_logits(x)[2], targets), expected.mean())


def test_extreme_logits_of_corn_are_finite_and_have_gradients() -> None:
    head = years(link="corn", mean=0.2, variance=0.05, task=MASK18)
    targets = torch.from_numpy(head.build_targets(rows_of([20.0, 70.0]), np.arange(2)))
    for scale in (1e-3, 1.0, 1e3):
        x = (scale * logits(head.outputs, 2)).requires_grad_()
        loss = head.build_criterion(ce, targets.sum(0))(x, targets)
        loss.backward()
        assert loss.isfinite() and x.grad is not None and x.grad.isfinite().all()


AGES = [21.0, 29.5, 35.0, 47.0, 47.0, 58.0, 66.0, 25.0]


@pytest.mark.parametrize("method", ["inverse", "effective"])
@pytest.mark.parametrize("border", [55, 60])
def test_class_weights_are_those_of_the_head_of_age_classes(method: str, border: int) -> None:
    head, table = years(sigma=0.1, border=border, task=MASK18), rows_of(AGES)
    seen: list[tuple[Tensor, Any]] = []

    def build(counts: Tensor, **own: Any) -> Any:
        seen.append((counts, own))
        return ce(counts, **own)

    targets = torch.from_numpy(head.build_targets(table, np.arange(len(table))))
    head.build_criterion(build, targets.sum(0), {"class_weights": method, "beta": 0.9})
    assert [own for _, own in seen[:2]] == [{}, {}]
    counts, own = seen[2]
    groups = MASK18["age"].bin(AGES, (30, border))
    by_class = compute_class_weights(torch.from_numpy(np.bincount(groups)), method, 0.9)  # type: ignore[arg-type]
    weights = compute_class_weights(counts, own["class_weights"])
    torch.testing.assert_close(weights, by_class[MASK18["age"].bin(GRID, (30, border))], atol=1e-5, rtol=1e-5)
    assert (targets[:, 5:] @ weights).mean() == pytest.approx(1, abs=1e-5)  # as triple's, over the images


@pytest.mark.parametrize("weights", ["none", "inverse", "effective", [1.0, 2.0, 3.0, 1.0, 2.0, 1.0, 2.0, 4.0]])
@pytest.mark.parametrize("build", [ce, focal])
def test_sharp_years_lose_as_age_classes_do(build: Any, weights: Any) -> None:
    """Years that hold all of their class's probability, and classes as in triple, have one loss."""
    table = rows_of([20.0, 20.0, 20.0, 45.0, 70.0, 70.0])
    head, other, rows = years(sigma=0.01, task=MASK18), triple(task=MASK18), np.arange(6)
    targets, classes = (torch.from_numpy(one.build_targets(table, rows)) for one in (head, other))
    x = logits(8, 6)
    wide = torch.full((6, 96), -1e4)
    wide[:, :5], wide[:, [15, 40, 65]] = x[:, :5], x[:, 5:]
    params = {"class_weights": weights, "beta": 0.9}

    def loss(one: Head, x: Tensor, targets: Tensor) -> Tensor:
        return one.build_criterion(lambda counts, **own: build(counts, **(params | own)), targets.sum(0), params)(x, targets)

    torch.testing.assert_close(loss(head, wide, targets), loss(other, x, classes))


def plain_loss(x: Tensor, targets: Tensor, counts: Tensor, head: dict[str, Any], loss: dict[str, Any]) -> Tensor:
    """Return the loss of a head over years, written out."""
    total = torch.zeros(())
    ends = (0, 3, 5, 96)
    for i, name in enumerate(("mask", "gender", "age")):
        wanted, n = (part[..., ends[i] : ends[i + 1]] for part in (targets, counts))
        probs = plain_years(x[:, 5:], head.get("link", "softmax")) if i == 2 else x[:, ends[i] : ends[i + 1]].softmax(1)
        group = torch.from_numpy(MASK18["age"].bin(GRID)) if i == 2 else torch.arange(len(n))
        sums = torch.stack([n[group == c].sum() for c in range(int(group.max()) + 1)])
        if (method := loss.get("class_weights", "none")) == "none":
            weight = torch.ones(len(sums))
        elif isinstance(method, list):
            weight = torch.tensor(method[(0, 3, 5)[i] : (3, 5, 8)[i]])
        else:
            weight = 1 / sums if method == "inverse" else (1 - 0.999) / (1 - 0.999**sums)
        weight = torch.where(sums > 0, weight, 0)
        weight = (weight * sums.sum() / (weight * sums).sum())[group]
        smoothing = loss.get("label_smoothing", 0.0)
        smooth = wanted * (1 - smoothing) + smoothing / len(n)
        part = -(smooth * weight * (1 - probs) ** loss.get("gamma", 0) * probs.log()).sum(1).mean()
        if i == 2:
            grid = torch.from_numpy(GRID).float()
            error, centre = (probs - wanted) @ grid, (probs @ grid)[:, None]
            part = part + head.get("expectation", 0) * error.abs().mean() + head.get("mean", 0) * (error**2).mean() / 2
            part = part + head.get("variance", 0) * (probs * (grid - centre) ** 2).sum(1).mean()
        total = total + head.get(name, 1.0) * part
    return total


HEADS: list[dict[str, Any]] = [
    {}, {"shape": "laplace", "sigma": 2.0}, {"link": "corn"}, {"expectation": 0.1, "age": 2.0}, {"mean": 0.2, "variance": 0.05},
    {"link": "corn", "shape": "laplace", "expectation": 1.0, "mean": 0.02, "variance": 0.01, "mask": 0.5, "gender": 0.0},
]  # fmt: skip
LOSSES: list[dict[str, Any]] = [
    {}, {"label_smoothing": 0.1}, {"class_weights": "inverse"}, {"class_weights": "effective", "label_smoothing": 0.2},
    {"class_weights": [1.0, 2.0, 3.0, 1.0, 2.0, 1.0, 2.0, 4.0]}, {"gamma": 2.0}, {"gamma": 1.0, "class_weights": "inverse"},
]  # fmt: skip
MIXINGS = {"none": None, "mixup": mixup(alpha=1.0), "cutmix": cutmix(), "halfcut": halfcut(prob=1.0)}


def table_of(labels: str) -> pd.DataFrame:
    """Return rows with ages in years, with age classes only, or with soft targets."""
    table = rows_of(AGES)
    table["label"] = MASK18.encode([0, 1, 2, 0, 1, 2, 0, 1], [0, 1, 1, 0, 1, 0, 0, 1], MASK18["age"].bin(AGES))
    if labels == "classes":
        table.loc[4:, "age"] = np.nan
    if labels == "soft":
        table.loc[4:, "age"] = np.nan
        soft = torch.randn(8, 18, generator=torch.Generator().manual_seed(3)).softmax(1).numpy()
        table[soft_target_columns(MASK18)] = np.where(np.arange(8)[:, None] >= 4, soft, np.nan)
    return table


@pytest.mark.parametrize("labels", ["years", "classes", "soft"])
@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize(("head", "loss"), [*itertools.product(HEADS, LOSSES)])
def test_a_trained_step_is_that_of_plain_torch(head: dict[str, Any], loss: dict[str, Any], mixing: str, labels: str) -> None:
    table, built = table_of(labels), years(**head, task=MASK18)
    images = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    targets = torch.from_numpy(built.build_targets(table, np.arange(8)))
    counts, criterion_loss = targets.sum(0), focal if "gamma" in loss else ce
    if mix := MIXINGS[mixing]:
        torch.manual_seed(5)
        images, targets = mix(images, targets, torch.tensor(table["label"].to_numpy()))
    torch.testing.assert_close(targets.sum(1), torch.full((8,), 3.0))  # of mask, gender and years
    start = torch.randn(built.outputs, 48, generator=torch.Generator().manual_seed(2)) / 7
    params = {"beta": 0.999} | loss
    criterion = built.build_criterion(lambda counts, **own: criterion_loss(counts, **(params | own)), counts, params)
    after = []
    for objective in (criterion, lambda x, targets: plain_loss(x, targets, counts, head, loss)):
        weight = start.clone().requires_grad_()
        optimizer = torch.optim.SGD([weight], lr=0.1)
        objective(images.flatten(1) @ weight.T, targets).backward()
        optimizer.step()
        after.append(weight.detach() - start)
    torch.testing.assert_close(after[0], after[1], atol=1e-5, rtol=1e-3)
    assert after[0].abs().max() > 1e-3


@pytest.mark.parametrize("head", HEADS)
def test_the_f1_loss_has_a_gradient(head: dict[str, Any]) -> None:
    built = years(**head, task=MASK18)
    targets = torch.from_numpy(built.build_targets(table_of("years"), np.arange(8)))
    x = logits(built.outputs, 8).requires_grad_()
    built.build_criterion(f1, targets.sum(0))(x, targets).backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() > 0


def test_samplers_see_the_scored_class() -> None:
    table = table_of("years")
    table["age_class"] = table[MASK18["age"].soft_columns].to_numpy().argmax(1)
    assert train_labels(table, task=MASK18).tolist() == table["label"].tolist()
