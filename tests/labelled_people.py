"""Tables of labelled people, for the tests of labels and of the image table."""

from __future__ import annotations

import pandas as pd

from maskcls.core import label_patches
from maskcls.core.competition import MASK18

PATCH_RULES = pd.read_csv(label_patches.PATCHES, dtype=str, keep_default_na=False)
SHOTS = [*[(f"mask{i}", 0) for i in range(1, 6)], ("incorrect_mask", 1), ("normal", 2)]


def table(people: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """Return the table of some people, {folder: (gender, age)}, seven photos each."""
    made = [
        {"id": f"train/images/{person}/{shot}.jpg", "path": "", "person": person, "mask": mask, "gender": gender, "age": float(age),
         "label": int(MASK18.encode(mask, gender, MASK18["age"].bin(age))), "part": "train"}
        for person, (gender, age) in people.items() for shot, mask in SHOTS
    ]  # fmt: skip
    return pd.DataFrame(made)


def competition() -> pd.DataFrame:
    """Return a table with all the people whom the patches speak of, as the competition labels them."""
    people = {}
    for person, part in PATCH_RULES.groupby("person"):
        old = dict(zip(part["field"], part["old"], strict=True))
        gender = ("male", "female").index(old.get("gender", "male"))
        people[f"{person}_{('male', 'female')[gender]}_Asian_45"] = (gender, 45)
    return table(people)
