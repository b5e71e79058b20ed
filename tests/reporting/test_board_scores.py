"""Scores on a leaderboard equal those of `maskcls compare`, and its reasons name what differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import image_table, make_run
from made_tasks import each_task

from maskcls.core.competition import MASK18
from maskcls.core.errors import RunError
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.metrics import macro_f1
from maskcls.reporting.board_scores import BoardScores, ScoredRows, ScoreReader, score
from maskcls.reporting.comparison import RunScores, paired_difference
from maskcls.storage.run import Run


def both(run: Run, reader: ScoreReader) -> tuple[BoardScores, RunScores]:
    """Return the scores of a run by both ways."""
    return reader.read(run), RunScores.of([[run]], is_ensemble=False)


def assert_close(found: Any, expected: Any) -> None:
    """Assert that two records, numbers or lists are equal to rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_close(*pair)
    elif isinstance(expected, float):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    else:
        assert found == expected


@pytest.mark.parametrize(("people", "eval_people"), [(30, 0), (30, 25), (30, 6), (10, 0)])
def test_scores_and_differences_are_those_of_compare(people: int, eval_people: int, tmp_path: Path) -> None:
    table, reader = image_table(people, eval_people), ScoreReader()
    runs = [make_run(tmp_path / f"a-{i}", table, skill, seed=i) for i, skill in enumerate((0.5, 0.6, 0.9))]
    pairs = [both(run, reader) for run in runs]
    for scores, expected in pairs:
        whole = expected.oof.scores()
        assert_close([scores.oof.f1, scores.oof.interval], [whole["f1"], whole["interval"]])
        assert (scores.single is None) == (expected.single is None) == (eval_people == 0)
        if scores.single and expected.single:
            parts = expected.single.scores()
            assert_close([scores.single.f1, scores.single.f1_sd], [parts["f1"], parts["f1_sd"]])
        for other, expected_other in pairs:
            assert_close(scores.compare(other), expected.compare(expected_other))
    assert len(reader.rows) == (2 if eval_people else 1)


def test_a_class_bias_decides_as_in_compare(tmp_path: Path) -> None:
    table, reader = image_table(24, 24), ScoreReader()
    plain, biased = (make_run(tmp_path / name, table, seed=i) for i, name in enumerate("ab"))
    unbiased = reader.read(biased)
    biased.__dict__["bias"] = [6.0] * 3 + [0.0] * 15  # as a decision fits it
    (first, expected), (second, other) = both(biased, reader), both(plain, reader)
    assert first.single and unbiased.single and first.single.f1 < unbiased.single.f1
    assert_close(first.compare(second), expected.compare(other))


def test_runs_on_other_rows_labels_files_or_folds_have_the_reason(tmp_path: Path) -> None:
    table = image_table(30).assign(content="c")
    is_first = table["person"] == "train000000"
    holdout = table.assign(fold=np.where(table["fold"] == 0, 0, -1), scored=table["fold"] == 0)
    tables = {
        "same": table,
        "rows": image_table(31),
        "labels": table.assign(label=table["label"].where(~is_first, (table["label"] + 1) % 18)),
        "files": table.assign(content=np.where(is_first, "d", "c")),
        "unknown": table.assign(content=""),
        "holdout": holdout,
        "folds": table.assign(fold=(table["fold"] + 1) % 5),
        "images": table.assign(person=table["id"]),
        "grouped": table.assign(person=np.roll(table["person"], 3)),
    }
    reader = ScoreReader()
    scores = {name: both(make_run(tmp_path / name, rows), reader) for name, rows in tables.items()}
    base, expected = scores["same"]
    reasons = {name: one.compare(base).get("why") for name, (one, _) in scores.items()}
    assert reasons == {
        "same": None, "rows": "other rows: 217 and 210 images", "labels": "other labels: of 7 images", "unknown": None,
        "files": "other image files: 7 of the same names", "holdout": "other folds are scored: 42 and 210 images",
        "folds": None, "images": "other people of the same images: 210 and 30",
        "grouped": "other people of the same images: 30 and 30",
    }  # fmt: skip
    assert scores["folds"][0].folds != base.folds == scores["labels"][0].folds
    for one, other in scores.values():
        assert ("why" in one.compare(base)) == ("why" in other.compare(expected))
    assert [scores[name][1].compare(expected).get("why") for name in ("images", "grouped", "rows")] == [
        "other people", "other people", "other rows",
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["train", "eval"])
def test_runs_with_other_people_are_refused_or_compared_on_other_rows(part: str, tmp_path: Path) -> None:
    table = image_table(25, 21)
    other = table.assign(person=table["person"].where(table["part"] != part, table["id"]))
    runs = [make_run(tmp_path / name, rows, seed=i) for i, (name, rows) in enumerate((("a", table), ("b", other)))]
    reader = ScoreReader()
    (first, expected), (second, other_expected) = (both(run, reader) for run in runs)
    assert first.compare(second)["rows"] == {"train": "evaluation", "eval": "oof"}[part]
    assert_close(first.compare(second), expected.compare(other_expected))
    parts = (expected.oof, other_expected.oof) if part == "train" else (expected.single, other_expected.single)
    assert parts[0] and parts[1]
    with pytest.raises(RunError, match="same images of other people"):
        paired_difference(*parts)
    with pytest.raises(RunError, match="a cannot be compared: other people of the same images"):
        RunScores.of([[runs[0]], [runs[1]]], is_ensemble=False)


def test_damaged_predictions_are_an_error_of_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", image_table(5))
    oof = pd.read_csv(run.predictions_path("oof"))
    oof.iloc[3:].to_csv(run.predictions_path("oof"), index=False)
    with pytest.raises(Exception, match="has no probabilities for 3 of 35 images"):
        ScoreReader().read(run)


def test_runs_of_other_tasks_are_not_compared_though_their_labels_agree(tmp_path: Path) -> None:
    own = replace(MASK18, attributes=(*MASK18.attributes[:2], Attribute("height", ("low", "mid", "high"))))
    tasks, reader = (MASK18, own, MASK18), ScoreReader()
    runs = [make_run(tmp_path / str(i), image_table(25, 21, task=task), seed=i, task=task) for i, task in enumerate(tasks)]
    one, other, same = (reader.read(run) for run in runs)
    assert (one.oof.rows.labels == other.oof.rows.labels).all()
    assert one.compare(other) == {"why": "another task"} == other.compare(same) and "f1" in one.compare(same)


@each_task
def test_scores_of_any_task_are_those_of_its_classes(task: Task) -> None:
    random, ids = np.random.default_rng(0), [f"{i:03}" for i in range(120)]
    labels, persons = random.integers(0, task.num_classes, 120), [str(i // 4) for i in range(120)]
    rows = ScoredRows(0, "oof", ids, labels, persons, pd.Series("", index=ids), task)
    probs = random.random((120, task.num_classes)) + 2 * np.eye(task.num_classes)[labels] * (random.random(120) < 0.6)[:, None]
    found = score(rows, [probs])
    assert found.f1 == pytest.approx(macro_f1(labels, probs.argmax(1))) and (found.preds[0] == probs.argmax(1)).all()
    assert found.interval and found.interval[0] < found.f1 < found.interval[1]
