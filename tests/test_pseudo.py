"""Pseudo-labels: confident guesses become training rows that are never scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from maskcls.errors import RunError
from maskcls.labels import CLASSES, encode
from maskcls.parts import pseudo
from maskcls.registry import Word

PHOTOS = 60
COLUMNS = [f"p{i}" for i in range(18)]


@pytest.fixture
def table() -> pd.DataFrame:
    """Return ten training rows and sixty evaluation rows without labels."""
    rows = 10 + PHOTOS
    train = np.arange(rows) < 10
    return pd.DataFrame({
        "id": [f"photo{i}" for i in range(rows)], "path": [f"/data/{i}.jpg" for i in range(rows)],
        "person": [f"person{i}" for i in range(rows)], "mask": np.where(train, 0, -1), "gender": np.where(train, 1, -1),
        "age": np.where(train, 25.0, np.nan), "label": np.where(train, 3, -1), "part": np.where(train, "train", "eval"),
    })  # fmt: skip


@pytest.fixture
def run(table: pd.DataFrame, tmp_path: Path) -> Path:
    """Return a run directory with an eval.csv alone, in another order than the table's."""
    probs = np.random.default_rng(0).dirichlet(np.full(18, 0.02), PHOTOS)
    content = pd.DataFrame(probs, columns=COLUMNS).assign(id=table["id"].to_numpy()[10:])
    folder = tmp_path / "x-1234"
    folder.mkdir()
    content.sample(frac=1, random_state=0).to_csv(folder / "eval.csv", index=False)
    return folder


def asked(table: pd.DataFrame, **params: object) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with pseudo-labels, through the checked word, and its notes."""
    faults: list[str] = []
    word = pseudo.word.check({"name": "confident", **params}, faults)
    assert isinstance(word, Word), faults
    notes: list[str] = []
    return word(table, notes.append), notes


def confidence(run: Path) -> pd.DataFrame:
    """Return guess and largest probability by id."""
    given = pd.read_csv(run / "eval.csv").set_index("id")[COLUMNS]
    return pd.DataFrame({"guess": given.to_numpy().argmax(1), "p": given.max(axis=1)})


def test_none_changes_nothing(table: pd.DataFrame) -> None:
    assert pseudo.none(table, print) is table


def test_confident_guesses_are_appended_as_consistent_training_rows(table: pd.DataFrame, run: Path) -> None:
    result, notes = asked(table, run=str(run), threshold=0.8)
    pd.testing.assert_frame_equal(result.iloc[: len(table)], table)
    extra, sure = result.iloc[len(table) :], confidence(run).query("p >= 0.8")
    assert 0 < len(sure) < PHOTOS
    assert set(extra["id"]) == {f"pseudo/{name}" for name in sure.index}
    assert (extra["part"] == "extra").all() and extra["age"].isna().all()
    original = extra["id"].str.removeprefix("pseudo/")
    np.testing.assert_array_equal(extra["label"], sure.loc[original, "guess"])
    np.testing.assert_array_equal(extra["label"], encode(extra["mask"], extra["gender"], extra["label"] % 3))
    assert extra["path"].tolist() == table.set_index("id").loc[original, "path"].tolist()
    assert notes[0].startswith(f"pseudo: {len(sure)} of {PHOTOS} evaluation photos")
    for label, count in sure["guess"].value_counts().items():
        assert f"{CLASSES[int(str(label))]} {count}" in notes[0]


def test_cap_keeps_the_most_confident_of_each_class(table: pd.DataFrame, run: Path) -> None:
    result, _ = asked(table, run=str(run), threshold=0.5, cap=2)
    sure = confidence(run).query("p >= 0.5").sort_values("p", ascending=False)
    expected = {f"pseudo/{name}" for _, part in sure.groupby("guess") for name in part.index[:2]}
    assert set(result.iloc[len(table) :]["id"]) == expected


def test_soft_keeps_the_probabilities_of_the_added_rows_alone(table: pd.DataFrame, run: Path) -> None:
    result, _ = asked(table, run=str(run), threshold=0.8, soft=True)
    assert result.iloc[: len(table)][pseudo.SOFT].isna().all(axis=None)
    extra = result.iloc[len(table) :]
    given = pd.read_csv(run / "eval.csv").set_index("id")[COLUMNS].loc[extra["id"].str.removeprefix("pseudo/")]
    np.testing.assert_allclose(extra[pseudo.SOFT], given, atol=1e-6)
    assert not set(pseudo.SOFT) & set(asked(table, run=str(run))[0])



def test_nothing_confident_adds_nothing_and_says_so(table: pd.DataFrame, run: Path) -> None:
    given = pd.read_csv(run / "eval.csv")
    given[COLUMNS] = 1 / 18
    given.to_csv(run / "eval.csv", index=False)
    result, notes = asked(table, run=str(run))
    assert len(result) == len(table) and notes[0].startswith(f"pseudo: 0 of {PHOTOS}")


def test_a_run_without_evaluation_photos_is_refused_when_the_config_is_checked(tmp_path: Path) -> None:
    faults: list[str] = []
    assert pseudo.word.check({"name": "confident", "run": str(tmp_path / "none")}, faults) is None
    assert "is no folder of a finished run with evaluation photos" in faults[0]


def test_a_run_of_other_evaluation_photos_is_refused(table: pd.DataFrame, run: Path) -> None:
    with pytest.raises(RunError, match=r"other photos than this data's evaluation part \(1 differ\)"):
        asked(table.iloc[:-1], run=str(run))


def test_a_broken_table_is_refused(table: pd.DataFrame, run: Path) -> None:
    (run / "eval.csv").write_text("id,p0\nphoto10,0.5\n")
    with pytest.raises(RunError, match="cannot be read as a table of probabilities"):
        asked(table, run=str(run))
