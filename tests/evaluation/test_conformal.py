"""Prediction sets: MAPIE's where each person has one image, and the promised coverage of people where they have many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from maskcls.core.errors import ConfigError
from maskcls.evaluation.conformal import ConformalSets, PersonScores, leave_one_out_p_values

COVERAGES = (0.7, 0.8, 0.9, 0.95)


def people(rng: np.random.Generator, count: int, hard: float = 1.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return probabilities, labels and persons of 1 to 13 images of each person, whose images are alike in difficulty."""
    sizes = rng.integers(1, 14, count)
    persons = np.repeat(np.arange(count), sizes)
    labels = rng.integers(0, 18, count)[persons]
    skill = rng.normal(2, hard, count)[persons]
    logits = rng.normal(0, 1, (len(persons), 18))
    logits[np.arange(len(persons)), labels] += skill
    probs = np.exp(logits)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels, persons


def names(persons: np.ndarray) -> list[str]:
    return [f"p{i}" for i in persons]


@pytest.mark.parametrize("coverage", COVERAGES)
def test_with_one_image_a_person_the_sets_are_those_of_mapie(coverage: float) -> None:
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """A model whose inputs are its probabilities."""

        def __init__(self) -> None:
            self.classes_ = np.arange(18)

        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            return x.argmax(1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    rng = np.random.default_rng(0)
    probs, labels, _ = people(rng, 200)
    rows = rng.permutation(len(labels))
    known, new = rows[:637], rows[637:]
    wide = probs.astype(np.float64)
    wide /= wide.sum(1, keepdims=True)
    model = SplitConformalClassifier(Given(), confidence_level=coverage, conformity_score="lac", prefit=True)
    model.conformalize(wide[known], labels[known])
    theirs = model.predict_set(wide[new])[1][..., 0]
    ours = ConformalSets((PersonScores.of(wide[known], labels[known], names(known)),)).predict(wide[None, new], coverage)
    theirs[np.arange(len(new)), wide[new].argmax(1)] = True  # ours are never empty
    assert (ours == theirs).all() and 1 < ours.sum(1).mean() < 18


def test_p_values_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(1)
    probs, labels, persons = people(rng, 25)
    new = people(rng, 4)[0]
    found = ConformalSets((PersonScores.of(probs, labels, names(persons)),)).p_values(new[None])
    scores = 1 - probs[np.arange(len(labels)), labels].astype(np.float64)
    for i, c in np.ndindex(*new.shape):
        shares = [(scores[persons == j] >= 1 - np.float64(new[i, c])).mean() for j in range(25)]
        assert found[i, c] == pytest.approx((1 + sum(shares)) / 26, abs=1e-12)


def test_two_folds_are_compared_each_with_its_own_model() -> None:
    rng = np.random.default_rng(2)
    parts = [people(rng, 30) for _ in range(2)]
    folds = [PersonScores.of(probs, labels, names(persons)) for probs, labels, persons in parts]
    new = np.stack([people(np.random.default_rng(3), 5)[0]] * 2)
    new[1] = new[1] ** 0.5 / (new[1] ** 0.5).sum(1, keepdims=True)
    both = ConformalSets(tuple(folds)).p_values(new)
    each = [ConformalSets((fold,)).p_values(own[None]) * 31 - 1 for fold, own in zip(folds, new, strict=True)]
    assert np.allclose(both, (1 + each[0] + each[1]) / 61)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_over_200_splits_of_people_is_what_theory_promises(coverage: float) -> None:
    """A random image of a new person: coverage to coverage + 2 / (people + 1) (Lee, Barber & Willett 2023).

    Images would promise too much: among calibration images, people with many images count more.
    """
    rng = np.random.default_rng(4)
    probs, labels, persons = people(rng, 160)
    covered = []
    for _ in range(200):
        known = np.isin(persons, rng.permutation(160)[:80])
        scores = PersonScores.of(probs[known], labels[known], names(persons[known]))
        new = ~known
        p_values = ConformalSets((scores,)).p_values(probs[None, new])[np.arange(new.sum()), labels[new]]
        hits = p_values > 1 - coverage + 1e-9
        sums = np.bincount(persons[new], hits, 160)[~np.isin(np.arange(160), persons[known])]
        sizes = np.bincount(persons[new], minlength=160)[~np.isin(np.arange(160), persons[known])]
        covered.append((sums / sizes).mean())  # a random image of each person
    error = np.std(covered) / np.sqrt(200)
    assert error < 0.005
    assert coverage - 3 * error <= np.mean(covered) <= coverage + 2 / 81 + 3 * error


def test_the_sets_of_real_predictions_hold_the_best_class_and_grow_with_coverage() -> None:
    rng = np.random.default_rng(5)
    probs, labels, persons = people(rng, 60)
    sets = ConformalSets((PersonScores.of(probs, labels, names(persons)),))
    found = [sets.predict(probs[None], coverage) for coverage in COVERAGES]
    for small, large in pairwise(found):
        assert (large | ~small).all() and large.sum() > small.sum()
    assert all(one[np.arange(len(probs)), probs.argmax(1)].all() for one in found)
    assert sets.predict(probs[None], 0.999).all(), "60 people cannot promise 0.999: every class may be"
    assert sets.predict(probs[None, :0], 0.9).shape == (0, 18)


def test_a_left_out_person_is_compared_with_the_others_only() -> None:
    rng = np.random.default_rng(6)
    probs, labels, persons = people(rng, 20)
    found = leave_one_out_p_values(probs, labels, names(persons))
    for person in range(20):
        own = persons == person
        others = PersonScores.of(probs[~own], labels[~own], names(persons[~own]))
        assert np.allclose(found[own], ConformalSets((others,)).p_values(probs[None, own]), atol=1e-12)


def test_equal_scores_of_a_person_are_left_out_with_the_person() -> None:
    probs = np.round(people(np.random.default_rng(8), 20)[0], 1)  # many are equal
    _, labels, persons = people(np.random.default_rng(8), 20)
    found = leave_one_out_p_values(probs, labels, names(persons))
    own = persons == 3
    others = PersonScores.of(probs[~own], labels[~own], names(persons[~own]))
    assert np.allclose(found[own], ConformalSets((others,)).p_values(probs[None, own]), atol=1e-12)


def test_the_predicted_class_is_in_its_set() -> None:
    probs, labels, persons = people(np.random.default_rng(9), 60)
    sets = ConformalSets((PersonScores.of(probs, labels, names(persons)),))
    worst = probs.argmin(1)  # as a decision may choose it
    found = sets.predict(probs[None], 0.7, worst)
    assert found[np.arange(len(probs)), worst].all() and not sets.predict(probs[None], 0.7)[np.arange(len(probs)), worst].all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.5, 90.0, float("nan"), float("inf")])
def test_a_coverage_that_is_none_is_refused(coverage: float) -> None:
    rng = np.random.default_rng(7)
    probs, labels, persons = people(rng, 5)
    sets = ConformalSets((PersonScores.of(probs, labels, names(persons)),))
    with pytest.raises(ConfigError, match=r"coverage must be between 0 and 1, such as 0\.9, got"):
        sets.predict(probs[None], coverage)
