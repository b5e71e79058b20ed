"""Predictions as files, with and without ages; the mean of their columns is their mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_tasks import STAGES, TWO, each_task

from maskcls.core.competition import MASK18
from maskcls.core.errors import MaskclsError
from maskcls.core.task import Task
from maskcls.storage.predictions import FoldPredictions, Predictions, check_probs, number_columns, prob_columns
from maskcls.system.safe_reading import FormatError

IDS = np.array(["a/1.jpg", "b/2.jpg", "c/3.jpg"])


def some(seed: int, has_numbers: bool) -> Predictions:
    random = np.random.default_rng(seed)
    ages = np.stack([random.uniform(10, 99, 3), random.uniform(0, 20, 3)], 1).astype(np.float32)
    return Predictions(IDS, random.dirichlet(np.ones(18), 3).astype(np.float32), numbers=ages if has_numbers else None)


@pytest.mark.parametrize("has_numbers", [False, True])
def test_files_keep_what_is_written(has_numbers: bool, tmp_path: Path) -> None:
    one = some(0, has_numbers)
    one.write(tmp_path / "oof.csv", MASK18)
    FoldPredictions(one, some(1, has_numbers), 2, [1, 2]).write(tmp_path / "oof.npz")
    header = (tmp_path / "oof.csv").read_text().splitlines()[0].split(",")
    assert header == ["id", *prob_columns(18), *(number_columns(MASK18) if has_numbers else [])]
    with np.load(tmp_path / "oof.npz") as arrays:
        assert {"ages", "eval_ages"} & {*arrays} == ({"ages", "eval_ages"} if has_numbers else set())
    for again in (Predictions.read(tmp_path / "oof.csv", task=MASK18), FoldPredictions.read(tmp_path / "oof.npz", task=MASK18).val):
        assert again.ids.tolist() == IDS.tolist()
        np.testing.assert_allclose(again.probs, one.probs, rtol=1e-6)
        if one.numbers is None or again.numbers is None:
            assert again.numbers is one.numbers is None
        else:
            np.testing.assert_allclose(again.numbers, one.numbers, rtol=1e-6)


def test_the_mean_of_columns_is_the_mixture() -> None:
    members = [some(seed, True) for seed in range(3)]
    mixed = Predictions.of_columns(IDS, np.mean([one.columns for one in members], axis=0), num_classes=18)
    random = np.random.default_rng(9)
    assert mixed.numbers is not None
    for i in range(3):  # by sampling each member equally often
        pairs = [one.numbers[i] for one in members if one.numbers is not None]
        draws = np.concatenate([random.normal(age, sd, 400_000) for age, sd in pairs])
        np.testing.assert_allclose(mixed.numbers[i], [draws.mean(), draws.std()], rtol=0.01)
    np.testing.assert_allclose(mixed.probs, np.mean([one.probs for one in members], axis=0), rtol=1e-6)


def test_columns_and_back_change_nothing() -> None:
    for has_numbers in (False, True):
        one = some(4, has_numbers)
        again = Predictions.of_columns(IDS, one.columns, num_classes=18)
        assert np.array_equal(again.probs, one.probs)
        if one.numbers is not None and again.numbers is not None:
            np.testing.assert_allclose(again.numbers, one.numbers, rtol=1e-5)
    sharp = Predictions(IDS, some(0, False).probs, numbers=np.array([[20, 0], [50, 0], [99, 0]], np.float32))
    found = Predictions.of_columns(IDS, sharp.columns.astype(np.float32), num_classes=18).numbers
    assert found is not None and found[:, 1].max() == 0


def test_predictions_are_put_in_the_order_of_ids() -> None:
    one = some(5, True)
    again = one.reorder(IDS[::-1].tolist())
    assert again.ids.tolist() == IDS[::-1].tolist() and np.array_equal(again.probs, one.probs[::-1])
    assert one.numbers is not None and again.numbers is not None and np.array_equal(again.numbers, one.numbers[::-1])


@pytest.mark.parametrize(("value", "column"), [(np.nan, 0), (np.inf, 0), (-1.0, 1), (np.nan, 1), (np.inf, 1)])
def test_what_is_no_number_is_refused(value: float, column: int, tmp_path: Path) -> None:
    bad = some(6, True)
    assert bad.numbers is not None
    bad.numbers[1, column] = value
    bad.write(tmp_path / "oof.csv", MASK18)
    FoldPredictions(some(0, True), bad, 1, [1]).write(tmp_path / "oof.npz")
    for read in (lambda: Predictions.read(tmp_path / "oof.csv", task=MASK18), lambda: FoldPredictions.read(tmp_path / "oof.npz", task=MASK18)):
        with pytest.raises(MaskclsError, match=r"row 2: expected a number and its standard deviation, got |could not convert string to float"):
            read()


@pytest.mark.parametrize("ages", [np.zeros((3, 3), np.float32), np.zeros((2, 2), np.float32), np.zeros((3, 2))])
def test_ages_of_another_shape_or_type_are_refused(ages: np.ndarray, tmp_path: Path) -> None:
    one = Predictions(IDS, some(0, False).probs, numbers=ages)
    FoldPredictions(one, some(0, True), 1, [1]).write(tmp_path / "oof.npz")
    with pytest.raises(MaskclsError, match=r"ages: expected float32 of 3 × 2, got float(32|64) of [23] × [23]"):
        FoldPredictions.read(tmp_path / "oof.npz", task=MASK18)


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
        FoldPredictions.read(file, task=MASK18)
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


@each_task
@pytest.mark.parametrize("has_numbers", [False, True])
def test_files_of_any_task_keep_what_is_written(task: Task, has_numbers: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(task.num_classes), 3).astype(np.float32)
    numbers = np.abs(random.normal(20, 5, (3, 2))).astype(np.float32) if has_numbers and task.number else None
    one = Predictions(IDS, probs, numbers=numbers)
    one.write(tmp_path / "oof.csv", task)
    FoldPredictions(one, one, 1, [1]).write(tmp_path / "oof.npz")
    for again in (Predictions.read(tmp_path / "oof.csv", task), FoldPredictions.read(tmp_path / "oof.npz", task).eval,
                  Predictions.of_columns(IDS, one.columns, task.num_classes)):  # fmt: skip
        np.testing.assert_allclose(again.probs, probs, rtol=1e-6)
        assert (again.numbers is None) == (numbers is None)
        if again.numbers is not None and numbers is not None:
            np.testing.assert_allclose(again.numbers, numbers, rtol=1e-4)


@pytest.mark.parametrize(("task", "other"), [(MASK18, TWO), (TWO, MASK18), (STAGES, TWO)])
def test_predictions_of_another_task_are_refused(task: Task, other: Task, tmp_path: Path) -> None:
    probs = np.full((3, task.num_classes), 1 / task.num_classes, np.float32)
    one = Predictions(IDS, probs)
    one.write(tmp_path / "oof.csv", task)
    FoldPredictions(one, one, 1, [1]).write(tmp_path / "oof.npz")
    with pytest.raises(MaskclsError, match=f"probs: expected float32 of 3 × {other.num_classes}, got float32 of 3 × {task.num_classes}"):
        FoldPredictions.read(tmp_path / "oof.npz", other)
    with pytest.raises(MaskclsError, match=r"cannot read predictions from .*oof\.csv"):
        Predictions.read(tmp_path / "oof.csv", other)
