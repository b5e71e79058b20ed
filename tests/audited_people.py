"""Made-up people with out-of-fold predictions, for the tests of the audit: images of a person resemble each other."""

from __future__ import annotations

import numpy as np
import pandas as pd

from maskcls.core.task import bin_age, encode
from maskcls.evaluation.label_issues import Evidence

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
    table["label"] = encode(table["mask"], table["gender"], bin_age(table["age"]))
    years = np.column_stack([expected.clip(10, 100), np.full(len(person), 6.0)])
    return table, Evidence.of(table, probs, years if has_years else None)
