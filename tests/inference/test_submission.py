"""Files of predictions: their names, and that nothing is overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_tasks import STAGES, TWO, each_task

from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.core.task import Attribute, Task
from maskcls.inference.submission import probabilities_path, write_labels, write_submission
from maskcls.storage.predictions import Predictions, number_columns


def predictions(label: int) -> Predictions:
    """Return sure predictions of one image."""
    return Predictions(np.array(["a/x.jpg"]), np.eye(18, dtype=np.float32)[[label]])


@pytest.mark.parametrize(
    ("out", "probs"),
    [
        ("submission.csv", "probabilities.csv"),
        ("d/submission-2.csv", "d/probabilities-2.csv"),
        ("predictions-mine.csv", "probabilities-mine.csv"),
        ("s.csv", "probabilities-s.csv"),
        ("submissions.csv", "probabilities-submissions.csv"),
        ("probabilities.csv", "probabilities-probabilities.csv"),
    ],
)
def test_probabilities_are_named_after_their_file(out: str, probs: str) -> None:
    assert probabilities_path(Path(out)) == Path(probs)


def test_equal_content_is_written_again_and_other_content_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    for _ in range(2):
        write_submission(predictions(3), out, False, MASK18)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for _ in range(2):  # the second time the number is the same
        with pytest.raises(ConfigError, match=r"submission\.csv .*exists with other content and is kept") as caught:
            write_submission(predictions(4), out, False, MASK18)
    assert "submission-2.csv" in str(caught.value) and "Set overwrite=true to replace it" in str(caught.value)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "submission.csv", "probabilities.csv", "submission-2.csv", "probabilities-2.csv",
    }  # fmt: skip
    assert (tmp_path / "submission-2.csv").read_text() == "ImageID,ans\nx.jpg,4\n"
    write_submission(predictions(4), out, True, MASK18)
    assert out.read_text() == "ImageID,ans\nx.jpg,4\n"


def test_the_same_classes_with_other_probabilities_are_other_content(tmp_path: Path) -> None:
    write_submission(predictions(3), out := tmp_path / "a.csv", False, MASK18)
    probs = np.full((1, 18), 0.01, np.float32)
    probs[0, 3] = 0.83
    with pytest.raises(ConfigError, match=r"a-2\.csv and .*probabilities-a-2\.csv"):
        write_submission(Predictions(np.array(["a/x.jpg"]), probs), out, False, MASK18)


@each_task
def test_a_submission_has_the_classes_of_its_task(task: Task, tmp_path: Path) -> None:
    """The competition's file has its two columns; any other has the class and a word for each attribute."""
    preds = np.random.default_rng(0).integers(0, task.num_classes, 30)
    probs = np.full((30, task.num_classes), 0.1 / task.num_classes, np.float32)
    probs[np.arange(30), preds] += 0.9
    ids = np.array([f"a/{i}.jpg" for i in range(30)])
    write_submission(Predictions(ids, probs), tmp_path / "submission.csv", False, task)
    table = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False, dtype=str)
    if task == MASK18:
        assert list(table) == ["ImageID", "ans"] and table["ans"].tolist() == preds.astype(str).tolist()
        return
    assert list(table) == ["id", "class", *["name"] * (len(task.names) > 1), *task.names]
    assert table["id"].tolist() == ids.tolist() and table["class"].tolist() == preds.astype(str).tolist()
    for attribute, codes in zip(task, task.decode(preds), strict=True):
        assert table[attribute.name].tolist() == [attribute.values[code] for code in codes]
    assert [" ".join(row) for row in table[list(task.names)].to_numpy()] == [task.classes[i] for i in preds]
    written = pd.read_csv(tmp_path / "probabilities.csv")
    assert list(written) == ["id", *(f"p{i}" for i in range(task.num_classes))]
    np.testing.assert_allclose(written.to_numpy()[:, 1:].astype(float), probs, atol=1e-6)


@pytest.mark.parametrize(("task", "columns", "unit"), [
    (MASK18, ["expected_age", "age_sd"], "years"), (STAGES, ["expected_stage", "stage_sd"], "days"), (TWO, [], ""),
    (Task((Attribute("size", ("s", "l"), "cm", (3,), (3,)),)), ["expected_size", "size_sd"], "expected_size"),
])  # fmt: skip
def test_the_number_of_a_task_names_the_columns_of_its_expectation(
    task: Task, columns: list[str], unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number_columns(task) == columns
    ages = np.array([[12.3, 4.0]], np.float32) if columns else None
    found = Predictions(np.array(["a/x.jpg"]), MASK18.one_hot([0])[:, : task.num_classes], numbers=ages)
    write_labels(found, tmp_path / "p.csv", False, task)
    first = ["photo", "ans"] if task == MASK18 else ["id", "class", *["name"] * (len(task.names) > 1)]
    assert list(pd.read_csv(tmp_path / "p.csv")) == [*first, *task.names, "probability", *columns]
    shown = capsys.readouterr().out
    assert f"1 images, 1 of {task.num_classes} classes" in shown and (unit in shown) and ("12 ± 4" in shown) == bool(unit)
