"""The task: the competition's 18 classes, and classes, indices and marginals of any attributes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task, bin_numbers

TASKS = {
    "mask18": MASK18,
    "one": Task((Attribute("kind", ("a", "b", "c")),)),
    "two": Task((Attribute("colour", ("red", "blue")), Attribute("glasses", ("yes", "no")))),
    "four": Task(tuple(Attribute(name, tuple("abc"[:size])) for name, size in zip("wxyz", (2, 3, 2, 2), strict=True))),
    "number": Task((Attribute("stage", ("early", "late"), "days", (10,), (12,), "days"), Attribute("색", ("빨간 색", "파랑")))),
    "many": Task((Attribute("person", tuple(f"v{i}" for i in range(200))),)),
}
NAMES = pytest.mark.parametrize("name", TASKS)


@pytest.mark.parametrize(("age", "expected"), [(18, 0), (29, 0), (29.9, 0), (30, 1), (59, 1), (60, 2), (100, 2)])
def test_a_border_belongs_to_the_value_above_it(age: float, expected: int) -> None:
    assert MASK18["age"].bin(age) == expected
    assert MASK18["age"].bin([age, age]).tolist() == [expected, expected]


@pytest.mark.parametrize(("age", "expected"), [(29.9, 0), (57, 1), (58, 2), (60, 2)])
def test_borders_can_be_moved(age: float, expected: int) -> None:
    assert MASK18["age"].bin(age, (30, 58)) == bin_numbers(age, (30, 58)) == expected


def test_classes_of_the_competition_count_mask_then_gender_then_age() -> None:
    masks, genders, ages = MASK18.values.values()
    triples = list(itertools.product(range(3), range(2), range(3)))
    assert MASK18.names == ("mask", "gender", "age") and MASK18.shape == (3, 2, 3) and MASK18.num_classes == 18
    assert MASK18.encode(*np.array(triples).T).tolist() == list(range(18))
    assert list(MASK18.classes) == [f"{masks[m]} {genders[g]} {ages[a]}" for m, g, a in triples]
    assert MASK18.number is MASK18["age"] and MASK18.number.train_borders == (30, 60)
    assert MASK18.score_names == ("f1", "accuracy", "mask_f1", "gender_f1", "age_f1")


@pytest.mark.parametrize(
    ("mask", "gender", "age", "label"),
    [("worn", "male", "<30", 0), ("incorrect", "female", ">=60", 11), ("none", "male", "30-59", 13)],
)
def test_a_class_of_the_competition_keeps_its_number(mask: str, gender: str, age: str, label: int) -> None:
    indices = [values.index(value) for values, value in zip(MASK18.values.values(), (mask, gender, age), strict=True)]
    assert MASK18.encode(*indices) == label


@NAMES
def test_classes_are_all_combinations_and_the_last_attribute_changes_fastest(name: str) -> None:
    task = TASKS[name]
    combinations = list(itertools.product(*(range(len(attribute.values)) for attribute in task)))
    assert task.num_classes == len(combinations) == len(task.classes) == len(set(task.classes))
    assert task.encode(*np.array(combinations).T).tolist() == list(range(task.num_classes))
    assert [tuple(map(int, row)) for row in zip(*task.decode(range(task.num_classes)), strict=True)] == combinations
    assert [task.axis(name) for name in task.names] == list(range(len(task.names)))
    values = [" ".join(a.values[i] for a, i in zip(task, row, strict=True)) for row in combinations]
    assert list(task.classes) == values


@NAMES
def test_what_is_no_class_can_neither_be_decoded_nor_encoded(name: str) -> None:
    task = TASKS[name]
    for label in (-1, task.num_classes):
        with pytest.raises(ValueError):
            task.decode(label)
    for axis, size in enumerate(task.shape):
        for wrong in (-1, size):
            with pytest.raises(ValueError):
                task.encode(*(wrong if i == axis else 0 for i in range(len(task.shape))))


@NAMES
def test_marginals_are_sums_over_the_other_attributes(name: str) -> None:
    task = TASKS[name]
    probs = np.random.default_rng(0).dirichlet(np.ones(task.num_classes), 7).astype(np.float32)
    expected = [np.zeros((7, size)) for size in task.shape]
    for label in range(task.num_classes):
        for sums, value in zip(expected, task.decode(label), strict=True):
            sums[:, int(value)] += probs[:, label]
    for got, want in zip(task.marginals(probs), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@NAMES
def test_onehot_has_its_one_at_the_label(name: str) -> None:
    task = TASKS[name]
    labels = [task.num_classes - 1, 0, 1]
    table = task.one_hot(labels)
    assert table.shape == (3, task.num_classes) and table.dtype == np.float32
    assert table.argmax(1).tolist() == labels and table.sum() == 3


def test_the_number_is_the_only_attribute_of_one() -> None:
    number, other = TASKS["number"]["stage"], Attribute("size", ("s", "l"), "cm", (5,), (5,))
    assert TASKS["number"].number is number and TASKS["two"].number is None
    assert Task((number, other)).number is None
    assert number.source == "days" and number.soft_columns == ["stage0", "stage1"] and number.class_column == "stage_class"
    assert TASKS["two"]["glasses"].source == "glasses" and not TASKS["two"]["glasses"].is_number
    assert number.bin([9.9, 10, 11, 12]).tolist() == [0, 1, 1, 1]
    assert number.bin([9.9, 10, 11, 12], number.train_borders).tolist() == [0, 0, 0, 1]
