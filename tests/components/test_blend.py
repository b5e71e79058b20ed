"""Blends against independent references; what learns from labels is honest out of fold."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import f1_score

from maskcls.components import blend
from maskcls.components.blend import Blend
from maskcls.core.errors import ConfigError
from maskcls.core.task import FloatArray, IntArray
from maskcls.evaluation.metrics import macro_f1
from maskcls.evaluation.stacking import fit_weights

Case = tuple[FloatArray, IntArray, list[str]]


def case(seed: int = 0, photos: int = 280, skill: tuple[float, ...] = (0.3, 0.2, 0.0)) -> Case:
    """Return members (M, N, 18) that know the truth by their skill, truth (N,) and persons (N,), four photos each."""
    random = np.random.default_rng(seed)
    shares = random.dirichlet(np.full(18, 0.8))
    truth = random.choice(18, photos, p=shares).astype(np.int64)
    noise = random.dirichlet(np.ones(18), (len(skill), photos))
    known = np.eye(18)[truth]
    members = np.stack([(1 - s) * part + s * known for s, part in zip(skill, noise, strict=True)]).astype(np.float32)
    return members, truth, [f"person{i // 4}" for i in range(photos)]


def build(name: str, data: Case, **params: object) -> Blend:
    """Return a blend by its word."""
    result = blend.registry.builders[name](*data, **params)
    assert isinstance(result, Blend)
    return result


WORDS = {"mean": {}, "rank": {}, "vote": {}, "weighted": {"weights": [1.0, 2.0, 0.5]}, "fitted": {}, "greedy": {}}


@pytest.mark.parametrize("name", WORDS)
def test_every_blend_gives_rows_of_probabilities_and_the_same_ones_again(name: str) -> None:
    data = case()
    other = case(seed=1, photos=30)[0]
    made = build(name, data, **WORDS[name])
    for probs, rows in ((made.oof, 280), (made(other), 30)):
        assert probs.shape == (rows, 18) and probs.dtype == np.float32 and (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-5)
    again = build(name, data, **WORDS[name])
    np.testing.assert_array_equal(again.oof, made.oof)
    np.testing.assert_array_equal(again(other), made(other))
    assert made.validity_note


def test_the_words_of_this_test_are_all_there_are() -> None:
    assert set(WORDS) == set(blend.registry.builders)


def test_mean_and_weighted_are_numpys() -> None:
    data = case()
    np.testing.assert_array_equal(build("mean", data).oof, np.mean(data[0], axis=0))
    expected = np.average(data[0], axis=0, weights=[3, 1, 0])
    np.testing.assert_allclose(build("weighted", data, weights=[3.0, 1.0, 0.0]).oof, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "sentence"), [([1.0], "expected 3 weights, one per run, got 1"), ([0.0] * 3, "greater than 0")]
)
def test_weights_that_do_not_fit_are_refused(weights: list[float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build("weighted", case(), weights=weights)


def test_rank_is_scipys_average_rank_in_each_column_also_with_equal_values() -> None:
    members, truth, persons = case()
    members = np.round(members, 2)  # many equal ones
    ranks = rankdata(members, axis=1).mean(0)
    expected = ranks / ranks.sum(1, keepdims=True)
    np.testing.assert_allclose(build("rank", (members, truth, persons)).oof, expected, atol=1e-6)


def test_rank_places_a_single_photo_among_those_it_was_built_on() -> None:
    data = case()
    made = build("rank", data)
    np.testing.assert_allclose(made(data[0][:, 7:8]), made.oof[7:8], atol=1e-6)


def test_vote_is_the_majority_and_of_equal_ones_the_more_probable() -> None:
    data = case(skill=(0.2, 0.2, 0.1, 0.1))
    probs = build("vote", data).oof
    for i in range(len(probs)):
        votes = Counter(data[0][:, i].argmax(1).tolist())
        winners = [label for label, count in votes.items() if count == max(votes.values())]
        assert probs[i].argmax() == max(winners, key=lambda label: data[0][:, i, label].mean())


def test_fitted_finds_the_members_that_know_something() -> None:
    members, truth, persons = case(skill=(0.0, 0.25, 0.0), photos=600)
    weights, _ = fit_weights(members, truth, 0.0, np.eye(18))
    assert weights[1] > 0.8
    honest = macro_f1(truth, build("fitted", (members, truth, persons)).oof.argmax(1))
    assert honest > macro_f1(truth, members.mean(0).argmax(1)) + 0.05


LEARNING = {"fitted": {"shrink": 0.0}, "greedy": {}}


@pytest.mark.parametrize(("name", "skill"), [("fitted", (0.0, 0.25, 0.1)), ("greedy", (0.02,) * 6)])
def test_a_person_has_no_part_in_what_is_learned_for_its_own_photos(name: str, skill: tuple[float, ...]) -> None:
    members, truth, persons = case(skill=skill)
    made = build(name, (members, truth, persons), **LEARNING[name])
    own = np.array(persons) == "person5"
    moved = np.where(own, (truth + 7) % 18, truth)
    again = build(name, (members, moved, persons), **LEARNING[name])
    np.testing.assert_array_equal(again.oof[own], made.oof[own])
    assert (again.oof[~own] != made.oof[~own]).any()  # others may learn from it


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_learned_from_noise_scores_no_better_than_chance_out_of_fold(name: str) -> None:
    over, inside = [], []
    for seed in range(4):
        data = case(seed, photos=400, skill=(0.0,) * 5)
        made, truth = build(name, data, **LEARNING[name]), data[1]
        random = np.random.default_rng(seed)
        guess = made.oof.argmax(1)
        chance = np.array([macro_f1(random.permutation(truth), guess) for _ in range(60)])
        over.append((macro_f1(truth, guess) - chance.mean()) / chance.std())
        inside.append((macro_f1(truth, made(data[0]).argmax(1)) - chance.mean()) / chance.std())
    assert np.mean(over) < 3 / np.sqrt(len(over))  # three standard errors
    assert np.mean(inside) > np.mean(over)  # what an in-sample score would have claimed


@pytest.mark.parametrize("name", LEARNING)
def test_a_blend_that_learns_refuses_a_single_person(name: str) -> None:
    members, truth, _ = case()
    with pytest.raises(ConfigError, match=f"blend={name} is cross-fitted by person and needs at least 2 people"):
        build(name, (members, truth, ["one"] * len(truth)))


def select_naively(members: FloatArray, truth: IntArray, rounds: int) -> list[float]:
    """Return the weights of ensemble selection by its definition: bags of members, scored by scikit-learn."""
    bags: list[list[int]] = [[]]
    for _ in range(rounds):
        grown = [[*bags[-1], i] for i in range(len(members))]
        means = [np.mean(members[bag].astype(np.float64), axis=0) for bag in grown]
        keys = [(f1_score(truth, mean.argmax(1), average="macro"), np.log(mean[range(len(truth)), truth]).mean())
                for mean in means]  # fmt: skip
        bags.append(grown[max(range(len(grown)), key=lambda i: keys[i])])
    scores = [f1_score(truth, np.mean(members[bag], axis=0).argmax(1), average="macro") for bag in bags[1:]]
    best = bags[1:][int(np.argmax(scores))]
    return [best.count(i) / len(best) for i in range(len(members))]


@pytest.mark.parametrize("seed", range(3))
def test_greedy_is_ensemble_selection_by_its_definition(seed: int) -> None:
    data = case(seed, photos=120, skill=(0.2, 0.1, 0.15, 0.0))
    weights = build("greedy", data, rounds=8).weights
    assert weights == pytest.approx(select_naively(data[0], data[1], 8)) and sum(weights or []) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_never_worse_than_the_best_member_in_sample_and_its_honest_score_is_lower(seed: int) -> None:
    data = case(seed, skill=(0.03, 0.02, 0.03, 0.02, 0.0, 0.0))
    made, truth = build("greedy", data), data[1]
    inside = macro_f1(truth, made(data[0]).argmax(1))
    assert inside >= max(macro_f1(truth, member.argmax(1)) for member in data[0])
    assert inside > macro_f1(truth, made.oof.argmax(1))


def test_greedy_leaves_out_members_that_know_nothing() -> None:
    weights = build("greedy", case(skill=(0.0, 0.3, 0.0), photos=600)).weights
    assert weights is not None and weights[1] > 0.8


@pytest.mark.parametrize("classes", [2, 4, 200])
@pytest.mark.parametrize("name", WORDS)
def test_a_blend_holds_for_any_number_of_classes(name: str, classes: int) -> None:
    random = np.random.default_rng(2)
    truth = random.integers(0, classes, 120)
    skill = np.array([0.3, 0.2, 0.0])[:, None, None]
    noise = random.dirichlet(np.ones(classes), (3, 120))
    members = ((1 - skill) * noise + skill * np.eye(classes)[truth]).astype(np.float32)
    made = build(name, (members, truth, [f"person{i // 4}" for i in range(120)]), **WORDS[name])
    for probs in (made.oof, made(members[:, :7])):
        assert probs.shape[1] == classes and (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, atol=1e-4)
