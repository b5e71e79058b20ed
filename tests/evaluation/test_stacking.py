"""The fit to macro F1 against finite differences, and cross-fitting by person."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from maskcls.components.decision import attribute_basis
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation import stacking
from maskcls.evaluation.metrics import macro_f1

BASES = {"none": np.zeros((18, 0)), "class": np.eye(18), "attribute": attribute_basis(MASK18)}


def members_of(seed: int, photos: int) -> tuple[FloatArray, IntArray]:
    """Return three members (3, N, 18), two of which know something of the truth (N,)."""
    random = np.random.default_rng(seed)
    truth = random.choice(18, photos, p=random.dirichlet(np.full(18, 0.8))).astype(np.int64)
    skill = np.array([0.3, 0.2, 0.0])[:, None, None]
    return ((1 - skill) * random.dirichlet(np.ones(18), (3, photos)) + skill * np.eye(18)[truth]).astype(np.float32), truth


@pytest.mark.parametrize("basis", BASES)
def test_the_gradient_of_the_soft_f1_is_that_of_finite_differences(basis: str) -> None:
    members, truth = members_of(0, 60)
    x = np.random.default_rng(0).normal(0, 0.7, 3 + BASES[basis].shape[1])
    task = (members.astype(np.float64), np.eye(18)[truth], 0.01, BASES[basis])
    numeric = approx_fprime(x, lambda point: stacking.loss(point, *task)[0], 1e-7)
    np.testing.assert_allclose(stacking.loss(x, *task)[1], numeric, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shrink", [0.0, 0.001, 0.1])
@pytest.mark.parametrize("basis", BASES)
def test_a_fit_is_never_worse_than_the_mean_in_sample(seed: int, shrink: float, basis: str) -> None:
    members, truth = members_of(seed, 120)
    weights, offsets = stacking.fit_weights(members, truth, shrink, BASES[basis])
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    fitted = macro_f1(truth, stacking.apply_bias(members, weights, offsets).argmax(1))
    assert fitted >= macro_f1(truth, members.mean(0).argmax(1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(2, 7))
def test_cross_fitting_never_fits_to_a_person_that_it_predicts(persons: list[int], folds: int) -> None:
    """The parameter of a fit is the set of people that it saw; each row is predicted once, without its own."""
    names = [f"p{person}" for person in persons]
    rows = np.eye(18, dtype=np.float32)[persons][None]  # a row is its person
    seen = list[set[int]]()

    def fit(members: FloatArray, labels: IntArray) -> tuple[stacking.Doubles]:
        assert members[0].argmax(1).tolist() == labels.tolist()
        return (members[0].sum(0).astype(np.float64),)

    def combine(members: FloatArray, people: stacking.Doubles) -> FloatArray:
        seen.append(set(members[0].argmax(1).tolist()))
        assert not people[members[0].argmax(1)].any()
        return members[0]

    if len(set(names)) < 2:
        with pytest.raises(ConfigError, match="this is cross-fitted by person and needs at least 2 people"):
            stacking.cross_fit("this", rows, np.array(persons), names, folds, fit, combine)
        return
    oof, groups = stacking.cross_fit("this", rows, np.array(persons), names, folds, fit, combine)
    np.testing.assert_array_equal(oof, rows[0])
    assert groups == len(seen) == min(folds, len(set(names)))
    assert sum(map(len, seen)) == len(set(names))


def test_no_bias_changes_nothing_and_any_scales_the_classes() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(18), (3, 7)).astype(np.float32)
    assert stacking.decide(probs, None) is probs
    bias = np.random.default_rng(1).normal(0, 2, 18)
    scaled = probs * np.exp(bias)
    np.testing.assert_allclose(stacking.decide(probs, bias), scaled / scaled.sum(-1, keepdims=True), atol=1e-6)
    assert stacking.decide(probs[0, :0], bias.tolist()).shape == (0, 18)
