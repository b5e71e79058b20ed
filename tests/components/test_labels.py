"""Training labels: patches, the border between age classes, soft age classes, dropped ages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_people import PATCH_RULES, competition, table

from maskcls.components import labels
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core import table as table_module
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, DataError
from maskcls.core.table import scoring_columns, train_indices, train_labels, val_indices
from maskcls.data.assemble import assemble_table
from maskcls.engine.experiment import Fold
from maskcls.engine.training_loop import build_train_loader as training_batches


def mended(given: pd.DataFrame, tier: str) -> tuple[pd.DataFrame, str]:
    """Return a table after a tier of patches, and what was told."""
    told: list[str] = []
    return labels.plain(given, told.append, patches=tier, task=MASK18), told[0]


def test_the_core_patches_mend_what_they_name() -> None:
    before = competition()
    after, told = mended(before, "core")
    assert told.startswith(
        "labels: 62 images were changed by the 14 patches of tier core"
    )  # 8 people × 7 and 3 × 2 photos
    person = after["person"].str.partition("_")[0]
    assert (after.loc[person.isin([f"00{n}" for n in range(6359, 6365)]), "gender"] == 0).all()
    assert (after.loc[person.isin(["001498-1", "004432"]), "gender"] == 1).all()
    swapped = after[person == "000020"].set_index(after[person == "000020"]["id"].str.rpartition("/")[2])
    assert swapped.loc["normal.jpg", "mask"] == 1 and swapped.loc["incorrect_mask.jpg", "mask"] == 2
    assert (after["label"] == MASK18.encode(after["mask"], after["gender"], MASK18["age"].bin(after["age"]))).all()
    untouched = ~person.isin(PATCH_RULES.loc[PATCH_RULES["tier"] == "core", "person"])
    columns = ["mask", "gender", "age", "label"]
    pd.testing.assert_frame_equal(after.loc[untouched, columns], before.loc[untouched, columns])


@pytest.mark.parametrize("tier", ["core", "extended"])
def test_patches_applied_twice_change_nothing_more(tier: str) -> None:
    once, _ = mended(competition(), tier)
    twice, told = mended(once, tier)
    columns = ["mask", "gender", "age", "label", "trained"]
    pd.testing.assert_frame_equal(twice[columns], once[columns])
    assert tier == "extended" or told.startswith("labels: 0 images")


def test_a_tree_of_other_people_is_left_alone_and_says_so() -> None:
    others = table(
        {"000020_female_Asian_50": (1, 50), "006359_female_Asian_18": (1, 18), "004432_male_Asian_43": (0, 43)}
    )
    after, told = mended(others, "extended")
    assert told.startswith("labels: 0 images")
    pd.testing.assert_frame_equal(after[list(others)], others)


def test_the_border_moves_for_training_and_never_for_scoring() -> None:
    given = table({"a": (0, 57), "b": (0, 58), "c": (0, 60), "d": (1, 29)})
    after = labels.plain(given, print, border=58, task=MASK18)
    ages = after[MASK18["age"].soft_columns].to_numpy()[::7]
    assert ages.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    pd.testing.assert_series_equal(after["label"], given["label"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 110), min_size=1, max_size=40), st.integers(31, 110), st.sampled_from([0.0, 1.0]))
def test_no_training_border_moves_what_is_scored(ages: list[int], border: int, soft: float) -> None:
    given = table({f"p{i}": (i % 2, age) for i, age in enumerate(ages)})
    after = labels.plain(given, lambda note: None, border=border, soft=soft, task=MASK18)
    pd.testing.assert_frame_equal(after[list(given)], given)
    assert (after["age_class"] == MASK18["age"].bin(given["age"], (30, border))).all(), "and training's class moves with it"


@pytest.mark.parametrize("border", [31, 45, 58, 75])
def test_a_run_s_folds_and_scored_labels_are_the_same_with_any_border(border: int, tiny: list[str]) -> None:
    usual, moved = (
        assemble_table(validate(compose(*tiny, *words)), lambda note: None)
        for words in ((), (f"labels.border={border}",))
    )
    pd.testing.assert_frame_equal(moved[scoring_columns(MASK18)], usual[scoring_columns(MASK18)])
    for k in (0, 1):
        assert np.array_equal(val_indices(moved, k), val_indices(usual, k))
    photos = np.zeros((len(usual), 4, 4, 3), np.uint8)
    cfg = validate(compose(*tiny))
    one, two = (Fold.of(made, photos, 0, cfg.hardware.build(), cfg.head.build()) for made in (usual, moved))
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.targets, two.targets) == (
        not usual["age"].between(min(border, 60), max(border, 60) - 1).any()
    )


def soft_ages(ages: Sequence[float], border: int = 60, part: str = "train", soft: float = 4.0) -> np.ndarray:
    """Return the distribution over age classes of a person of each age, (N, 3)."""
    given = table({f"p{i}": (0, 40) for i in range(len(ages))}).iloc[::7].assign(age=ages, part=part)
    given["label"] = MASK18.encode(given["mask"], given["gender"], MASK18["age"].bin(given["age"]))
    return labels.plain(given, lambda note: None, border=border, soft=soft, task=MASK18)[MASK18["age"].soft_columns].to_numpy()


@pytest.mark.parametrize(
    ("border", "age", "expected"),
    [(60, 29, [0.625, 0.375, 0]), (60, 29.5, [0.5, 0.5, 0]), (60, 30, [0.375, 0.625, 0]), (60, 57, [0, 1, 0]),
     (60, 58, [0, 0.875, 0.125]), (60, 59, [0, 0.625, 0.375]), (60, 59.5, [0, 0.5, 0.5]), (60, 60, [0, 0.375, 0.625]),
     (60, 61, [0, 0.125, 0.875]), (60, 62, [0, 0, 1]),
     (58, 29, [0.625, 0.375, 0]), (58, 29.5, [0.5, 0.5, 0]), (58, 30, [0.375, 0.625, 0]), (58, 57, [0, 0.625, 0.375]),
     (58, 58, [0, 0.375, 0.625]), (58, 59, [0, 0.125, 0.875]), (58, 59.5, [0, 0, 1]), (58, 60, [0, 0, 1])],
)  # fmt: skip
def test_ages_fade_around_the_border_between_two_whole_years(border: int, age: float, expected: list[float]) -> None:
    np.testing.assert_allclose(soft_ages([age, 75], border)[0], expected, atol=1e-6)


@pytest.mark.parametrize(("border", "oldest"), [(60, 60), (58, 60), (58, 58), (65, 65)])
@pytest.mark.parametrize("soft", [0.5, 4.0, 20.0])
def test_an_oldest_age_that_begins_the_oldest_class_stays_wholly_in_it(border: int, oldest: int, soft: float) -> None:
    ages = soft_ages([oldest, oldest, border - 1, 20], border, soft=soft)
    assert ages[:2].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert soft <= 1 or 0 < ages[2, 2] < 0.5, "the age below the border fades as ever"


def test_an_oldest_age_below_the_training_border_fades() -> None:
    assert soft_ages([60, 20], border=62)[0].tolist() == [0, 0.875, 0.125]


def test_the_oldest_of_outside_photos_does_not_say_how_old_the_data_s_own_people_are() -> None:
    own, outside = table({"a": (0, 60), "b": (1, 59)}), table({"c": (0, 60), "d": (1, 83)}).assign(part="extra")
    notes: list[str] = []
    made = labels.plain(pd.concat([own, outside], ignore_index=True), notes.append, soft=4.0, task=MASK18)
    oldest = made.groupby("person")["age2"].first()
    assert oldest.to_dict() == {"a": 1.0, "b": 0.375, "c": 0.625, "d": 1.0}
    assert notes == ["labels: 60 is the maximum age, so 7 images of that age count as 60 or older"]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 110), min_size=1, max_size=30), st.integers(31, 90), st.sampled_from([0.0, 1e-9, 0.03, 0.3, 1.0]),
    st.sampled_from(["train", "extra"]),
)  # fmt: skip
def test_the_training_class_is_the_largest_share_of_each_whole_age(
    ages: list[int], border: int, width: float, part: str
) -> None:
    made = soft_ages([float(age) for age in ages], border, part, width * (border - 30))
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-6)
    assert made.argmax(1).tolist() == MASK18["age"].bin(ages, (30, border)).tolist()


@pytest.mark.parametrize("words", [(), ("labels.border=58",), ("extra=folder",)])
def test_the_sampler_draws_the_oldest_as_often_however_soft_their_ages(
    words: tuple[str, ...], tiny: list[str], people: Path, tmp_path: Path
) -> None:
    if words == ("extra=folder",):  # outside faces far above 60: theirs alone fade
        for i, photo in enumerate(sorted(people.glob("train/images/*/normal.*"))[:4]):
            (tmp_path / f"{60 + 5 * i}_{i % 2}_{i}{photo.suffix}").write_bytes(photo.read_bytes() + b"\0" * (i + 1))
        words = ("extra=folder", f"extra.root={tmp_path}")
    shares = []
    for soft in (0, 4, 20):
        cfg = validate(compose(*tiny, *words, "sampler=weighted", f"labels.soft={soft}"))
        made = assemble_table(cfg, lambda note: None)
        fold = Fold.of(made, np.zeros((len(made), 4, 4, 3), np.uint8), 0, cfg.hardware.build(), cfg.head.build())
        elsewhere = np.roll(fold.targets, 1, axis=1)  # what photos are trained towards says nothing of how often
        batches, _ = training_batches(cfg, replace(fold, targets=elsewhere), cfg.hardware.build())
        drawn = [row for batches.epoch in range(20) for batch in batches for row, _ in batch]
        shares.append(np.mean(train_labels(made, task=MASK18)[drawn] % 3 == 2))
    assert shares[0] > 0.1 and shares[1:] == [shares[0]] * 2


def test_dropped_ages_are_scored_and_not_trained_on(tiny: list[str], tmp_path: Path) -> None:
    cfg = validate(compose(*tiny, "labels.drop=[[27,29],[50,70]]"))
    made = assemble_table(cfg, lambda note: None)
    dropped = made["age"].between(27, 29) | made["age"].between(50, 70)
    train = made["part"] == "train"
    assert (dropped & train).any() and made.loc[train, "scored"].all()
    for k in (0, 1):
        assert not dropped.iloc[train_indices(made, k)].any()
        assert set(val_indices(made, k)) == set(np.flatnonzero(train & (made["fold"] == k)))


def test_what_is_trained_towards_is_mask_and_gender_times_the_ages() -> None:
    made = labels.plain(table({"a": (1, 59)}), print, soft=4.0, task=MASK18)
    targets = table_module.train_targets(made, task=MASK18)
    for row, target in zip(made.itertuples(), targets, strict=True):
        expected = np.zeros((3, 2, 3))
        expected[row.mask, row.gender] = [0, 0.625, 0.375]
        np.testing.assert_allclose(target, expected.ravel())


def write_patches(path: Path, *lines: str) -> str:
    """Write a list of label errors and return its path."""
    path.write_text("\n".join(["tier,person,photo,field,old,new,source,probability", *lines]) + "\n")
    return str(path)


def test_a_file_of_patches_mends_whom_it_names_by_short_and_whole_names(tmp_path: Path) -> None:
    given = table({"000001_male_Asian_20": (0, 20), "000002_female_Asian_40": (1, 40), "b": (0, 70)})
    file = write_patches(
        tmp_path / "issues.csv", "extended,000001,,gender,male,female,audit,0.9", "extended,b,,age,>=60,25,audit,0.8",
        "extended,000002_female_Asian_40,normal,mask,none,incorrect,audit,0.7", "extended,000002,,gender,male,female,audit,0.6",
        "extended,9,,gender,male,female,audit,0.5",
    )  # fmt: skip
    after, told = mended(given, file)
    assert told == f"labels: 15 images were changed by the 5 patches of {file}. This data lacks 9"
    changed = after[(after["label"] != given["label"])]
    assert changed["person"].value_counts().to_dict() == {"000001_male_Asian_20": 7, "b": 7, "000002_female_Asian_40": 1}
    assert after.loc[after["person"] == "b", "age"].eq(25).all() and set(after["label"][:7]) == {3, 9, 15}


def test_ages_without_years_are_patched_by_their_class(tmp_path: Path) -> None:
    given = table({"a": (0, 40), "b": (0, 70), "c": (1, 20), "d": (1, 25)}).assign(age=np.nan)
    file = write_patches(
        tmp_path / "issues.csv", "extended,a,,age,30-59,24,audit,1", "extended,b,,age,>=60,45,audit,1", "extended,c,,age,<30,66,audit,1",
        "extended,d,,age,>=60,45,audit,1",
    )  # fmt: skip
    after, told = mended(given, file)
    assert after.groupby("person")["label"].first().mod(3).tolist() == [0, 1, 2, 0]
    assert told.startswith("labels: 21 images")


def test_a_short_name_of_several_people_or_images_is_an_error(tmp_path: Path) -> None:
    given = table({"anna_smith": (1, 20), "anna_jones": (1, 40)})
    file = write_patches(tmp_path / "issues.csv", "extended,anna,,gender,female,male,audit,1")
    with pytest.raises(DataError, match=r"person 'anna' is anna_jones, anna_smith\. Write the whole name"):
        mended(given, file)
    twin = given.iloc[[0]].assign(id="more/" + given["id"].iloc[0])
    stem = Path(given["id"].iloc[0]).stem
    file = write_patches(tmp_path / "issues.csv", f"extended,anna_smith,{stem},gender,female,male,audit,1")
    with pytest.raises(DataError, match=rf"photo '{stem}' of person 'anna_smith' is more/.*, train/.*\. Write the image's id"):
        mended(pd.concat([given, twin], ignore_index=True), file)


def test_refused_rows_of_a_file_are_not_applied(tmp_path: Path) -> None:
    given = table({"000001_male_Asian_20": (0, 20), "000002_male_Asian_40": (0, 40)})
    (tmp_path / "d.csv").write_text(
        "person,photo,field,old,new,decision\n000001,,gender,male,female,refused\n000002,,gender,male,female,accepted\n"
    )
    after, _ = mended(given, str(tmp_path / "d.csv"))
    assert after.groupby("person")["gender"].first().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("core,1,,gendr,male,female,x,1", "issues.csv line 2: unknown field 'gendr', did you mean 'gender'?"),
        ("core,1,,gender,male,femal,x,1", "issues.csv line 2: unknown value of new 'femal', did you mean 'female'?"),
        ("core,1,,age,<30,old,x,1", "issues.csv line 2: new must be a number of years from 0 to 120, got 'old'"),
        ("core,1,,age,<30,200,x,1", "issues.csv line 2: new must be a number of years from 0 to 120, got '200'"),
        ("core,,,gender,male,female,x,1", "issues.csv line 2: no person"),
        ("core,1,,gender,male", "issues.csv line 2: expected 8 cells, got 5"),
    ],
)
def test_a_wrong_row_of_a_file_is_named_before_any_work(line: str, message: str, tmp_path: Path) -> None:
    file = write_patches(tmp_path / "issues.csv", line)
    with pytest.raises(ConfigError) as error:
        validate(compose("name=t", f"labels.patches={file}"))
    assert message in str(error.value) and str(error.value).startswith("labels.patches (plain): ")


@pytest.mark.parametrize(
    ("value", "message"),
    [("cora", "unknown value 'cora', did you mean 'core'?"), ("missing.csv", "missing.csv does not exist")],
)
def test_an_unknown_tier_or_file_is_an_error(value: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        validate(compose("name=t", f"labels.patches={value}"))
    assert message in str(error.value)
