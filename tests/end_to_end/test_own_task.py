"""Attributes of one's own, from a CSV to a report, predictions and a leaderboard, without a line of Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import f1_score

from maskcls.config.compose import compose
from maskcls.core.errors import MaskclsError
from maskcls.engine.runner import run
from maskcls.storage.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]
BOTH = "task.attributes=[{name: colour, values: [red, blue]}, {name: glasses, values: [yes, no]}]"
EXAMPLE = Path(__file__).parents[2] / "experiments" / "examples" / "digits.py"


def draw(folder: Path, groups: int = 20) -> pd.DataFrame:
    """Draw three photos of each group, a disc of the group's colour with or without glasses; return their table."""
    rng, rows = np.random.default_rng(0), []
    for i in range(groups):
        colour = ("red", "blue")[i % 2]
        for j in range(3):
            glasses = ("yes", "no")[int(rng.integers(2))]
            image = Image.new("RGB", (32, 32), tuple(int(v) for v in rng.integers(100, 160, 3)))
            pen = ImageDraw.Draw(image)
            pen.ellipse([8, 8, 24, 24], fill=(200, 30, 30) if colour == "red" else (30, 30, 200))
            pen.rectangle([9, 13, 23, 16], fill=(0, 0, 0) if glasses == "yes" else None)
            image.save(folder / f"{i}-{j}.png")
            rows.append({"path": f"{i}-{j}.png", "colour": colour, "glasses": glasses, "group": f"g{i}"})
    return pd.DataFrame(rows)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a CSV with path, colour, glasses and group of 60 photos."""
    (tmp_path / "own").mkdir()
    draw(tmp_path / "own").to_csv(tmp_path / "own" / "t.csv", index=False)
    return tmp_path / "own" / "t.csv"


@pytest.fixture
def own(tiny: list[str], photos: Path) -> list[str]:
    """Return the overrides of a tiny run on the CSV."""
    kept = [word for word in tiny if not word.startswith("data.")]
    return [*kept, "epochs=1", "crop.height=32", "crop.width=32", "data=table", f"data.file={photos}"]


def test_a_strangers_csv_is_trained_reported_predicted_and_ranked(
    own: list[str], photos: Path, tmp_path: Path, command: Command
) -> None:
    trained = command(*own, BOTH, "task.group=group")
    assert trained.returncode == 0, trained.stderr
    assert "60 images of 20 groups in 2 folds, 4 of 4 classes" in trained.stdout and "LEAK" not in trained.stdout
    (place,) = (tmp_path / "runs").glob("t-*")
    metrics = json.loads((place / "metrics.json").read_text())
    assert {"colour_f1", "glasses_f1"} <= metrics["oof"].keys() and metrics["people_on_both_sides"] == 0
    page = (place / "report.html").read_text()
    assert "red yes" in page and "gender" not in page and "years" not in page
    for name, *words in (("predict", f"runs=[{place}]", f"photos={photos}", f"out={tmp_path / 'p.csv'}"),
                         ("leaderboard", f"runs_dir={tmp_path / 'runs'}", f"out={tmp_path / 'b.html'}")):  # fmt: skip
        done = command(*words, name=name)
        assert done.returncode == 0 and place.name in done.stdout, done.stderr
    found = pd.read_csv(tmp_path / "p.csv")
    assert len(found) == 60 and set(found["colour"]) <= {"red", "blue"} and set(found["glasses"]) <= {"yes", "no"}
    assert (tmp_path / "b.html").stat().st_size > 0


def test_two_lines_of_yaml_are_the_same_run(own: list[str], tmp_path: Path, command: Command) -> None:
    (tmp_path / "my" / "mine").mkdir(parents=True)
    text = "# @package _global_\ntask: {group: group, attributes: [{name: colour, values: [red, blue]}, {name: glasses, values: [yes, no]}]}\n"
    (tmp_path / "my" / "mine" / "glasses.yaml").write_text(text)
    first = command(*own, BOTH, "task.group=group")
    again = command(f"--config-dir={tmp_path / 'my'}", *own, "+mine=glasses")
    assert first.returncode == again.returncode == 0, again.stderr
    assert len(list((tmp_path / "runs").glob("t-*"))) == 1, "the same task has one id, however it is written"


TASKS = {
    "one attribute": ("[{name: colour, values: [red, blue]}]", lambda table: table.drop(columns="glasses")),
    "words in Korean with blanks": (
        "[{name: colour, values: ['빨강 색', '파랑']}]", lambda table: table.assign(colour=table["colour"].map({"red": "빨강 색", "blue": "파랑"})),
    ),
    "200 values": (
        f"[{{name: product, values: [{', '.join(f'p{i}' for i in range(200))}]}}]",
        lambda table: table.assign(product=[f"p{i}" for i in range(len(table))]),
    ),
    "a number": (
        "[{name: colour, values: [red, blue]}, {name: stage, column: days, borders: [10, 20]}]",
        lambda table: table.assign(days=np.arange(len(table)) % 30),
    ),
    "missing cells": (
        "[{name: colour, values: [red, blue]}, {name: glasses, values: [yes, no]}]",
        lambda table: table.assign(colour=table["colour"].where(np.arange(len(table)) % 5 > 0, "")),
    ),
    "four attributes": (
        "[{name: colour, values: [red, blue]}, {name: glasses, values: [yes, no]}, {name: b, values: [x, y, z]}, {name: c, values: [u, v]}]",
        lambda table: table.assign(b=np.resize(list("xyz"), len(table)), c=np.resize(list("uv"), len(table))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_any_shape_is_run(
    name: str, own: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attributes, change = TASKS[name]
    table = change(pd.read_csv(photos, dtype=str, keep_default_na=False))
    table.to_csv(photos, index=False)
    assert 0 <= run(compose(*own, f"task.attributes={attributes}", "task.group=group")) <= 1
    (place,) = (tmp_path / "runs").glob("t-*")
    task, metrics = Run.open(place).task, json.loads((place / "metrics.json").read_text())
    assert len(metrics["per_class"]) == task.num_classes and metrics["oof"].keys() >= set(task.score_names)
    if name == "missing cells":
        shown = capsys.readouterr().out
        assert "12 of 60 training images have no colour" in shown
        for k, fold in enumerate(metrics["folds"]):
            assert run(compose(*own, f"task.attributes={attributes}", "task.group=group", f"fold={k}")) == fold["f1"]
        with pytest.raises(MaskclsError, match=r"^head=single: 12 training images lack the label of an attribute"):
            run(compose(*own, f"task.attributes={attributes}", "task.group=group", "head=single"))


def test_a_group_that_the_table_lacks_is_said_plainly(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(compose(*own, BOTH, "task.group=site"))
    assert "no column 'site', so each image counts as one group" in capsys.readouterr().out
    with pytest.raises(MaskclsError, match=r"^task.group: unknown column 'grop' of .*, did you mean 'group'\?"):
        run(compose(*own, BOTH, "task.group=grop"))


@pytest.mark.parametrize(
    "attributes", ["[{name: mask, values: [worn, incorrect, none]}]",
                   "[{name: gender, values: [male, female]}, {name: age, column: age, borders: [30, 60]}]"],
)  # fmt: skip
def test_the_competitions_folder_serves_a_part_of_its_attributes(attributes: str, tiny: list[str], tmp_path: Path) -> None:
    run(compose(*tiny, "epochs=1", f"task.attributes={attributes}"))
    (place,) = (tmp_path / "runs").glob("t-*")
    whole, task = json.loads((place / "metrics.json").read_text()), Run.open(place).task
    assert whole["oof"]["photos"] == 98 and len(whole["per_class"]) == task.num_classes in (3, 6)


def test_data_of_other_attributes_is_refused_by_what_cannot_give_it(tiny: list[str]) -> None:
    with pytest.raises(MaskclsError, match=r"the task has colour \(red, blue\)\. Set data=table"):
        run(compose(*tiny, BOTH))


def test_pseudo_labels_of_another_task_are_refused(own: list[str], tmp_path: Path) -> None:
    colour = "task.attributes=[{name: colour, values: [red, blue]}]"
    run(compose(*own, colour, "task.group=group", "eval_fraction=0.3"))
    (place,) = (tmp_path / "runs").glob("t-*")
    for words in (["pseudo=confident", f"pseudo.run={place}"], ["pseudo=distil", f"pseudo.runs=[{place}]"]):
        with pytest.raises(MaskclsError, match=r"predicts other classes, of colour\. Set pseudo\.runs?"):
            run(compose(*own, BOTH, "task.group=group", "eval_fraction=0.3", *words))


def test_labels_that_no_image_has_together_are_refused_before_training(own: list[str], photos: Path) -> None:
    table = pd.read_csv(photos, dtype=str)
    half = np.arange(len(table)) < len(table) // 2
    table.assign(colour=table["colour"].where(half), glasses=table["glasses"].where(~half)).to_csv(photos, index=False)
    with pytest.raises(MaskclsError, match=r"^no validation image of fold 0 has all labels, so it cannot be scored"):
        run(compose(*own, BOTH, "task.group=group"))


def test_evaluation_images_score_the_attributes_that_they_have(own: list[str], photos: Path, tmp_path: Path) -> None:
    table = pd.read_csv(photos, dtype=str)
    is_eval = table["group"].isin(["g0", "g1", "g2", "g3"])
    colour = table["colour"].where(~is_eval | (np.arange(len(table)) % 3 > 0))
    table.assign(part=np.where(is_eval, "eval", "train"), colour=colour).to_csv(photos, index=False)
    run(compose(*own, BOTH, "task.group=group"))
    (place,) = (tmp_path / "runs").glob("t-*")
    found = json.loads((place / "metrics.json").read_text())["eval"]
    one, stored = Run.open(place), Run.open(place).predictions("eval")
    marginal = one.task.marginals(stored.select(one.eval_table["id"].tolist()))[1]
    truth = table.set_index("path").loc[one.eval_table["id"], "glasses"].map({"yes": 0, "no": 1}).to_numpy()
    assert found["photos"] == 8 and found["glasses_f1"] == pytest.approx(f1_score(truth, marginal.argmax(1), average="macro"))


@pytest.mark.slow
def test_the_digits_are_learned_with_the_commands_of_the_readme(tmp_path: Path, command: Command) -> None:
    made = subprocess.run([sys.executable, str(EXAMPLE), "data/digits"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    trained = command("examples=digits")
    assert trained.returncode == 0, trained.stderr
    (place,) = (tmp_path / "runs").glob("digits-*")
    assert json.loads((place / "metrics.json").read_text())["oof"]["f1"] > 0.85
    done = command(f"runs=[{place}]", "photos=data/digits/new", name="predict")
    assert done.returncode == 0 and pd.read_csv(tmp_path / "predictions-new.csv")["parity"].tolist() == ["even", "odd", "even"]
