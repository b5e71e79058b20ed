"""maskcls score: files against scikit-learn, names that do not match, columns that are understood."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_tasks import STAGES, each_task
from sklearn.metrics import accuracy_score, f1_score

from maskcls.cli import score
from maskcls.core.competition import AGES, GENDERS, MASK18, MASKS
from maskcls.core.task import Task
from maskcls.core.task_options import describe_task
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.inference.submission import write_submission
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system.files import write_text

Call = Callable[..., str]
PROBS = [f"p{i}" for i in range(18)]


@pytest.fixture
def truth(tmp_path: Path) -> pd.DataFrame:
    """Return 120 labelled images of 30 people, which are in truth.csv; class 17 does not occur."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"id": [f"a/{i}.jpg" for i in range(120)], "label": random.integers(0, 17, 120)})
    table["person"] = [f"p{i // 4}" for i in range(120)]
    table.to_csv(tmp_path / "truth.csv", index=False)
    return table


@pytest.fixture
def probs(truth: pd.DataFrame, tmp_path: Path) -> np.ndarray:
    """Return probabilities that know something, which are in probs.csv in another order; class 16 is never predicted."""
    random = np.random.default_rng(1)
    raw = random.dirichlet(np.ones(18), 120) + 0.1 * np.eye(18)[truth["label"]]
    raw[:, 16] = 1e-6
    raw /= raw.sum(1, keepdims=True)
    table = truth[["id"]].join(pd.DataFrame(raw, columns=PROBS))
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "probs.csv", index=False)
    return np.asarray(raw)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs the command in the folder of the files and returns its output."""
    monkeypatch.chdir(tmp_path)

    def output(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["maskcls score", *arguments])
        score.main()
        return " ".join(capsys.readouterr().out.split())

    return output


@pytest.fixture
def refuse(call: Call, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs the command, which must end with exit code 2, and returns its message."""

    def message(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            call(*arguments)
        return " ".join(capsys.readouterr().err.split())

    return message


def test_scores_are_scikit_learns_and_the_interval_is_over_people(
    truth: pd.DataFrame, probs: np.ndarray, call: Call, tmp_path: Path
) -> None:
    text = call("probs.csv", "truth.csv", "out=scores.json")
    written, labels, preds = json.loads((tmp_path / "scores.json").read_text()), truth["label"], probs.argmax(1)
    assert written["f1"] == pytest.approx(f1_score(labels, preds, average="macro"))
    assert written["accuracy"] == pytest.approx(accuracy_score(labels, preds))
    cube = probs.reshape(-1, 3, 2, 3)
    for i, (name, marginal) in enumerate(zip(("mask", "gender", "age"), (cube.sum((2, 3)), cube.sum((1, 3)),
                                                                     cube.sum((1, 2))), strict=True)):  # fmt: skip
        assert written[f"{name}_f1"] == pytest.approx(f1_score(MASK18.decode(labels)[i], marginal.argmax(1), average="macro"))
    assert written["log_loss"] == pytest.approx(-np.log(probs[range(120), labels]).mean(), abs=1e-5)
    by_class = f1_score(labels, preds, labels=range(18), average=None, zero_division=0)
    assert [row["f1"] for row in written["classes"]] == pytest.approx(by_class.tolist())
    counts = person_counts(labels.to_numpy(np.int64), preds, truth["person"].tolist(), MASK18)
    assert written["interval"] == pytest.approx(confidence_interval([counts]))
    assert "probabilities of probs.csv" in text and "120 images of 30 people" in text
    assert f"{written['f1']:.4f}" in text and f"[{written['interval'][0]:.3f}" in text and "worn male <30" in text


def test_macro_f1_says_which_classes_it_averages(truth: pd.DataFrame, probs: np.ndarray, call: Call) -> None:
    preds = probs.argmax(1)
    assert 17 not in set(truth["label"]) and 17 in preds and set(truth["label"]) == set(range(17))
    assert "all 18" not in (text := call("probs.csv", "truth.csv"))
    assert "mean over 18 of 18 classes: 17 in the truth, and 1 only predicted, which count as 0: 17 (none fem" in text


def test_a_submission_is_joined_by_file_name_and_its_attributes_are_those_of_its_classes(
    truth: pd.DataFrame, probs: np.ndarray, call: Call, tmp_path: Path
) -> None:
    preds = probs.argmax(1)
    names = [Path(name).name for name in truth["id"]]
    pd.DataFrame({"ImageID": names, "ans": preds})[::-1].to_csv("submission.csv", index=False)
    text = call("truth=truth.csv", "submission.csv", "out=s.json")
    written = json.loads((tmp_path / "s.json").read_text())
    assert "joined by file name" in text and "column ans of submission.csv" in text and "log_loss" not in written
    assert written["f1"] == pytest.approx(f1_score(truth["label"], preds, average="macro"))
    age = f1_score(MASK18.decode(truth["label"])[2], MASK18.decode(preds)[2], average="macro")
    assert written["age_f1"] == pytest.approx(age)


def test_a_truth_may_be_names_attributes_or_a_class_by_name(
    truth: pd.DataFrame, probs: np.ndarray, call: Call, tmp_path: Path
) -> None:
    call("probs.csv", "truth.csv", "out=expected.json")
    expected = json.loads((tmp_path / "expected.json").read_text())
    mask, gender, age = MASK18.decode(truth["label"])
    words = {"mask": np.array(MASKS)[mask], "gender": np.array(GENDERS)[gender]}
    usual = {"Mask": np.array(["with mask", "wrong", "no mask"])[mask], "sex": np.array(["M", "F"])[gender]}
    years = np.array([29, 30, 60])[age]
    files = {
        "classes": truth.assign(label=np.array(MASK18.classes)[truth["label"]]),
        "years": truth.drop(columns="label").assign(**words, age=years),
        "usual": truth.drop(columns="label").assign(**usual, age=years),
        "bins": truth.drop(columns="label").assign(**words, age=np.array(AGES)[age]),
        "floats": truth.rename(columns={"label": "ans"}).astype({"ans": float}),
        "labels": truth.rename(columns={"id": "ImageID", "person": "path", "label": "ans"}),
    }
    for name, table in files.items():
        table.to_csv(f"{name}.csv", index=False)
        call("probs.csv", f"{name}.csv", "out=s.json")
        assert json.loads((tmp_path / "s.json").read_text()) == expected, name


def test_a_runs_table_is_scored_on_the_part_that_was_answered(
    truth: pd.DataFrame, probs: np.ndarray, call: Call, tmp_path: Path
) -> None:
    call("probs.csv", "truth.csv", "out=expected.json")
    train = truth.assign(id="b/" + truth["id"], part="train", scored=True)
    extra = truth[:7].assign(id="c/" + truth["id"], part="eval", scored=False)
    table = pd.concat([train, truth.assign(part="eval", scored=True), extra])
    (tmp_path / "run").mkdir()
    table.to_csv(tmp_path / "run" / "table.csv", index=False)
    assert "7 of 247 rows have no true class or are not scored" in call("probs.csv", "run", "out=s.json")
    assert (tmp_path / "s.json").read_text() == (tmp_path / "expected.json").read_text()


def test_missing_extra_and_double_rows_are_named(
    truth: pd.DataFrame, probs: np.ndarray, call: Call, refuse: Call, tmp_path: Path
) -> None:
    answers = pd.DataFrame({"id": truth["id"], "ans": probs.argmax(1)})
    answers[2:].to_csv("less.csv", index=False)
    pd.concat([answers, answers[5:6]]).to_csv("double.csv", index=False)
    pd.concat([answers, answers[:1].assign(id="x.jpg")]).to_csv("more.csv", index=False)
    assert refuse("less.csv", "truth.csv") == (
        "less.csv: 2 of the 120 images of truth.csv have no answer: a/0.jpg, a/1.jpg. "
        "Set missing=skip to score the others"
    )
    call("less.csv", "truth.csv", "missing=skip", "out=s.json")
    expected = f1_score(truth["label"][2:], answers["ans"][2:], average="macro")
    assert json.loads((tmp_path / "s.json").read_text())["f1"] == pytest.approx(expected)
    assert refuse("double.csv", "truth.csv") == "double.csv: 1 images have several rows: a/5.jpg"
    assert "1 of 121 images have no true class in truth.csv and are not scored: x.jpg" in call("more.csv", "truth.csv")


def test_paths_of_another_root_are_joined_by_as_few_parts_as_are_unique(
    truth: pd.DataFrame, call: Call, refuse: Call
) -> None:
    truth["id"] = [f"{i // 2}/{i % 2}.jpg" for i in range(120)]
    truth.to_csv("truth.csv", index=False)
    answers = truth.assign(photo="/mine/" + truth["id"], ans=truth["label"])[["photo", "ans"]]
    answers.to_csv("moved.csv", index=False)
    text = call("moved.csv", "truth.csv")
    assert "joined by the last 2 parts of their paths" in text and "1.0000" in text
    answers.assign(photo="y" + answers.index.astype(str)).to_csv("others.csv", index=False)
    assert refuse("others.csv", "truth.csv").startswith("others.csv and truth.csv have no image in common. Their first images are ")


def test_without_people_or_with_few_there_is_no_interval_and_the_reason(
    truth: pd.DataFrame, probs: np.ndarray, call: Call
) -> None:
    truth.drop(columns="person").to_csv("nobody.csv", index=False)
    truth.assign(person="one").to_csv("one.csv", index=False)
    truth.assign(label=0).to_csv("info.csv", index=False)
    assert "no interval: there is no column person" in call("probs.csv", "nobody.csv")
    assert "no interval: 1 people, it needs at least 20" in call("probs.csv", "one.csv")
    assert "every image has the true class 0 (worn male <30)" in call("probs.csv", "info.csv")


WRONG = {
    "id,ans\na,18": "ans must be a class from 0 to 17, got '18'",
    "id,ans\na,": "line 2: expected a class, got an empty cell",
    "id,mask,gender,age\na,0,male,30": "line 2: unknown mask '0'",
    "id,mask,gender,age\na,worn,male,2": "column age: expected years or age classes, got only numbers up to 2",
    "name,ans\na,1": "expected a column ImageID or id or path or photo, got columns name, ans",
    "id,reply\na,1": "expected a column ans or guess or label, or columns mask, gender, age, got columns id, reply",
    "id,p0,p1\na,0.5,0.5": "expected columns p0 … p17, got none named p2, p3, p4 and 13 more",
    "id": "has a header but no rows",
    "id," + ",".join(PROBS) + "\na" + ",0.5" * 18: "row 1: expected probabilities that sum to 1, got a sum of 9",
    "id," + ",".join(PROBS) + "\na" + ",x" * 18: "expected numbers as probabilities",
}


@pytest.mark.parametrize("content", WRONG)
def test_a_wrong_file_is_a_sentence(content: str, truth: pd.DataFrame, refuse: Call, tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text(content + "\n")
    assert WRONG[content] in refuse("answers.csv", "truth.csv")


def test_a_third_file_is_refused(truth: pd.DataFrame, refuse: Call) -> None:
    assert "expected key=value, got 'c.csv'" in refuse("a.csv", "truth.csv", "c.csv")
    assert "a.csv does not exist" in refuse("a.csv", "truth.csv")
    assert "truth has no default" in refuse("a.csv")


@pytest.mark.parametrize("name", ["truth.csv", ".", "probs.json/"])
def test_scores_replace_no_table_and_no_folder(name: str, probs: np.ndarray, refuse: Call, tmp_path: Path) -> None:
    (tmp_path / "probs.json").mkdir()
    before = (tmp_path / "truth.csv").read_bytes()
    assert f"out={name}: expected the name of a .json file" in refuse("probs.csv", "truth.csv", f"out={name}")
    assert (tmp_path / "truth.csv").read_bytes() == before


@each_task
def test_the_files_of_any_task_are_scored_with_the_task_of_a_run(
    task: Task, call: Call, refuse: Call, tmp_path: Path
) -> None:
    """Probabilities, a submission and words of attributes have the scores of scikit-learn, and say the same of classes."""
    if not all(name.isascii() and name.isidentifier() for name in task.names):  # a config could not name them so
        task = Task(tuple(replace(one, name=f"part{i}x") for i, one in enumerate(task)), task.group)
    random = np.random.default_rng(3)
    labels, preds = (random.integers(0, task.num_classes, 90) for _ in range(2))
    preds[:60] = labels[:60]
    run = Run(tmp_path / "runs" / "a-1")
    write_text(run.config_path, yaml.safe_dump({"task": describe_task(task)}))
    ids = [f"a/{i}.jpg" for i in range(90)]
    words = {one.name: np.array(one.values)[codes] for one, codes in zip(task, task.decode(labels), strict=True)}
    group = {task.group or "person": [f"g{i // 3}" for i in range(90)]}
    pd.DataFrame({"path": ids, **words, **group}).to_csv("truth.csv", index=False)
    write_submission(Predictions(np.array(ids), task.one_hot(preds)), tmp_path / "submission.csv", False, task)
    found = []
    for answers in ("submission.csv", "probabilities.csv"):
        text = call(answers, "truth.csv", "task_of=a-1", "out=s.json")
        written = json.loads((tmp_path / "s.json").read_text())
        assert written["f1"] == pytest.approx(f1_score(labels, preds, average="macro", zero_division=0))
        for name, one, two in zip(task.names, task.decode(labels), task.decode(preds), strict=True):
            assert written[f"{name}_f1"] == pytest.approx(f1_score(one, two, average="macro", zero_division=0))
        assert [row["name"] for row in written["classes"]] == list(task.classes) and len(written["interval"]) == 2
        assert f" of {task.num_classes} classes" in text or f"all {task.num_classes} classes" in text
        found.append({key: written[key] for key in ("f1", "accuracy", "interval", "people", "classes")})
    assert found[0] == found[1]
    name = task.names[0]
    pd.DataFrame({"path": ids, **words, name: ["nothing known", *words[name][1:]]}).to_csv("wrong.csv", index=False)
    assert f"line 2: unknown {name} 'nothing known'" in refuse("submission.csv", "wrong.csv", "task_of=a-1")


def test_a_number_is_read_from_its_column_or_as_the_word_of_its_attribute(call: Call, tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "config.yaml", yaml.safe_dump({"task": describe_task(STAGES)}))
    crops, numbers = ["rye", "oats", "winter wheat"] * 10, [3, 10, 41] * 10
    ids = [f"{i}.jpg" for i in range(30)]
    stages = STAGES["stage"]
    pd.DataFrame({"path": ids, "crop": crops, "days": numbers}).to_csv("truth.csv", index=False)
    words = [stages.values[i] for i in stages.bin(numbers)]
    pd.DataFrame({"path": ids, "crop": crops, "stage": words}).to_csv("words.csv", index=False)
    text = call("words.csv", "truth.csv", "task_of=a", "out=s.json")
    assert json.loads((tmp_path / "s.json").read_text())["f1"] == 1
    assert "columns crop, stage of words.csv" in text and "columns crop, days of truth.csv" in text
