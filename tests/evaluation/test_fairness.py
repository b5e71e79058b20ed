"""Scores of groups: those of fairlearn, with gaps that are tested against permutations of people."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_tasks import FOUR, MANY, ONE, STAGES, TASKS, TWO
from sklearn.metrics import accuracy_score, f1_score

from maskcls.core.competition import AGES, GENDERS, MASK18
from maskcls.core.task import Task
from maskcls.evaluation import fairness
from maskcls.evaluation.calibration import calibration_bins
from maskcls.evaluation.fairness import LARGER_IS_BETTER, group_scores

IMAGES = 5
GENDER_AGE = "gender × age"


def drawn(
    rng: np.random.Generator, people: int, skills: dict[str, float] | None = None, odd: bool = False
) -> dict[str, Any]:
    """Return labels, probabilities, coverage, people and a further column of drawn people.

    `skills` are added to the logit of the label of people with a value of the column; `odd` lets some people have
    images of several genders, ages and values.
    """
    count = people * IMAGES
    owner = np.repeat(np.arange(people), IMAGES)
    gender, age = rng.integers(0, 2, people)[owner], rng.choice(3, people, p=[0.5, 0.4, 0.1])[owner]
    values = np.array(["a", "b", "c"], object)[rng.choice(3, people, p=[0.5, 0.3, 0.2])[owner]]
    if odd:
        gender, values = (np.where(owner % 7 == 0, rng.permutation(one), one) for one in (gender, values))
    labels = MASK18.encode(rng.integers(0, 3, count), gender, age)
    logits = rng.normal(0, 1, (count, 18))
    boost = np.array([(skills or {}).get(value, 0.0) for value in values])
    logits[np.arange(count), labels] += 1.5 + boost + rng.normal(0, 1, people)[owner]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    covered = probs[np.arange(count), labels] > 0.1
    return {
        "labels": labels, "probs": probs.astype(np.float32), "covered": covered,
        "person_ids": [f"p{i}" for i in owner], "columns": {"value": values.tolist()},
    }  # fmt: skip


def own_classes_f1(truth: np.ndarray, preds: np.ndarray) -> float:
    """Return the mean F1 over the classes among the labels, by scikit-learn."""
    return float(f1_score(truth, preds, labels=np.unique(truth), average="macro", zero_division=0))


def error_of(truth: np.ndarray, preds: np.ndarray, sure: np.ndarray) -> float:
    import pandas as pd

    return calibration_bins(pd.DataFrame({"label": truth, "guess": preds, "sure": sure}))[1]


@pytest.mark.parametrize("odd", [False, True])
def test_scores_are_those_of_fairlearn(odd: bool) -> None:
    from fairlearn.metrics import MetricFrame

    data = drawn(np.random.default_rng(0), 1000, odd=odd)  # every group has 20 people
    labels, probs = data["labels"], data["probs"]
    sure = probs.max(1).astype(float)
    groups = {
        GENDER_AGE: [f"{GENDERS[g]} {AGES[a]}" for g, a in zip(labels // 3 % 2, labels % 3, strict=True)],
        "value": data["columns"]["value"],
    }
    found = {part["column"]: part for part in group_scores(**data, task=MASK18)}
    assert list(found) == list(groups)
    for column, names in groups.items():
        theirs = MetricFrame(
            metrics={"f1": own_classes_f1, "accuracy": accuracy_score, "calibration_error": error_of},
            y_true=labels, y_pred=probs.argmax(1), sensitive_features=np.array(names, str),
            sample_params={"calibration_error": {"sure": sure}},
        )  # fmt: skip
        rows = {row["value"]: row for row in found[column]["rows"]}
        assert sorted(rows) == sorted(theirs.by_group.index)
        for name in ("f1", "accuracy", "calibration_error"):
            for value, score in theirs.by_group[name].items():
                assert abs(rows[value][name] - score) < 1e-12, (column, value, name)
            gap = theirs.difference(method="between_groups")[name]
            assert abs(found[column]["gaps"][name]["gap"] - gap) < 1e-12
            worst = theirs.by_group[name].idxmin() if LARGER_IS_BETTER[name] else theirs.by_group[name].idxmax()
            assert found[column]["gaps"][name]["worst"] == worst


def test_people_and_images_are_counted_and_groups_have_the_tasks_order() -> None:
    data = drawn(np.random.default_rng(1), 60)
    first, second = group_scores(**data, task=MASK18)
    assert [row["value"] for row in first["rows"]] == [f"{g} {a}" for g in GENDERS for a in AGES]
    assert sum(row["people"] for row in second["rows"]) == 60 and sum(row["photos"] for row in second["rows"]) == 300
    for row in [*first["rows"], *second["rows"]]:
        covered = np.array(data["covered"])[[value == row["value"] for value in data["columns"]["value"]]]
        if row in second["rows"]:
            assert row["covered"] == pytest.approx(covered.mean())
        for name in LARGER_IS_BETTER:
            interval = row[f"{name}_interval"]
            assert (interval is None) == (row["people"] < 20)
            assert interval is None or 0 <= interval[0] <= row[name] <= interval[1] <= 1


def test_a_planted_gap_is_found_and_named_and_stays_the_same() -> None:
    data = drawn(np.random.default_rng(2), 400, {"c": -3.0})
    part = group_scores(**data, task=MASK18)[1]
    for name in ("f1", "accuracy", "covered"):
        gap = part["gaps"][name]
        assert gap["worst"] == "c" and gap["p"] < 0.01 and gap["permutations"] == 1999
    assert group_scores(**data, task=MASK18)[1] == part, "permutations are seeded"


def test_many_people_and_columns_have_enough_permutations_for_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_WORK", 1000)  # as if there were many more people
    data = drawn(np.random.default_rng(7), 200, {"c": -3.0})
    columns = {f"column{i}": data["columns"]["value"] for i in range(10)} | {"tiny": ["x"] * 950 + ["y"] * 50}
    parts = group_scores(**data | {"columns": columns}, task=MASK18)
    gaps = [gap for part in parts for gap in part["gaps"].values()]
    assert len(gaps) == 44 and parts[-1]["gaps"] == {}
    threshold = fairness.SIGNIFICANCE / len(gaps)
    assert all(1 / (1 + gap["permutations"]) < threshold for gap in gaps)
    assert parts[1]["gaps"]["accuracy"]["p"] < threshold


def test_a_gap_of_age_is_not_one_of_the_column() -> None:
    """People of value b are old, and the old are predicted badly: within an age, values do not differ."""
    rng = np.random.default_rng(3)
    data = drawn(rng, 400)
    age = data["labels"] % 3
    bad = (age == 2) & (rng.random(len(age)) < 0.8)
    data["probs"][bad] = np.roll(data["probs"][bad], 1, 1)
    owner = np.arange(len(age)) // IMAGES
    often = rng.random(400)[owner] < np.where(age == 2, 0.9, 0.3)
    data["columns"] = {"value": np.where(often, "b", "a").tolist()}
    ages, values = group_scores(**data, task=MASK18)
    assert ages["gaps"]["accuracy"]["worst"].endswith(AGES[2]) and ages["gaps"]["accuracy"]["p"] < 0.01
    assert values["gaps"]["accuracy"]["worst"] == "b" and values["gaps"]["accuracy"]["gap"] > 0.05
    assert values["gaps"]["accuracy"]["p"] > 0.05


@pytest.mark.slow
def test_without_a_difference_p_is_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 data sets of people who differ by chance alone: about 5 % have p ≤ 0.05, and 20 % p ≤ 0.2."""
    monkeypatch.setattr(fairness, "NUM_PERMUTATIONS", 199)
    rng = np.random.default_rng(4)
    values = [group_scores(**drawn(rng, 100), task=MASK18)[1]["gaps"]["accuracy"]["p"] for _ in range(150)]
    shares = np.array([np.mean(np.array(values) <= level) for level in (0.05, 0.2, 0.5)])
    assert (np.abs(shares - [0.05, 0.2, 0.5]) < 3 * np.sqrt([0.05 * 0.95 / 150, 0.16 / 150, 0.25 / 150])).all(), shares


def test_small_groups_are_shown_but_not_compared() -> None:
    data = drawn(np.random.default_rng(5), 30)
    data["columns"] = {"value": ["x" if i < 19 * IMAGES else "y" for i in range(len(data["labels"]))]}
    part = group_scores(**data, task=MASK18)[1]
    assert [row["people"] for row in part["rows"]] == [19, 11] and part["gaps"] == {}


def test_unknown_values_are_counted_and_left_out() -> None:
    data = drawn(np.random.default_rng(6), 60)
    values = data["columns"]["value"]
    data["columns"] = {"value": ["" if i < 50 else value for i, value in enumerate(values)], "empty": [""] * len(values)}
    first, second = group_scores(**data, task=MASK18)
    assert first["column"] == GENDER_AGE and second["column"] == "value"
    assert second["unknown"] == 50 and sum(row["photos"] for row in second["rows"]) == 250


def drawn_of(task: Task, people: int, seed: int = 0) -> dict[str, Any]:
    """Return what `group_scores` needs for drawn people of any task, whose attributes after the first are their own."""
    rng, size = np.random.default_rng(seed), task.num_classes
    owner, others = np.repeat(np.arange(people), IMAGES), size // task.shape[0]
    labels = rng.integers(0, task.shape[0], len(owner)) * others + rng.integers(0, others, people)[owner]
    probs = rng.dirichlet(np.ones(size), len(owner)) + task.one_hot(labels) * rng.random((len(owner), 1))
    probs /= probs.sum(1, keepdims=True)
    return {
        "labels": labels, "probs": probs.astype(np.float32), "covered": rng.random(len(owner)) < 0.9,
        "person_ids": [f"p{i}" for i in owner], "columns": {"value": [("a", "b")[i % 2] for i in owner]}, "task": task,
    }  # fmt: skip


@pytest.mark.parametrize("task", [TWO, STAGES, FOUR], ids=["two", "stages", "four"])
def test_groups_are_the_combinations_of_the_attributes_that_people_have_one_value_of(task: Task) -> None:
    data = drawn_of(task, 2400)
    first, second = group_scores(**data)
    assert (first["column"], second["column"]) == (" × ".join(task.names[1:]), "value")
    labels, preds = task.decode(data["labels"]), task.decode(data["probs"].argmax(1))
    lists = list(task.values.values())
    for row in first["rows"]:
        inside = np.array([" ".join(values[i] for values, i in zip(lists[1:], own, strict=True)) == row["value"]
                           for own in zip(*labels[1:], strict=True)])  # fmt: skip
        same = np.all([a == b for a, b in zip(labels[1:], preds[1:], strict=True)], axis=0)
        truth, guess = labels[0][inside], np.where(same, preds[0], task.shape[0])[inside]
        assert row["photos"] == inside.sum() and row["f1"] == pytest.approx(own_classes_f1(truth, guess))
    names = [row["value"] for row in first["rows"]]
    combinations = [" ".join(values) for values in itertools.product(*lists[1:])]
    assert names == [name for name in combinations if name in names]
    assert set(first["gaps"]) == set(LARGER_IS_BETTER)


@pytest.mark.parametrize("task", [ONE, MANY], ids=["one", "many"])
def test_one_attribute_has_groups_of_further_columns_alone(task: Task) -> None:
    data = drawn_of(task, 60)
    assert [part["column"] for part in group_scores(**data)] == ["value"]
    assert group_scores(**data | {"columns": {}}) == []


def test_images_without_a_class_are_left_out() -> None:
    for task in TASKS.values():
        data = drawn_of(task, 50)
        kept = np.arange(len(data["labels"])) % 3 > 0
        less = {key: data[key][kept] for key in ("labels", "probs", "covered")}
        less |= {"person_ids": np.array(data["person_ids"])[kept].tolist(), "task": task}
        less["columns"] = {"value": np.array(data["columns"]["value"])[kept].tolist()}
        data["labels"] = np.where(kept, data["labels"], -1)
        assert group_scores(**data) == group_scores(**less)


def test_permutations_in_pieces_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = drawn_of(STAGES, 100)
    whole = group_scores(**data)
    monkeypatch.setattr(fairness, "CHUNK", 2000)
    assert group_scores(**data) == whole


def test_the_task_says_which_attributes_are_of_people() -> None:
    data = drawn_of(TWO, 100)
    colour, glasses = TWO.attributes
    for first, second, column in (("group", "photo", "colour"), ("photo", "group", "glasses"), ("group", "group", "glasses"),
                                  ("photo", "photo", None)):  # fmt: skip
        task = Task((replace(colour, per=first), replace(glasses, per=second)))
        columns = [part["column"] for part in group_scores(**data | {"task": task})]
        assert columns == [*([column] if column else []), "value"]


def test_images_of_one_person_each_are_grouped_by_all_attributes_but_the_first() -> None:
    data = drawn_of(FOUR, 50)
    data["person_ids"] = [f"p{i}" for i in range(len(data["labels"]))]
    data["columns"] = {}
    assert [part["column"] for part in group_scores(**data)] == ["part1 × part2 × part3"]
