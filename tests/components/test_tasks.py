"""Any task: heads, losses of partly labelled images, labels and splits of other attributes than the competition's."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from maskcls.components import head as heads
from maskcls.components import labels, split
from maskcls.components.head import Head
from maskcls.components.loss import ce, f1, focal
from maskcls.components.mixing import cutmix, halfcut, mixup
from maskcls.components.task import registry
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.core.registry import Component
from maskcls.core.task import Attribute, Task

STAGE = Attribute("stage", ("early", "mid", "late"), "days", (10, 20), (10, 20), "days")
TASKS = {
    "one": Task((Attribute("kind", ("a", "b", "c")),)),
    "two": Task((Attribute("colour", ("red", "blue")), Attribute("glasses", ("yes", "no")))),
    "four": Task(tuple(Attribute(name, tuple("abc"[:size])) for name, size in zip("wxyz", (2, 3, 2, 2), strict=True))),
    "many": Task((Attribute("who", tuple(f"v{i}" for i in range(200))),)),
    "number": Task((Attribute("colour", ("red", "blue")), STAGE)),
}
NAMES = pytest.mark.parametrize("name", TASKS)
LOSSES = pytest.mark.parametrize("build", [ce, focal, f1])


def triple(task: Task, **weights: float) -> Head:
    """Return a head for each attribute, with a weight of 1 unless another one is given."""
    return heads.triple(task, **dict.fromkeys(task.names, 1.0) | weights)


def years(task: Task, **params: Any) -> Head:
    """Return a head over a number, with a weight of 1 for each attribute unless another one is given."""
    return heads.years(task, **dict.fromkeys(task.names, 1.0) | params)


def logits(outputs: int, rows: int) -> Tensor:
    return 3 * torch.randn(rows, outputs, generator=torch.Generator().manual_seed(0))


def table_of(task: Task, rows: int = 12, missing: dict[str, list[int]] | None = None) -> pd.DataFrame:
    """Return a table of random labels; `missing` are the rows without the label of an attribute."""
    random = np.random.default_rng(0)
    indices = [random.integers(0, size, rows) for size in task.shape]
    table = pd.DataFrame({"id": [f"{i}.jpg" for i in range(rows)], "path": "", "person": [f"p{i // 3}" for i in range(rows)]})
    label = task.encode(*indices)
    for attribute, index in zip(task, indices, strict=True):
        lost = np.isin(np.arange(rows), (missing or {}).get(attribute.name, []))
        column = np.where(lost, np.nan, 5.0 + 10 * index) if attribute.is_number else np.where(lost, -1, index)
        table[attribute.source], label = column, np.where(lost, -1, label)
    table = table.assign(label=label, part="train", trained=True)
    return labels.plain(table, lambda note: None, task)


def targets_of(head: Head, table: pd.DataFrame) -> tuple[Head, Tensor]:
    head = head.for_table(table)
    return head, torch.from_numpy(head.build_targets(table, np.arange(len(table))))


def test_a_task_is_made_of_a_section() -> None:
    errors: list[str] = []
    section = {"name": "attributes", "attributes": [{"name": "glasses", "values": [True, False]}, {"name": "stage", "column": "days", "borders": [10]}]}
    made = registry.check(section, errors)
    assert isinstance(made, Component) and not errors
    stage = Attribute("stage", ("<10", ">=10"), "days", (10,), (10,))
    assert made.build() == Task((Attribute("glasses", ("yes", "no")), stage), "person")
    alone = registry.check(section | {"group": None}, errors)
    assert isinstance(alone, Component) and alone.build().group is None
    registry.check({"name": "attributes", "attributes": [{"name": "glasses", "values": ["yes"]}]}, errors)
    registry.check({"name": "attributes", "attributes": "glasses"}, errors)
    registry.check({"name": "atributes"}, errors)
    assert errors[0] == "task.attributes (attributes): attribute 'glasses': expected at least two values, got 1"
    assert errors[1].startswith("task.attributes (attributes): ") and "did you mean 'attributes'" in errors[2]


def test_the_weights_of_a_head_are_the_task_s_attributes() -> None:
    errors: list[str] = []
    made = heads.registry.check({"name": "triple", "colour": 2, "glasses": 0}, errors, task=TASKS["two"])
    assert isinstance(made, Component) and made.build().weights == (2.0, 0.0) and not errors
    heads.registry.check({"name": "triple", "age": 2}, errors, task=TASKS["two"])
    assert len(errors) == 1 and "age" in errors[0]
    with pytest.raises(ConfigError, match="head=triple needs a weight greater than 0 of colour or glasses, got 0 for all"):
        heads.check_triple(TASKS["two"], colour=0.0, glasses=0.0)


@NAMES
@pytest.mark.parametrize("build", [heads.single, triple])
def test_probabilities_of_any_task_are_distributions_over_its_classes(name: str, build: Any) -> None:
    task = TASKS[name]
    head = build(task)
    x = logits(head.outputs, 9)
    probs = head.probabilities(x.bfloat16())
    assert probs.shape == (9, task.num_classes) and probs.dtype == torch.float32
    torch.testing.assert_close(probs.sum(1), torch.ones(9))
    assert head.outputs == (task.num_classes if build is heads.single else sum(task.shape))
    if build is triple:
        parts, probs = [part.softmax(1) for part in x.split(list(task.shape), 1)], head.probabilities(x)
        for label in range(task.num_classes):
            indices = [int(index) for index in task.decode(label)]
            product = torch.stack([part[:, i] for part, i in zip(parts, indices, strict=True)]).prod(0)
            torch.testing.assert_close(probs[:, label], product)


@NAMES
def test_the_loss_of_any_task_is_a_weighted_sum_over_its_attributes(name: str) -> None:
    task, table = TASKS[name], table_of(TASKS[name])
    weights = {attribute: 0.5 + i for i, attribute in enumerate(task.names)}
    head, targets = targets_of(triple(task, **weights), table)
    x = logits(head.outputs, len(table))
    indices = task.decode(table["label"])
    parts = zip(weights.values(), x.split(list(task.shape), 1), indices, strict=True)
    expected = sum(weight * cross_entropy(part, torch.from_numpy(index)) for weight, part, index in parts)
    torch.testing.assert_close(head.build_criterion(ce, targets.sum(0))(x, targets), expected)
    single, joint = targets_of(heads.single(task), table)
    x = logits(single.outputs, len(table))
    torch.testing.assert_close(single.build_criterion(ce, joint.sum(0))(x, joint), cross_entropy(x, torch.tensor(table["label"].to_numpy())))


PARTIAL = {
    "two": {"colour": [0, 5], "glasses": [1, 5, 7]}, "four": {"w": [0, 1, 2], "z": [2, 3], "x": [11]},
    "number": {"colour": [4, 6], "stage": [0, 4, 9]},
}  # fmt: skip


@LOSSES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", PARTIAL)
def test_an_attribute_without_a_label_has_no_part_in_the_loss(name: str, smoothing: float, build: Any) -> None:
    """Its gradient is exactly 0, and the loss is that of each attribute's labelled images."""
    task, missing = TASKS[name], PARTIAL[name]
    table = table_of(task, missing=missing)
    head, targets = targets_of(triple(task), table)
    assert head.partial and targets.shape == (12, sum(task.shape))
    x = logits(head.outputs, 12).requires_grad_()
    total = head.build_criterion(lambda counts: build(counts, label_smoothing=smoothing), targets.sum(0))(x, targets)
    total.backward()
    full = task.decode(table_of(task)["label"])
    expected, start = torch.zeros(()), 0
    assert x.grad is not None
    for attribute, index in zip(task, full, strict=True):
        columns = slice(start, start := start + len(attribute.values))
        known = ~np.isin(np.arange(12), missing.get(attribute.name, []))
        wanted = torch.eye(len(attribute.values))[torch.from_numpy(index)][known]
        expected = expected + build(wanted.sum(0), label_smoothing=smoothing)(x.detach()[known][:, columns], wanted)
        assert (x.grad[~known][:, columns] == 0).all() and (x.grad[known][:, columns] != 0).any(1).all()
    torch.testing.assert_close(total.detach(), expected)


@LOSSES
@pytest.mark.parametrize("mix", [mixup(alpha=1.0), cutmix(), halfcut(prob=1.0)])
@pytest.mark.parametrize("name", PARTIAL)
def test_mixed_images_that_are_partly_labelled_have_finite_losses(name: str, mix: Any, build: Any) -> None:
    table = table_of(TASKS[name], missing=PARTIAL[name])
    for head in (triple(TASKS[name]), *([years(TASKS[name], low=0, high=40, mean=0.2)] if name == "number" else [])):
        partial, targets = targets_of(head, table)
        criterion = partial.build_criterion(lambda counts: build(counts, label_smoothing=0.1), targets.sum(0))
        for seed in range(10):
            torch.manual_seed(seed)
            _, mixed = mix(torch.zeros(12, 3, 8, 8), targets, torch.arange(12) % 3)
            x = logits(partial.outputs, 12).requires_grad_()
            criterion(x, mixed).backward()
            assert x.grad is not None and x.grad.isfinite().all() and (x.grad != 0).any()


def test_a_batch_without_a_label_of_an_attribute_has_a_loss_of_the_others() -> None:
    task = TASKS["two"]
    head, targets = targets_of(triple(task), table_of(task, missing={"colour": [0, 1, 2]}))
    criterion = head.build_criterion(ce, targets.sum(0))
    x = logits(4, 3).requires_grad_()
    loss = criterion(x, targets[:3])
    loss.backward()
    torch.testing.assert_close(loss.detach(), cross_entropy(x.detach()[:, 2:], targets[:3, 2:]))
    assert x.grad is not None and (x.grad[:, :2] == 0).all()


def test_a_head_of_all_classes_needs_all_labels() -> None:
    task = TASKS["two"]
    whole, part = table_of(task), table_of(task, missing={"colour": [0, 4]})
    assert heads.single(task).for_table(whole) == heads.single(task) and not triple(task).for_table(whole).partial
    with pytest.raises(ConfigError, match=r"head=single: 2 training images lack the label of an attribute\. Set head=triple"):
        heads.single(task).for_table(part)
    assert not triple(task).for_table(part.assign(part="eval")).partial, "evaluation images may lack them"


def test_labels_of_another_number() -> None:
    task = TASKS["number"]
    table = table_of(task).assign(days=[5.0, 9, 10, 15, 19, 20, 25, 5, 15, 25, np.nan, 12])
    told: list[str] = []
    made = labels.plain(table, told.append, task, border=18, soft=4.0, drop=[[24, 26]])
    assert made.loc[:4, "stage_class"].tolist() == [0, 0, 1, 1, 2] and made["trained"].tolist() == [*[True] * 6, False, True, True, False, True, True]
    np.testing.assert_allclose(made.loc[:2, STAGE.soft_columns], [[1, 0, 0], [0.625, 0.375, 0], [0.375, 0.625, 0]], atol=1e-6)
    pd.testing.assert_frame_equal(made[["days", "colour", "label"]], table[["days", "colour", "label"]])
    assert told[-1].startswith("labels: border, soft and drop do not apply to 1 training images without ")
    options: dict[str, Any] = {"patches": "none", "border": None, "soft": 0.0, "drop": []}
    labels.check_labels(task, **options)
    for change, words in (
        ({"border": 10}, r"labels\.border \(plain\) must be > 10, got 10"),
        ({"soft": 11.0}, r"labels\.soft=11\.0 exceeds the 10 days between the stage thresholds 10 and 20"),
        ({"patches": "core"}, r"labels\.patches=core has mask .*, but the task has colour \(red, blue\)"),
    ):
        with pytest.raises(ConfigError, match=words):
            labels.check_labels(task, **options | change)
    with pytest.raises(ConfigError, match=r"labels\.border needs one attribute of a number"):
        labels.check_labels(TASKS["two"], **options | {"border": 10})


def test_a_head_over_another_number() -> None:
    task = Task((STAGE, Attribute("colour", ("red", "blue"))))
    table = table_of(task)
    head = years(task, low=0, high=40, sigma=0.3, stage=2.0)
    assert head.sizes == [41, 2] and head.outputs == 43 and head.target_size == 43
    targets = torch.from_numpy(head.build_targets(table, np.arange(12)))
    assert targets[:, :41].argmax(1).tolist() == table["days"].tolist()
    probs = head.probabilities((targets + 1e-12).log())
    assert probs.argmax(1).tolist() == table["label"].tolist()
    x = logits(43, 12)
    expected = 2 * cross_entropy(x[:, :41], targets[:, :41]) + cross_entropy(x[:, 41:], targets[:, 41:])
    torch.testing.assert_close(head.build_criterion(ce, targets.sum(0))(x, targets), expected)
    predicted, grid = head.predict(x), torch.arange(41.0)
    shares = x[:, :41].softmax(1)
    torch.testing.assert_close(predicted[:, -2:], torch.stack([shares @ grid, shares @ grid**2], 1))
    sums = torch.stack([shares[:, :10].sum(1), shares[:, 10:20].sum(1), shares[:, 20:].sum(1)], 1)
    torch.testing.assert_close(predicted[:, :6].reshape(12, 3, 2).sum(2), sums)
    for wrong in ({"low": 10}, {"high": 19}):
        with pytest.raises(ConfigError, match="to reach around the borders 10, 20 of stage"):
            heads.check_years(task, **{"low": 0, "high": 40, "border": None} | wrong)
    with pytest.raises(ConfigError, match="head=years needs one attribute of a number"):
        heads.check_years(TASKS["two"], 0, 40, None)


def groups(task: Task, per_group: set[str], count: int = 80) -> pd.DataFrame:
    """Return a table of groups of four images, in which the attributes `per_group` have one value."""
    random = np.random.default_rng(0)
    lines = [{name: int(random.integers(size)) for name, size in zip(task.names, task.shape, strict=True)} for _ in range(count)]
    rows = [{**line, **{name: i % len(task[name].values) for name in task.names if name not in per_group}, "person": f"g{k}"}
            for k, line in enumerate(lines) for i in range(4)]  # fmt: skip
    table = pd.DataFrame(rows).assign(part="train")
    table["id"] = table["path"] = [f"{i}.jpg" for i in range(len(table))]
    table["label"] = task.encode(*(table[name] for name in task.names))
    return table.sample(frac=1, random_state=1)


@pytest.mark.parametrize("per_group", [set(), {"w"}, {"x", "z"}, {"w", "x", "y", "z"}])
def test_folds_are_stratified_by_what_groups_have_in_common(per_group: set[str]) -> None:
    task = TASKS["four"]
    table = groups(task, per_group)
    numbers = split.by_person(table, 4, 0, task)
    assert (numbers.groupby(table["person"]).nunique() == 1).all() and set(numbers) == set(range(4))
    first = table.assign(fold=numbers).groupby("person").first()
    counts = pd.crosstab([first[name] for name in sorted(per_group)] or first["part"], first["fold"])
    large = counts.sum(axis=1) >= 4
    assert large.any() and (counts.max(axis=1) - counts.min(axis=1))[large].max() <= 1
    found = split.person_strata(table, task)["stratum"]
    assert found.nunique() == len(first.groupby(sorted(per_group) or ["part"]))


def test_what_a_task_says_of_an_attribute_is_not_asked_of_the_data() -> None:
    task = TASKS["four"]
    table = groups(task, {"w", "x", "y", "z"})
    own = Task(tuple(Attribute(a.name, a.values, per="group" if a.name == "x" else "photo") for a in task))
    strata = split.person_strata(table, own)["stratum"]
    assert strata.nunique() == 3 and (strata.to_numpy() == table.groupby("person")["x"].first().loc[strata.index].to_numpy() + 1).all()


@pytest.mark.parametrize(("name", "build"), [*itertools.product(["one", "two", "four", "many"], [split.stratified_label, split.holdout, split.holdout_images])])
def test_any_task_is_split(name: str, build: Any) -> None:
    table = groups(TASKS[name], set(TASKS[name].names))
    numbers = build(table, 4, 0, TASKS[name])
    assert numbers.index.equals(table.index) and set(numbers) == (set(range(4)) if build is split.stratified_label else {-1, 0})


def test_a_split_by_age_needs_one() -> None:
    split.check_age(MASK18)
    with pytest.raises(ConfigError, match="split=stratified_age needs an attribute age"):
        split.check_age(TASKS["number"])
