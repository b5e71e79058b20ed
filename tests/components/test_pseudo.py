"""Pseudo-labels: confident predictions as training rows that are never scored."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from maskcls.components import pseudo
from maskcls.components.labels import plain
from maskcls.core import table as table_module
from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError, RunError
from maskcls.core.person_ids import note_duplicate_images
from maskcls.core.registry import Component
from maskcls.core.table import OWN_LABEL, has_train_label, train_labels, with_fold_labels
from maskcls.storage.predictions import prob_columns
from maskcls.storage.run import Run
from maskcls.system.files import write_npz, write_text
from maskcls.system.safe_reading import read_npz

PHOTOS = 60


@pytest.fixture
def table() -> pd.DataFrame:
    """Return ten training rows and sixty evaluation rows without labels."""
    rows = 10 + PHOTOS
    train = np.arange(rows) < 10
    return pd.DataFrame({
        "id": [f"photo{i}" for i in range(rows)], "path": [f"/data/{i}.jpg" for i in range(rows)],
        "person": [f"person{i}" for i in range(rows)], "mask": np.where(train, 0, -1), "gender": np.where(train, 1, -1),
        "age": np.where(train, 25.0, np.nan), "label": np.where(train, 3, -1), "part": np.where(train, "train", "eval"),
        "content": [f"{i:016x}" for i in range(rows)],
    })  # fmt: skip


@pytest.fixture
def run(table: pd.DataFrame, tmp_path: Path) -> Path:
    """Return a run directory of two folds with all that labels photos, in another order than the table's."""
    folder = tmp_path / "x-1234"
    fold = np.where(table["part"] == "train", np.arange(len(table)) % 2, -1)
    columns = ["id", "person", "label", "part", "fold", "scored", "content"]
    write_text(folder / "table.csv", table.assign(fold=fold, scored=fold >= 0)[columns].to_csv(index=False))
    write_text(folder / "eval.csv", "id\n")
    write_text(folder / "config.yaml", "hardware: {}\n")  # of a version without a task
    for k in range(2):
        random = np.random.default_rng(k)
        order, probs = random.permutation(np.arange(10, 10 + PHOTOS)), random.dirichlet(np.full(18, 0.02), PHOTOS)
        ids = table["id"].to_numpy(str)[order]
        write_npz(
            folder / f"fold{k}" / "oof.npz", ids=np.array([], str), probs=np.zeros((0, 18), np.float32), epochs=1, epoch=[1],
            eval_ids=ids, eval_probs=probs.astype(np.float32),
        )  # fmt: skip
    return folder


def asked(table: pd.DataFrame, **params: object) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with pseudo-labels, through the checked word, and its notes."""
    faults: list[str] = []
    word = pseudo.registry.check({"name": "confident", **params}, faults, task=MASK18)
    assert isinstance(word, Component), faults
    notes: list[str] = []
    return word.build(table, notes.append), notes


def confidence(run: Path, k: int) -> pd.DataFrame:
    """Return guess and largest probability by id, of one fold."""
    arrays = read_npz(run / f"fold{k}" / "oof.npz")
    probs = arrays["eval_probs"]
    return pd.DataFrame({"guess": probs.argmax(1), "p": probs.max(1)}, index=arrays["eval_ids"])


def labels(result: pd.DataFrame, k: int) -> pd.Series:
    """Return what fold k trains the added rows towards, by the evaluation photos' ids."""
    extra = plain(result, print, task=MASK18).query("part == 'extra'")
    mine = extra.iloc[np.flatnonzero(has_train_label(extra, k))]
    label = train_labels(with_fold_labels(mine, k, task=MASK18), task=MASK18)
    return pd.Series(label, index=mine["id"].str.removeprefix("pseudo/"))


def test_none_changes_nothing(table: pd.DataFrame) -> None:
    assert pseudo.none(table, print) is table


def test_each_fold_trains_on_what_the_same_fold_of_the_run_is_sure_of(table: pd.DataFrame, run: Path) -> None:
    result, notes = asked(table, run=str(run), threshold=0.8)
    before = result.iloc[: len(table)]
    pd.testing.assert_frame_equal(before[table.columns], table)
    assert (before[["pseudo0", "pseudo1"]] == OWN_LABEL).all(axis=None)
    extra, counts = result.iloc[len(table) :], []
    for k in range(2):
        sure = confidence(run, k).query("p >= 0.8")["guess"]
        assert 0 < len(sure) < PHOTOS
        pd.testing.assert_series_equal(
            labels(result, k).sort_index(), sure.sort_index(), check_dtype=False, check_names=False
        )
        counts.append(len(sure))
    assert counts[0] != counts[1] and len(extra) > max(counts)
    assert notes[0].startswith(
        f"pseudo: each fold trains on {min(counts)} to {max(counts)} of {PHOTOS} evaluation images"
    )
    assert (extra["part"] == "extra").all() and extra["age"].isna().all()
    original = extra["id"].str.removeprefix("pseudo/")
    np.testing.assert_array_equal(extra["label"], MASK18.encode(extra["mask"], extra["gender"], extra["label"] % 3))
    assert extra["path"].tolist() == table.set_index("id").loc[original, "path"].tolist()


def test_a_fold_hears_nothing_of_the_other_folds_of_the_run(table: pd.DataFrame, run: Path) -> None:
    """Another fold of the source has seen the people whom this fold is scored on."""
    before = asked(table, run=str(run), soft=True)[0]
    other = read_npz(run / "fold1" / "oof.npz")
    write_npz(run / "fold1" / "oof.npz", **other | {"eval_probs": other["eval_probs"][::-1]})
    after = asked(table, run=str(run), soft=True)[0]
    pd.testing.assert_series_equal(labels(before, 0), labels(after, 0))
    assert not labels(before, 1).equals(labels(after, 1))
    for k, same in ((0, True), (1, False)):
        targets = [table_module.train_targets(with_fold_labels(plain(result, print, task=MASK18), k, task=MASK18), task=MASK18) for result in (before, after)]
        sums = [
            target[np.flatnonzero(has_train_label(result, k))].sum(0)
            for target, result in zip(targets, (before, after), strict=True)
        ]
        assert np.array_equal(*sums) == same


def test_cap_keeps_the_most_confident_of_each_class(table: pd.DataFrame, run: Path) -> None:
    result, _ = asked(table, run=str(run), threshold=0.5, cap=2)
    for k in range(2):
        sure = confidence(run, k).query("p >= 0.5").sort_values("p", ascending=False)
        expected = {name for _, part in sure.groupby("guess") for name in part.index[:2]}
        assert set(labels(result, k).index) == expected


def test_soft_keeps_the_probabilities_of_the_added_rows_alone(table: pd.DataFrame, run: Path) -> None:
    result = plain(asked(table, run=str(run), threshold=0.8, soft=True)[0], print, task=MASK18)
    hard = plain(asked(table, run=str(run), threshold=0.8)[0], print, task=MASK18)
    for k in range(2):
        targets = table_module.train_targets(with_fold_labels(result, k, task=MASK18), task=MASK18)
        mine = np.flatnonzero(has_train_label(result, k) & (result["part"] == "extra"))
        arrays = read_npz(run / f"fold{k}" / "oof.npz")
        given = pd.DataFrame(arrays["eval_probs"], index=arrays["eval_ids"])
        np.testing.assert_allclose(
            targets[mine], given.loc[result["id"].iloc[mine].str.removeprefix("pseudo/")], atol=1e-6
        )
        certain = table_module.train_targets(with_fold_labels(hard, k, task=MASK18), task=MASK18)
        np.testing.assert_array_equal(targets[: len(table)], certain[: len(table)])
        is_labelled = (hard["part"] != "eval").to_numpy()
        assert set(certain[is_labelled].max(1)) == {1.0} and not certain[~is_labelled].any()
        assert with_fold_labels(hard, k, task=MASK18).loc[mine, "age"].isna().all()  # an age in years is a label, too


def test_nothing_confident_adds_nothing_and_says_so(table: pd.DataFrame, run: Path) -> None:
    for k in range(2):
        arrays = read_npz(run / f"fold{k}" / "oof.npz")
        write_npz(run / f"fold{k}" / "oof.npz", **arrays | {"eval_probs": np.full((PHOTOS, 18), 1 / 18, np.float32)})
    result, notes = asked(table, run=str(run))
    assert len(result) == len(table) and notes[0].startswith(f"pseudo: each fold trains on 0 of {PHOTOS}")


def test_a_run_without_evaluation_photos_is_refused_when_the_config_is_checked(tmp_path: Path) -> None:
    faults: list[str] = []
    assert pseudo.registry.check({"name": "confident", "run": str(tmp_path / "none")}, faults, task=MASK18) is None
    assert "is not the folder of a finished run with an evaluation set" in faults[0]


def test_a_run_of_other_evaluation_photos_is_refused(table: pd.DataFrame, run: Path) -> None:
    with pytest.raises(RunError, match=r"differs from this data's in 1 images"):
        asked(table.iloc[:-1], run=str(run))


def test_a_run_of_photos_of_the_same_names_is_refused(table: pd.DataFrame, run: Path) -> None:
    table.loc[12, "content"] = "another"
    with pytest.raises(RunError, match="1 evaluation images changed since"):
        asked(table, run=str(run))


def test_a_run_of_an_older_version_is_taken_at_its_photos_names_and_the_note_says_so(
    table: pd.DataFrame, run: Path
) -> None:
    pd.read_csv(run / "table.csv").drop(columns="content").to_csv(run / "table.csv", index=False)
    assert (
        "was written by an older version, so its evaluation images are compared by name only"
        in asked(table, run=str(run))[1][0]
    )


def test_what_has_no_folds_of_its_own_is_refused(table: pd.DataFrame, run: Path) -> None:
    (run / "fold1" / "oof.npz").unlink()
    with pytest.raises(
        RunError, match=r"fold1/oof\.npz is missing\. Set pseudo\.run to a finished run with all of its folds"
    ):
        asked(table, run=str(run))


def test_an_id_that_occurs_twice_in_the_evaluation_set_is_named(table: pd.DataFrame, run: Path) -> None:
    name = table.loc[table["part"] == "eval", "id"].iloc[3]
    double = pd.concat([table, table[table["id"] == name]], ignore_index=True)
    with pytest.raises(DataError, match=f"pseudo.run: id '{name}' occurs more than once in the evaluation set"):
        asked(double, run=str(run))


def test_broken_predictions_are_refused(table: pd.DataFrame, run: Path) -> None:
    write_npz(run / "fold0" / "oof.npz", eval_ids=np.array(["photo10"]), eval_probs=np.ones((1, 18)))
    with pytest.raises(RunError, match=r"cannot read .*fold0/oof\.npz"):
        asked(table, run=str(run))


def distilled(table: pd.DataFrame, **params: object) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with the targets of teachers, through the checked option, and its notes."""
    errors: list[str] = []
    component = pseudo.registry.check({"name": "distil", **params}, errors, task=MASK18)
    assert isinstance(component, Component), errors
    notes: list[str] = []
    return component.build(table, notes.append), notes


def targets_of(result: pd.DataFrame, k: int) -> np.ndarray:
    """Return the targets of the evaluation images in fold k, (N, 18)."""
    rows = plain(result, print, task=MASK18).query("part == 'extra'").reset_index(drop=True)
    return table_module.train_targets(with_fold_labels(rows, k, task=MASK18), task=MASK18)


def test_a_student_learns_the_mean_of_its_own_fold_of_each_run(table: pd.DataFrame, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "y-5678"
    shutil.copytree(run, other)
    for k in range(2):
        arrays = read_npz(other / f"fold{k}" / "oof.npz")
        write_npz(other / f"fold{k}" / "oof.npz", **arrays | {"eval_probs": arrays["eval_probs"][::-1]})
    result, notes = distilled(table, runs=[str(run), str(other)])
    pd.testing.assert_frame_equal(result.iloc[: len(table)][table.columns], table)
    means = []
    for k in range(2):
        found = [pseudo.read_eval_predictions(Run(one), k, table[table["part"] == "eval"]) for one in (run, other)]
        means.append(np.mean([frame[prob_columns(18)].to_numpy() for frame in found], axis=0))
        np.testing.assert_allclose(targets_of(result, k), means[k], atol=1e-6)
    assert len(result) == len(table) + PHOTOS and not any(note.startswith("LEAK") for note in notes)
    shared, notes = distilled(table, runs=[str(run), str(other)], teachers="all")
    np.testing.assert_allclose(targets_of(shared, 0), np.mean(means, axis=0), atol=1e-6)
    assert any(note.startswith("LEAK: pseudo=distil") for note in notes)


def test_teachers_of_a_fold_never_saw_its_people(table: pd.DataFrame, run: Path) -> None:
    before = distilled(table, runs=[str(run)])[0]
    other = read_npz(run / "fold1" / "oof.npz")
    write_npz(run / "fold1" / "oof.npz", **other | {"eval_probs": other["eval_probs"][::-1]})
    after = distilled(table, runs=[str(run)])[0]
    assert np.array_equal(targets_of(before, 0), targets_of(after, 0))
    assert not np.array_equal(targets_of(before, 1), targets_of(after, 1))


def test_teachers_with_many_folds_give_a_table_that_pandas_does_not_warn_of(table: pd.DataFrame, run: Path) -> None:
    folds = pd.read_csv(run / "table.csv")
    folds["fold"] = np.where(folds["part"] == "train", np.arange(len(folds)) % 10, -1)
    folds.to_csv(run / "table.csv", index=False)
    for k in range(2, 10):
        shutil.copytree(run / f"fold{k % 2}", run / f"fold{k}")
    result, _ = distilled(table, runs=[str(run)])
    assert result.shape[1] > 180
    note_duplicate_images(result, print)  # pandas' PerformanceWarning is an error in the tests


def test_one_teacher_under_two_names_is_given_twice(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(run)
    for other in (f"./{run.name}", f"{run.name}/", f"{run.name}/../{run.name}", "link", str(run)):
        errors: list[str] = []
        assert pseudo.registry.check({"name": "distil", "runs": [run.name, other]}, errors, task=MASK18) is None
        assert len(errors) == 1 and f"'{other}' is given twice, first as '{run.name}'" in errors[0]


def test_the_key_of_a_teacher_that_does_not_fit_is_named(table: pd.DataFrame, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "other" / run.name)  # of the same name
    runs = [str(tmp_path / "other" / run.name), str(run)]
    with pytest.raises(RunError, match=r"^pseudo\.runs\[0\]: the evaluation set of"):
        distilled(table.iloc[:-1], runs=runs)
    (run / "fold1" / "oof.npz").unlink()
    with pytest.raises(RunError, match=r"^pseudo\.runs\[1\]: .* Set pseudo\.runs\[1\] to a finished run"):
        distilled(table, runs=runs)
    changed = pd.read_csv(run / "table.csv")
    changed.assign(fold=changed["fold"].clip(upper=0)).to_csv(run / "table.csv", index=False)
    with pytest.raises(RunError, match=r"different numbers of folds: \S+other/x-1234 2, \S+x-1234 1"):
        distilled(table, runs=runs)


def test_teachers_that_do_not_fit_are_one_sentence(table: pd.DataFrame, run: Path, tmp_path: Path) -> None:
    for runs, reason in (
        ([], "at least one run"), ([str(run), str(run)], "given twice"), ([str(tmp_path)], "is not the folder of a"),
    ):  # fmt: skip
        errors: list[str] = []
        assert pseudo.registry.check({"name": "distil", "runs": runs}, errors, task=MASK18) is None
        assert len(errors) == 1 and reason in errors[0]
    train = table[table["part"] == "train"]
    with pytest.raises(DataError, match="needs an evaluation set"):
        distilled(train, runs=[str(run)])
    changed = table.assign(content=table["content"].where(table["part"] == "train", "other"))
    with pytest.raises(RunError, match="evaluation images changed"):
        distilled(changed, runs=[str(run)])
