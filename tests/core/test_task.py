"""The 18 classes: age thresholds, class order, and marginals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from maskcls.core.task import AGES, ATTRIBUTES, CLASSES, GENDERS, MASKS, bin_age, decode, encode, marginals, one_hot


@pytest.mark.parametrize(("age", "expected"), [(18, 0), (29, 0), (30, 1), (59, 1), (60, 2), (100, 2)])
def test_a_border_belongs_to_the_age_class_above_it(age: int, expected: int) -> None:
    assert bin_age(age) == expected
    assert bin_age([age, age]).tolist() == [expected, expected]


@pytest.mark.parametrize(("age", "expected"), [(29.9, 0), (57, 1), (58, 2), (60, 2)])
def test_borders_can_be_moved(age: float, expected: int) -> None:
    assert bin_age(age, (30, 58)) == expected


def test_classes_count_mask_then_gender_then_age() -> None:
    triples = list(itertools.product(range(3), range(2), range(3)))
    mask, gender, age = np.array(triples).T
    assert encode(mask, gender, age).tolist() == list(range(18))
    assert [tuple(int(v) for v in row) for row in zip(*decode(range(18)), strict=True)] == triples
    assert list(CLASSES) == [f"{MASKS[m]} {GENDERS[g]} {AGES[a]}" for m, g, a in triples]
    assert list(ATTRIBUTES) == ["mask", "gender", "age"]


@pytest.mark.parametrize(
    ("mask", "gender", "age", "label"),
    [("worn", "male", "<30", 0), ("incorrect", "female", ">=60", 11), ("none", "male", "30-59", 13)],
)
def test_a_class_of_the_competition_keeps_its_number(mask: str, gender: str, age: str, label: int) -> None:
    assert encode(MASKS.index(mask), GENDERS.index(gender), AGES.index(age)) == label


@pytest.mark.parametrize("label", [-1, 18])
def test_what_is_no_class_cannot_be_decoded(label: int) -> None:
    with pytest.raises(ValueError):
        decode(label)


def test_marginals_are_sums_over_the_other_attributes() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(18), 7).astype(np.float32)
    expected = [np.zeros((7, size)) for size in (3, 2, 3)]
    for row, label in itertools.product(range(7), range(18)):
        for sums, value in zip(expected, decode(label), strict=True):
            sums[row, int(value)] += probs[row, label]
    for got, want in zip(marginals(probs), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_onehot_has_its_one_at_the_label() -> None:
    table = one_hot([3, 0, 17])
    assert table.shape == (3, 18) and table.dtype == np.float32
    assert table.argmax(1).tolist() == [3, 0, 17] and table.sum() == 3
