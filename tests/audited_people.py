"""Made-up people and groups with out-of-fold predictions, for the tests of the audit: images of a person resemble each other."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from maskcls.core.competition import MASK18
from maskcls.core.task import Task
from maskcls.evaluation.label_issues import Evidence

OF_GROUP = ("gender", "age")
MASKS = np.array([0] * 5 + [1, 2])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of logits (N, K)."""
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def audited_people(num: int, seed: int = 0, has_years: bool = True) -> tuple[pd.DataFrame, Evidence]:
    """Return the true labels of people with seven images each, and the evidence of a network that is right on most.

    A network's opinion of a person is mostly the same in all images; a rare opinion is wrong and sure.
    """
    rng = np.random.default_rng(seed)
    gender, age = rng.integers(0, 2, num), rng.integers(16, 80, num)
    person = np.repeat(np.arange(num), 7)
    mask = np.tile(MASKS, num)
    view = 3 * (2 * gender - 1) + rng.normal(0, 1.6, num)  # logit of being female
    genders = view[person] + rng.normal(0, 1, len(person))
    expected = (age + rng.standard_t(4, num) * 4)[person] + rng.normal(0, 2, len(person))
    ages = softmax(-((expected[:, None] - np.array([22, 45, 68])) ** 2) / 90)
    masks = softmax(7 * np.eye(3)[mask] + rng.normal(0, 1, (len(person), 3)))
    both = softmax(np.column_stack([-genders / 2, genders / 2]))
    probs = np.einsum("nm,ng,na->nmga", masks, both, ages).reshape(len(person), 18)
    names = [f"{i:06d}_{('male', 'female')[gender[i]]}_Asian_{age[i]}" for i in range(num)]
    stems = [*(f"mask{i}" for i in range(1, 6)), "incorrect_mask", "normal"]
    table = pd.DataFrame({
        "id": [f"train/images/{names[i]}/{stems[k % 7]}.jpg" for k, i in enumerate(person)],
        "person": [names[i] for i in person], "mask": mask, "gender": gender[person], "age": age[person].astype(float),
    })  # fmt: skip
    table["label"] = MASK18.encode(table["mask"], table["gender"], MASK18["age"].bin(table["age"]))
    years = np.column_stack([expected.clip(10, 100), np.full(len(person), 6.0)])
    return table, Evidence.of(table, probs, years if has_years else None, MASK18)


def audited_groups(task: Task, num: int, of_images: Collection[str] = (), seed: int = 0) -> tuple[pd.DataFrame, Evidence]:
    """Return the true labels of groups of five images for any task, and the evidence of a network that is mostly right.

    Attributes `of_images` differ between the images of a group, the others belong to the group.
    """
    rng = np.random.default_rng(seed)
    group, probs, indices = np.repeat(np.arange(num), 5), np.ones((5 * num, 1)), []
    table = pd.DataFrame({"id": [f"{i}.png" for i in range(5 * num)], "person": [f"g{i}" for i in group]})
    for attribute in task:
        shape = (5 * num,) if attribute.name in of_images else num
        if attribute.is_number:
            numbers = attribute.borders[0] + rng.integers(-8, 9, shape)
            table[attribute.source] = (numbers if attribute.name in of_images else numbers[group]).astype(float)
            index = attribute.bin(table[attribute.source])
        else:
            value = rng.integers(0, len(attribute.values), shape)
            index = table[attribute.source] = value if attribute.name in of_images else value[group]
        own = softmax(6 * np.eye(len(attribute.values))[index] + rng.normal(0, 1, (5 * num, len(attribute.values))))
        probs, indices = np.einsum("na,nb->nab", probs, own).reshape(5 * num, -1), [*indices, index]
    table["label"] = task.encode(*indices)
    return table, Evidence.of(table, probs, None, task)
