"""Label work: patches by target value, a border that moves for training alone, soft borders, dropped ages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from maskcls import rows
from maskcls.cli import compose
from maskcls.config import checked
from maskcls.labels import band, encode
from maskcls.parts import labels

RULES = pd.read_csv(labels.PATCHES, dtype=str, keep_default_na=False)
SHOTS = [*[(f"mask{i}", 0) for i in range(1, 6)], ("incorrect_mask", 1), ("normal", 2)]


def table(people: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """Return the table of some people, {folder: (gender, age)}, seven photos each."""
    made = [
        {"id": f"train/images/{person}/{shot}.jpg", "path": "", "person": person, "mask": mask, "gender": gender, "age": float(age),
         "label": int(encode(mask, gender, band(age))), "part": "train"}
        for person, (gender, age) in people.items() for shot, mask in SHOTS
    ]  # fmt: skip
    return pd.DataFrame(made)


def competition() -> pd.DataFrame:
    """Return a table with all the people whom the patches speak of, as the competition labels them."""
    people = {}
    for person, part in RULES.groupby("person"):
        old = dict(zip(part["field"], part["old"], strict=True))
        gender = ("male", "female").index(old.get("gender", "male"))
        people[f"{person}_{('male', 'female')[gender]}_Asian_45"] = (gender, 45)
    return table(people)


def mended(given: pd.DataFrame, tier: str) -> tuple[pd.DataFrame, str]:
    """Return a table after a tier of patches, and what was told."""
    told: list[str] = []
    return labels.plain(given, told.append, patches=tier), told[0]


def test_the_core_patches_mend_what_they_name() -> None:
    before = competition()
    after, told = mended(before, "core")
    assert told.startswith("labels: 62 photos were mended by the 14 patches of tier core")  # 8 people × 7 and 3 × 2 photos
    person = after["person"].str.partition("_")[0]
    assert (after.loc[person.isin([f"00{n}" for n in range(6359, 6365)]), "gender"] == 0).all()
    assert (after.loc[person.isin(["001498-1", "004432"]), "gender"] == 1).all()
    swapped = after[person == "000020"].set_index(after[person == "000020"]["id"].str.rpartition("/")[2])
    assert swapped.loc["normal.jpg", "mask"] == 1 and swapped.loc["incorrect_mask.jpg", "mask"] == 2
    assert (after["label"] == encode(after["mask"], after["gender"], band(after["age"]))).all()
    untouched = ~person.isin(RULES.loc[RULES["tier"] == "core", "person"])
    columns = ["mask", "gender", "age", "label"]
    pd.testing.assert_frame_equal(after.loc[untouched, columns], before.loc[untouched, columns])


@pytest.mark.parametrize("tier", ["core", "extended"])
def test_patches_applied_twice_change_nothing_more(tier: str) -> None:
    once, _ = mended(competition(), tier)
    twice, told = mended(once, tier)
    columns = ["mask", "gender", "age", "label", "trained"]
    pd.testing.assert_frame_equal(twice[columns], once[columns])
    assert tier == "extended" or told.startswith("labels: 0 photos")


def test_a_tree_of_other_people_is_left_alone_and_says_so() -> None:
    others = table({"000020_female_Asian_50": (1, 50), "006359_female_Asian_18": (1, 18), "004432_male_Asian_43": (0, 43)})
    after, told = mended(others, "extended")
    assert told.startswith("labels: 0 photos")
    pd.testing.assert_frame_equal(after[list(others)], others)


def test_the_border_moves_for_training_and_never_for_scoring() -> None:
    given = table({"a": (0, 57), "b": (0, 58), "c": (0, 60), "d": (1, 29)})
    after = labels.plain(given, print, border=58)
    ages = after[labels.AGE_COLUMNS].to_numpy()[::7]
    assert ages.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    pd.testing.assert_series_equal(after["label"], given["label"])


def test_soft_borders_fade_linearly_and_stay_distributions() -> None:
    years = np.arange(18, 80)
    shares = labels.shares(years.astype(float), (30, 60), 4.0)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert shares[years == 30].tolist() == [[0.5, 0.5, 0]] and shares[years == 60].tolist() == [[0, 0.5, 0.5]]
    assert shares[years == 28].tolist() == [[1, 0, 0]] and shares[years == 32].tolist() == [[0, 1, 0]]
    np.testing.assert_allclose(shares[years == 59], [[0, 0.75, 0.25]])


def test_dropped_ages_are_scored_and_not_trained_on(tiny: list[str], tmp_path: Path) -> None:
    cfg = checked(compose(*tiny, "labels.drop=[[27,29],[50,70]]"))
    made = rows.assemble(cfg, lambda note: None)
    dropped = made["age"].between(27, 29) | made["age"].between(50, 70)
    train = made["part"] == "train"
    assert (dropped & train).any() and made.loc[train, "scored"].all()
    for k in (0, 1):
        assert not dropped.iloc[rows.training_rows(made, k)].any()
        assert set(rows.scored_rows(made, k)) == set(np.flatnonzero(train & (made["fold"] == k)))


def test_what_is_trained_towards_is_mask_and_gender_times_the_ages() -> None:
    made = labels.plain(table({"a": (1, 59)}), print, soft=4.0)
    targets = rows.targets(made)
    for row, target in zip(made.itertuples(), targets, strict=True):
        expected = np.zeros((3, 2, 3))
        expected[row.mask, row.gender] = [0, 0.75, 0.25]
        np.testing.assert_allclose(target, expected.ravel())
