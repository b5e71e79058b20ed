"""The audit's statistics: votes, ages, assignments, and the whole beside cleanlab on the same predictions."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited_people import OF_GROUP, audited_groups, audited_people
from cleanlab_comparison import compare, summarize
from made_tasks import STAGES, each_task
from scipy.special import log_softmax

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.audit_estimate import (
    KindEstimate,
    choose_threshold,
    error_limit,
    estimate_audit,
    total_precision,
    total_recall,
)
from maskcls.evaluation.image_errors import best_alternative, find_image_errors
from maskcls.evaluation.label_issues import Evidence, Suspicions, group_attributes
from maskcls.evaluation.label_votes import calibrate_votes, estimate_rate, posterior
from maskcls.evaluation.number_errors import num_decimals, typical_numbers, wrong_density
from maskcls.evaluation.planted_errors import count_errors, plant_errors

MASKS = np.array([0, 0, 0, 0, 0, 1, 2])


def flagged(evidence: Evidence, table: pd.DataFrame, kind: str) -> dict[str, float]:
    """Return the posterior of each person."""
    part = replace(evidence, table=table).suspicions()[kind]
    return pd.Series(part.wrong, index=part.persons).groupby(level=0).max().to_dict()


def relabelled(table: pd.DataFrame, person: str, **values: float) -> pd.DataFrame:
    """Return a copy in which a person has other labels."""
    table = table.copy()
    for name, value in values.items():
        table.loc[table["person"] == person, name] = value
    table["label"] = MASK18.encode(table["mask"], table["gender"], MASK18["age"].bin(table["age"]))
    return table


def test_a_vote_is_worth_what_the_labels_show_and_not_seven_times_that() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    logits = np.where(labels == 1, 1.0, -1.0) * 2 + rng.normal(0, 2, 3000)  # of log-odds 1 · logit
    scores = log_softmax(np.column_stack([np.zeros(3000), 4 * logits]), axis=1)  # a network that is too sure
    noisy = np.where(rng.random(3000) < 0.03, 1 - labels, labels)
    votes = calibrate_votes(scores, noisy)
    assert 0.005 < votes.rate < 0.05  # some of the wrong labels are as probable as right ones
    slope = np.polyfit(4 * logits, votes.logs[:, 1] - votes.logs[:, 0], 1)[0]
    assert slope == pytest.approx(0.25, abs=0.04)


def test_posteriors_are_probabilities_by_bayes_and_a_rate_is_found_again() -> None:
    assert posterior(np.array([0.0, np.log(9)]), 0.1) == pytest.approx([0.1, 0.5])
    rng = np.random.default_rng(0)
    is_wrong = rng.random(5000) < 0.04
    evidence = np.where(is_wrong, rng.normal(4, 2.83, 5000), rng.normal(-4, 2.83, 5000))
    assert estimate_rate(evidence) == pytest.approx(is_wrong.mean(), abs=0.01)


def test_a_swap_is_one_alternative_with_both_images() -> None:
    logs = np.log(np.full((7, 3), 0.02) + 0.94 * np.eye(3)[[0, 0, 0, 0, 0, 2, 1]])
    suggested, gain = best_alternative(logs, MASKS, np.log(0.05))
    assert suggested.tolist() == [0, 0, 0, 0, 0, 2, 1] and gain > 4


@pytest.mark.parametrize("wrong", [[0, 0, 0, 0, 0, 2, 2], [1, 0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 0, 0, 2]])
def test_a_person_of_another_layout_has_one_mask_corrected(wrong: list[int]) -> None:
    truth = np.tile(MASKS, (20, 1))
    labels = truth.copy()
    labels[3] = wrong
    logs = np.log(np.full((140, 3), 1e-4) + 0.9997 * np.eye(3)[truth.ravel()])
    evidence, suggested, rate = find_image_errors(logs, labels.ravel(), np.repeat(np.arange(20), 7))
    assert evidence.argmax() == 3 and posterior(evidence, rate)[3] > 0.5 > np.sort(posterior(evidence, rate))[-2]
    assert suggested.reshape(20, 7)[3].tolist() == MASKS.tolist()


def test_an_age_near_a_border_is_no_error_and_one_far_off_is() -> None:
    truth, evidence = audited_people(300)
    first = truth.drop_duplicates("person").set_index("person")["age"]
    expected = pd.Series(evidence.numbers[:, 0]).groupby(truth["person"].to_numpy()).mean()
    near = [person for person in first[first.between(27, 32)].index if abs(expected[person] - first[person]) < 3]
    assert len(near) > 3
    for person in near:  # a true 29 that is labelled 30, and the other way round
        crossed = relabelled(truth, person, age=59 - first[person])
        assert flagged(evidence, crossed, "age")[person] < 0.05
    young = first[first < 22].index[0]
    assert flagged(evidence, relabelled(truth, young, age=70), "age")[young] > 0.9


def test_an_open_ended_oldest_age_is_right_for_anybody_older() -> None:
    truth, evidence = audited_people(300)
    capped = truth.assign(age=truth["age"].clip(upper=60))
    old = truth.loc[truth["age"] > 74, "person"].unique()
    wrong = flagged(evidence, capped, "age")
    assert len(old) > 5 and max(wrong[person] for person in old) < 0.05


@pytest.mark.parametrize("has_years", [True, False])
@pytest.mark.parametrize("knows_ages", [True, False])
def test_any_table_is_searched_and_new_values_differ_from_old(has_years: bool, knows_ages: bool) -> None:
    truth, evidence = audited_people(60, has_years=has_years)
    wrong, planted = plant_errors(truth, {"mask": 3, "gender": 3, "age": 3}, np.random.default_rng(0), OF_GROUP, MASK18)
    wrong = wrong if knows_ages else wrong.assign(age=np.nan)
    for kind, part in replace(evidence, table=wrong).suspicions().items():
        assert ((part.wrong >= 0) & (part.wrong <= 1)).all() and len(part.units) == len(wrong)
        classes = MASK18["age"].bin(part.new) if kind == "age" else part.new
        old = wrong["label"] % 3 if kind == "age" else wrong[kind]
        if kind != "mask":
            assert (classes != old).all()
        top = np.array(part.persons)[np.argsort(-part.wrong)[:6]]
        assert len(set(planted.loc[planted["kind"] == kind, "person"]) & set(top)) >= 2


def test_wrong_ages_of_many_people_need_little_memory_and_equal_the_whole_kernel() -> None:
    rng = np.random.default_rng(0)
    for ages in (rng.integers(0, 61, 20_000).astype(float), rng.uniform(0, 90, 20_000)):
        tracemalloc.start()
        density = wrong_density(ages, ages == 60, MASK18["age"].bin(ages))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50e6 and density.shape == (20_000,)
    ages = rng.uniform(0, 60, 300).round().clip(0, 60)
    is_open, classes = ages == 60, MASK18["age"].bin(ages)
    weights = 0.5 / 300 + 0.5 / (np.bincount(classes)[classes] * 3)
    whole = (np.exp(-(((ages[:, None] - ages) / 3) ** 2) / 2) * ~is_open) @ weights / (3 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(wrong_density(ages, is_open, classes), np.where(is_open, weights[is_open].sum(), whole))


def test_no_threshold_is_chosen_if_no_list_is_precise_enough() -> None:
    part = Suspicions("mask", ["a", "b"], np.array([0.0, 3.0]), np.ones(2), 0.1, np.arange(2), np.zeros(2, int))
    weak, none = KindEstimate(part, np.zeros(9)), KindEstimate(replace(part, evidence=np.full(2, -30.0)), np.ones(9))
    assert choose_threshold({"mask": weak}, 0.6) is None and choose_threshold({"mask": none}, 0.0) is None
    assert total_recall({"mask": weak}, 0.02) == 0 and total_recall({"mask": none, "age": weak}, 0.02) == 0.5


def test_images_without_people_are_their_own_people() -> None:
    truth, evidence = audited_people(40)
    table = truth.assign(person=truth["id"])
    wrong = relabelled(table, table["id"][6], mask=0)
    part = replace(evidence, table=wrong).suspicions()["mask"]
    assert part.persons[part.wrong.argmax()] == table["id"][6] and part.new[6] == 2


def test_a_person_with_two_labels_is_two_units() -> None:
    truth, evidence = audited_people(60)
    table = truth.copy()
    table.loc[0, "gender"] = 1 - table.loc[0, "gender"]
    table["label"] = MASK18.encode(table["mask"], table["gender"], MASK18["age"].bin(table["age"]))
    part = replace(evidence, table=table).suspicions()["gender"]
    assert part.persons.count(table["person"][0]) == 2 and part.new[0] != part.new[1]


def test_flags_of_strict_thresholds_limit_the_number_of_errors() -> None:
    planted = np.array([0.95, 0.9, 0.8, 0.3])
    assert error_limit(np.array([0.97, 0.1, 0.0]), planted) == 2  # at 0.3: 1 flag and one more, all 4 found
    assert error_limit(np.array([0.97, 0.5, 0.4]), planted) == pytest.approx(2 / 0.75)  # at 0.8: 3 of 4 found
    assert error_limit(np.zeros(5), np.zeros(4)) == 6 and error_limit(np.zeros(5), np.zeros(0)) == 5


def test_the_estimate_is_near_the_truth_and_the_list_keeps_its_precision() -> None:
    truth, evidence = audited_people(400, seed=5)
    wrong, planted = plant_errors(truth, {"mask": 8, "gender": 8, "age": 8}, np.random.default_rng(7), OF_GROUP, MASK18)
    kinds = estimate_audit(replace(evidence, table=wrong), 3, 0)
    threshold = choose_threshold(kinds, 0.6)
    assert threshold is not None
    assert total_precision(kinds, threshold) >= 0.6
    hits, flags = 0, 0
    for kind, part in kinds.items():
        found = np.array(part.suspicions.persons)[part.suspicions.wrong >= threshold]
        right = len(set(found) & set(planted.loc[planted["kind"] == kind, "person"]))
        hits, flags = hits + right, flags + len(found)
        assert part.recall(threshold) == pytest.approx(right / 8, abs=0.3)
        assert part.errors == pytest.approx(8, abs=5)
    assert hits / 24 > 0.7 and hits / flags > 0.5
    strict, lenient = choose_threshold(kinds, 1.0), choose_threshold(kinds, 0.0)
    assert lenient is not None and threshold >= lenient and (strict is None or strict >= threshold)


def drawn_people(number: int) -> tuple[Evidence, np.ndarray]:
    """Return evidence and probabilities (1,120, 18) of a run of the default command with a seed of its own.

    drawn_people.npz has the out-of-fold marginals of four such runs on the 160 drawn people, with true labels.
    """
    with np.load(Path(__file__).parent / "drawn_people.npz") as file:
        marginal, labels, persons = file[f"probs{number}"].astype(float), file["labels"].astype(int), file["persons"]
    parts = [part / part.sum(1, keepdims=True) for part in np.split(marginal, [3, 5], axis=1)]
    probs = np.einsum("nm,ng,na->nmga", *parts).reshape(len(labels), 18)
    mask, gender, _ = MASK18.decode(labels[:, 0])
    names = {"id": [f"{i:04d}" for i in range(len(labels))], "person": [f"p{person:03d}" for person in persons]}
    table = pd.DataFrame(names | {"mask": mask, "gender": gender, "age": labels[:, 1].astype(float), "label": labels[:, 0]})
    return Evidence.of(table, probs, None, MASK18), probs


def test_more_errors_are_found_than_by_cleanlab_at_equal_numbers_of_flags() -> None:
    pytest.importorskip("cleanlab", reason="the yardstick, pip install 'maskcls[dev]'")
    results = []
    for number in (1, 2, 3, 4):
        evidence, probs = drawn_people(number)
        for copy in (0, 1):
            wrong, planted = plant_errors(evidence.table, count_errors(evidence.table, 0.05, MASK18), np.random.default_rng([number - 1, copy]), OF_GROUP, MASK18)
            results.append(compare(replace(evidence, table=wrong), probs, planted))
    for kind, rows in summarize(results).items():
        for who in set(rows) - {"ours"}:  # by images, as cleanlab is used, and by the mean of a person's images
            assert rows["ours"]["found"]["mean"] >= rows[who]["found"]["mean"], (kind, rows)
            assert rows["ours"]["average_precision"]["mean"] > rows[who]["average_precision"]["mean"], (kind, rows)


@each_task
@pytest.mark.parametrize("are_images", [False, True])
def test_planted_errors_of_any_task_are_found_and_new_values_differ(task: Task, are_images: bool) -> None:
    of_images = task.names if are_images else ()
    truth, evidence = audited_groups(free(task), 60, of_images)
    assert set(evidence.group_names) == set(task.names) - set(of_images)
    wrong, planted = plant_errors(truth, dict.fromkeys(task.names, 3), np.random.default_rng(0), evidence.group_names, task)
    assert planted.groupby("kind")["person"].nunique().to_dict() == dict.fromkeys(task.names, 3)
    for attribute, old in zip(task, task.decode(wrong["label"]), strict=True):
        part = replace(evidence, table=wrong).search(attribute)
        assert ((part.wrong >= 0) & (part.wrong <= 1)).all() and part.of_images == are_images
        classes = attribute.bin(part.new) if attribute.is_number else part.new
        assert (classes != old).all() or are_images
        found = set(np.array(part.persons)[np.argsort(-part.wrong)[:6]])
        assert len(found & set(planted.loc[planted["kind"] == attribute.name, "person"])) >= 2


def free(task: Task) -> Task:
    """Return the task with attributes of which the data says whether they belong to the group."""
    return replace(task, attributes=tuple(replace(one, per="") for one in task))


def test_an_attribute_belongs_to_the_group_if_nearly_all_groups_have_one_value() -> None:
    table, _ = audited_groups(STAGES, 40)
    crops = table["label"].to_numpy().copy()
    for num, names in ((0, ("crop", "stage")), (3, ("crop", "stage")), (8, ("stage",))):
        labels = crops.copy()
        labels[: 5 * num : 5] = (labels[: 5 * num : 5] + 2) % 6  # another crop in the first image of some groups
        assert group_attributes(table.assign(label=labels), STAGES) == names
    assert group_attributes(table.assign(label=(crops + 2 * (np.arange(200) % 2)) % 6, person=table["id"]), STAGES) == ("crop", "stage")


@pytest.mark.parametrize(
    ("borders", "limits", "numbers"),
    [((30, 60), (0, 120), [24, 45, 66]), ((10,), (0, 365), [8, 12]), ((0.5,), (0, 1), [0.4, 0.6]), ((-5.25, 0), (-10, 10), [-6.3, -2.62, 1.05])],
)
def test_typical_numbers_are_of_their_classes_with_the_decimals_of_the_borders(
    borders: tuple[float, ...], limits: tuple[float, float], numbers: list[float]
) -> None:
    attribute = Attribute("a", tuple("abc"[: len(borders) + 1]), "n", borders, borders, limits=limits)
    found = typical_numbers([np.nan], attribute)
    assert found.tolist() == pytest.approx(numbers) and attribute.bin(found).tolist() == list(range(len(numbers)))
    assert (found.dtype.kind == "i") == (num_decimals(attribute) == 0)


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_numbers_of_any_scale_are_searched_as_ages_are(scale: float) -> None:
    truth, evidence = audited_people(200)
    borders = (30 * scale, 60 * scale)
    task = Task((*MASK18.attributes[:2], Attribute("size", ("s", "m", "l"), "mm", borders, borders, limits=(0, 120 * scale + 1))))
    wrong, planted = plant_errors(truth, {"age": 5}, np.random.default_rng(0), OF_GROUP, MASK18)
    table = wrong.assign(mm=wrong["age"] * scale)
    part = Evidence.of(table, joint(evidence), evidence.numbers * scale, task).suspicions()["size"]
    found = set(np.array(part.persons)[np.argsort(-part.wrong)[:8]])
    assert len(found & set(planted["person"])) >= 4


def joint(evidence: Evidence) -> np.ndarray:
    """Return the class probabilities of independent attributes."""
    return np.einsum("na,nb,nc->nabc", *evidence.probs.values()).reshape(len(evidence.table), -1)
