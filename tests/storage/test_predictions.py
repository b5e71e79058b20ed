"""Predictions as files, with and without ages; the mean of their columns is their mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskcls.core.errors import MaskclsError
from maskcls.storage.predictions import PROB_COLUMNS, YEARS_COLUMNS, FoldPredictions, Predictions, check_probs
from maskcls.system.safe_reading import FormatError

IDS = np.array(["a/1.jpg", "b/2.jpg", "c/3.jpg"])


def some(seed: int, has_ages: bool) -> Predictions:
    random = np.random.default_rng(seed)
    ages = np.stack([random.uniform(10, 99, 3), random.uniform(0, 20, 3)], 1).astype(np.float32)
    return Predictions(IDS, random.dirichlet(np.ones(18), 3).astype(np.float32), ages=ages if has_ages else None)


@pytest.mark.parametrize("has_ages", [False, True])
def test_files_keep_what_is_written(has_ages: bool, tmp_path: Path) -> None:
    one = some(0, has_ages)
    one.write(tmp_path / "oof.csv")
    FoldPredictions(one, some(1, has_ages), 2, [1, 2]).write(tmp_path / "oof.npz")
    header = (tmp_path / "oof.csv").read_text().splitlines()[0].split(",")
    assert header == ["id", *PROB_COLUMNS, *(YEARS_COLUMNS if has_ages else [])]
    with np.load(tmp_path / "oof.npz") as arrays:
        assert {"ages", "eval_ages"} & {*arrays} == ({"ages", "eval_ages"} if has_ages else set())
    for again in (Predictions.read(tmp_path / "oof.csv"), FoldPredictions.read(tmp_path / "oof.npz").val):
        assert again.ids.tolist() == IDS.tolist()
        np.testing.assert_allclose(again.probs, one.probs, rtol=1e-6)
        if one.ages is None or again.ages is None:
            assert again.ages is one.ages is None
        else:
            np.testing.assert_allclose(again.ages, one.ages, rtol=1e-6)


def test_the_mean_of_columns_is_the_mixture() -> None:
    members = [some(seed, True) for seed in range(3)]
    mixed = Predictions.of_columns(IDS, np.mean([one.columns for one in members], axis=0))
    random = np.random.default_rng(9)
    assert mixed.ages is not None
    for i in range(3):  # by sampling each member equally often
        pairs = [one.ages[i] for one in members if one.ages is not None]
        draws = np.concatenate([random.normal(age, sd, 400_000) for age, sd in pairs])
        np.testing.assert_allclose(mixed.ages[i], [draws.mean(), draws.std()], rtol=0.01)
    np.testing.assert_allclose(mixed.probs, np.mean([one.probs for one in members], axis=0), rtol=1e-6)


def test_columns_and_back_change_nothing() -> None:
    for has_ages in (False, True):
        one = some(4, has_ages)
        again = Predictions.of_columns(IDS, one.columns)
        assert np.array_equal(again.probs, one.probs)
        if one.ages is not None and again.ages is not None:
            np.testing.assert_allclose(again.ages, one.ages, rtol=1e-5)
    sharp = Predictions(IDS, some(0, False).probs, ages=np.array([[20, 0], [50, 0], [99, 0]], np.float32))
    found = Predictions.of_columns(IDS, sharp.columns.astype(np.float32)).ages
    assert found is not None and found[:, 1].max() == 0


def test_predictions_are_put_in_the_order_of_ids() -> None:
    one = some(5, True)
    again = one.reorder(IDS[::-1].tolist())
    assert again.ids.tolist() == IDS[::-1].tolist() and np.array_equal(again.probs, one.probs[::-1])
    assert one.ages is not None and again.ages is not None and np.array_equal(again.ages, one.ages[::-1])


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("column", [0, 1])
def test_what_is_not_an_age_is_refused(value: float, column: int, tmp_path: Path) -> None:
    bad = some(6, True)
    assert bad.ages is not None
    bad.ages[1, column] = value
    bad.write(tmp_path / "oof.csv")
    FoldPredictions(some(0, True), bad, 1, [1]).write(tmp_path / "oof.npz")
    for read in (lambda: Predictions.read(tmp_path / "oof.csv"), lambda: FoldPredictions.read(tmp_path / "oof.npz")):
        with pytest.raises(MaskclsError, match=r"row 2: expected an age and its standard deviation in years, got |could not convert string to float"):
            read()


@pytest.mark.parametrize("ages", [np.zeros((3, 3), np.float32), np.zeros((2, 2), np.float32), np.zeros((3, 2))])
def test_ages_of_another_shape_or_type_are_refused(ages: np.ndarray, tmp_path: Path) -> None:
    one = Predictions(IDS, some(0, False).probs, ages=ages)
    FoldPredictions(one, some(0, True), 1, [1]).write(tmp_path / "oof.npz")
    with pytest.raises(MaskclsError, match=r"ages: expected float32 of 3 × 2, got float(32|64) of [23] × [23]"):
        FoldPredictions.read(tmp_path / "oof.npz")


@pytest.mark.parametrize(("changed", "message"), [
    ({"eval_probs": None}, "expected an array eval_probs, got ids, probs, eval_ids, epochs, epoch"),
    ({"ids": np.arange(3)}, "ids: expected a list of text, got int64 of 3"),
    ({"probs": np.zeros((3, 18))}, "probs: expected float32 of 3 × 18, got float64 of 3 × 18"),
    ({"probs": np.zeros((3, 18), ">f4")}, "probs: expected float32 of 3 × 18, got >f4 of 3 × 18"),
    ({"epochs": np.ones(2, int)}, "epochs: expected an integer, got int64 of 2"),
    ({"epoch": np.array(1.0)}, "epoch: expected a list of integers, got float64 of one value"),
])  # fmt: skip
def test_a_wrong_array_is_named_with_what_it_should_be(
    changed: dict[str, np.ndarray | None], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "oof.npz"
    FoldPredictions(some(0, False), some(1, False), 1, [1]).write(file)
    arrays = {**np.load(file), **changed}
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(MaskclsError) as caught:
        FoldPredictions.read(file)
    assert f"({message})" in str(caught.value)


@pytest.mark.parametrize(("row", "got"), [
    (np.full(18, 0.5), "a sum of 9"), (np.append(1.5, np.append(-0.5, np.zeros(16))), "-0.5"), (np.full(18, np.nan), "nan"),
    (np.append(np.inf, np.zeros(17)), "a sum of inf"),
])  # fmt: skip
def test_rows_that_are_not_probabilities_are_shown(row: np.ndarray, got: str) -> None:
    probs = some(0, False).probs.copy()
    probs[1] = row
    with pytest.raises(FormatError) as caught:
        check_probs(probs)
    assert str(caught.value) == f"row 2: expected probabilities that sum to 1, got {got}"
