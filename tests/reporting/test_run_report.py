"""The report of a run: table of scores, figures and page, also with missing or hostile files."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from made_tasks import FOUR, MANY, ONE, STAGES, TASKS, TWO

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.evaluation.calibration import calibration_bins
from maskcls.evaluation.metrics import class_report, compute_scores, confusion_counts, mean_std
from maskcls.reporting import figure_style, run_report
from maskcls.reporting.figures import MAX_CLASSES, confused_classes
from maskcls.reporting.run_report import (
    NUM_TOP_ERRORS,
    class_rows,
    config_sections,
    load_oof_rows,
    top_errors,
    write_report,
)
from maskcls.reporting.summary import number_note, print_summary, summary_rows
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.system import console

EVIL = "<script>alert('1')&amp;\".jpg"
HOSTILE = "</title><img src=http://evil.example/x onerror='boom()'>"


class Page(HTMLParser):
    """What a browser would make of a page: its tags, the addresses it loads and the text it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.alts: list[str] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "data")]
        self.alts += [value or "" for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        self.shown += data


def number_of(values: np.ndarray, number: Attribute) -> np.ndarray:
    """Return numbers that have the values (N,)."""
    return np.array([*number.borders[:1], *number.borders])[values] - np.where(values == 0, 3.0, -2.0)


def photos(root: Path, n: int = 40, task: Task = MASK18) -> pd.DataFrame:
    """Write n small photos and return their table; the first has a name that is markup."""
    random = np.random.default_rng(0)
    if task == MASK18:
        mask, gender, age = random.integers(0, 3, n), random.integers(0, 2, n), random.integers(18, 61, n)
        label, columns = MASK18.encode(mask, gender, task["age"].bin(age)), {"age": age.astype(float)}
    else:
        label = random.integers(0, task.num_classes, n)
        columns = {task.number.column: number_of(task.decode(label)[task.axis(task.number.name)], task.number)} if task.number else {}
    (root / "train").mkdir(parents=True)
    names = [EVIL, *[f"{i}.png" for i in range(1, n)]]
    for name in names:
        cv2.imencode(".png", random.integers(0, 255, (32, 24, 3), np.uint8))[1].tofile(root / "train" / name)
    return pd.DataFrame({
        "id": [f"train/{name}" for name in names], "person": [f"p{i // 2}" for i in range(n)], "label": label, **columns,
        "part": "train", "fold": np.arange(n) // 2 % 2, "scored": True,
        "path": [str(root / "train" / name) for name in names],
    })  # fmt: skip


def guesses(table: pd.DataFrame, task: Task = MASK18) -> np.ndarray:
    """Return probabilities that are right in about half of the photos and wrong, and surest, in the first."""
    random = np.random.default_rng(1)
    target = np.where(random.random(len(table)) < 0.5, table["label"], random.integers(0, task.num_classes, len(table)))
    target[0] = (table["label"][0] + 1) % task.num_classes
    probs = np.full((len(table), task.num_classes), 0.01)
    probs[np.arange(len(table)), target] = random.uniform(0.3, 0.8, len(table))
    probs[0, target[0]] = 10
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32)


class MadeRun(Run):
    """A run of a task whose out-of-fold predictions are given."""

    made: tuple[Task, Predictions]

    @property
    def task(self) -> Task:
        return self.made[0]

    def predictions(self, part: str) -> Predictions:
        return self.made[1]


def finished(
    root: Path, table: pd.DataFrame, probs: np.ndarray, task: Task = MASK18, **more: Any
) -> tuple[Run, dict[str, Any]]:
    """Write what a run leaves before its report, and return it with its metrics."""
    run = MadeRun(root / "runs" / "fake-0")
    run.create({"name": HOSTILE, "epochs": 2, "data": {"name": "table"}, "loss": {"name": "ce", "a": {"b": [1, None]}}})
    run.made = task, Predictions(table["id"].to_numpy(str), probs)
    truth, folds = table["label"].to_numpy(), sorted(set(table["fold"]))
    each = []
    for k in folds:
        held = (table["fold"] == k).to_numpy()
        each.append(
            {"fold": k, "photos": int(held.sum()), "epochs": 2, "epoch": [2]} | compute_scores(truth[held], probs[held], task)
        )
        for epoch in (1, 2):
            loss = {"loss": 2 / epoch, "val_loss": 3 / epoch}
            run.append_epoch({"fold": k, "epoch": epoch, "f1": 0.2 * epoch, "seconds": 60} | loss)
    run.add_provenance(command=["run.py", HOSTILE], versions={"torch": "2.x"}, hardware={"gpu": None}, seconds=3725.0)
    metrics = {
        "run": run.id, "folds": each, "folds_mean": mean_std([r["f1"] for r in each], [r["accuracy"] for r in each]),
        "oof": {**compute_scores(truth, probs, task), "photos": len(table), "people": table["person"].nunique()}, "eval": None,
        "people_on_both_sides": 0, "select": "best", "notes": [], "per_class": class_report(truth, probs, task),
        "confusion": confusion_counts(truth, probs).tolist(),
    }  # fmt: skip
    return run, metrics | more


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], pd.DataFrame, str]:
    root = tmp_path_factory.mktemp("report")
    table = photos(root / "data")
    single = {"f1": 0.3456, "accuracy": 0.4567, "f1_sd": 0.0123, "accuracy_sd": 0.0234}
    rest = {"f1": 0.5123, "accuracy": 0.6, "mask_f1": 0.7, "gender_f1": 0.8, "age_f1": 0.9}
    evaluation = rest | {"photos": 12, "people": 6, "single": single}
    run, metrics = finished(
        root, table, guesses(table), eval=evaluation, notes=[f"note {HOSTILE}", "a\x1b[31mb\u202e 마스크"]
    )
    write_report(run, metrics, table)
    return run, metrics, table, (run.path / "report.html").read_text(encoding="utf-8")


def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures where they are not what is tested."""
    monkeypatch.setattr(run_report, "render_figures", lambda results: iter(()))


def test_figures_are_written(plain: Any) -> None:
    run, *_ = plain
    files = {file.stem: cv2.imread(str(file)) for file in (run.path / "plots").iterdir()}
    assert sorted(files) == ["ages", "calibration", "classes", "confusion", "curves", "errors"]
    for image in files.values():
        assert image is not None and min(image.shape[:2]) > 300 and image.std() > 5


def test_page_loads_nothing_from_outside(plain: Any) -> None:
    page = Page(plain[3])
    assert page.loads and all(re.match(r"data:image/(png|jpeg);base64,", address) for address in page.loads)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert "url(" not in plain[3] and "@import" not in plain[3]
    for address in page.loads:
        raw = np.frombuffer(base64.b64decode(address.partition(",")[2], validate=True), np.uint8)
        assert cv2.imdecode(raw, cv2.IMREAD_COLOR) is not None


def test_hostile_names_show_as_text(plain: Any) -> None:
    _, _, table, text = plain
    page = Page(text)
    assert "<script" not in text and "<img src=http" not in text
    assert table["id"][0] in page.shown and table["id"][0] in page.alts
    assert r"a\x1b[31mb\u202e 마스크" in page.shown and not {"\x1b", "\u202e"} & set(page.shown)
    assert f"note {HOSTILE}" in page.shown and page.shown.count(HOSTILE) >= 2  # note and config


def test_numbers_are_those_of_the_metrics(plain: Any) -> None:
    _, metrics, table, text = plain
    shown = " ".join(Page(text).shown.split())
    for name in MASK18.score_names:
        assert f"{metrics['oof'][name]:.4f}" in shown and f"{metrics['folds'][1][name]:.4f}" in shown
    mean = np.mean([row["mask_f1"] for row in metrics["folds"]])
    sd = np.std([row["mask_f1"] for row in metrics["folds"]], ddof=1)
    assert f"{mean:.4f}" in shown and f"{sd:.4f}" in shown
    assert "0.3456 ± 0.0123" in shown and "0.5123" in shown and "12 images of 6 people" in shown
    assert f"n = {len(table)} images of {table['person'].nunique()} people" in shown
    assert "1 h 2 min" in shown and "4 min 0 s in 4 epochs" in shown
    assert "a.b" in shown and "[1, null]" in shown and "leaks" not in shown


def test_worst_mistakes_are_the_surest_wrong_ones(plain: Any) -> None:
    run, _, table, text = plain
    held = load_oof_rows(run, table)
    wrong = held[held["label"] != held["guess"]]
    rows = list(top_errors(held, MASK18))
    assert len(rows) == min(NUM_TOP_ERRORS, len(wrong)) > 3 and rows[0]["id"] == table["id"][0]
    assert [row["sure"] for row in rows] == sorted(wrong["sure"], reverse=True)[: len(rows)]
    assert all(row["image"].startswith("data:image/jpeg") for row in rows)
    first, guess = MASK18.classes[table["label"][0]], MASK18.classes[(table["label"][0] + 1) % 18]
    assert f"{first} → {guess}" in Page(text).shown


def test_calibration_is_that_of_the_definition() -> None:
    held = pd.DataFrame({"label": [0, 0, 0, 0], "guess": [0, 1, 0, 0], "sure": [0.55, 0.53, 1.0, 0.98]})
    table, error = calibration_bins(held)
    assert table["n"].tolist() == [2, 2] and table["right"].tolist() == [0.5, 1.0]
    assert error == pytest.approx((0.04 * 2 + 0.01 * 2) / 4)


def test_value_of_a_guess_is_that_of_the_marginal(plain: Any) -> None:
    run, _, table, _ = plain
    probs = guesses(table).reshape(-1, 3, 2, 3).sum((1, 2))
    held = load_oof_rows(run, table)
    assert held["value_guess"].tolist() == probs.argmax(1).tolist()
    assert held["value_truth"].tolist() == MASK18.decode(table["label"])[2].tolist()
    assert held["number"].tolist() == table["age"].tolist()


def test_lost_and_broken_photos_do_not_break_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubbed(monkeypatch)
    table = photos(tmp_path / "data", 8)
    run, metrics = finished(tmp_path, table, np.roll(np.eye(18, dtype=np.float32)[table["label"]], 1, 1))
    Path(table["path"][0]).unlink()
    Path(table["path"][1]).write_bytes(b"")
    Path(table["path"][2]).write_bytes(b"no photo")
    table.loc[3, "path"] = str(tmp_path)
    write_report(run, metrics, table)
    page = Page((run.path / "report.html").read_text(encoding="utf-8"))
    assert page.shown.count("image not readable") == 4 and page.tags.count("img") == 4


def test_leaking_split_is_loud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stubbed(monkeypatch)
    table = photos(tmp_path / "data", 8)
    run, metrics = finished(tmp_path, table, guesses(table), people_on_both_sides=3)
    write_report(run, metrics, table)
    page = Page((run.path / "report.html").read_text(encoding="utf-8"))
    assert "The split leaks." in page.shown and "3 people are in both training and validation" in page.shown
    print_summary(run, metrics)
    assert "LEAK: 3 people are in both training and validation" in capsys.readouterr().out


def test_little_is_enough(tmp_path: Path) -> None:
    """One fold, no ages, no mistakes, no log, no config, no facts, evaluation photos without labels."""
    table = photos(tmp_path / "data", 8).assign(fold=0, age=np.nan)
    run, metrics = finished(tmp_path, table, np.eye(18, dtype=np.float32)[table["label"]])
    for name in ("log.jsonl", "config.yaml", "about.json"):
        (run.path / name).unlink()
    rest = table.assign(id="eval/" + table["id"], part="eval", fold=-1, scored=False)
    write_report(run, metrics, pd.concat([table, rest], ignore_index=True))
    shown = Page((run.path / "report.html").read_text(encoding="utf-8")).shown
    assert "The 8 evaluation images have no labels" in shown and "None of the 8 images is misclassified" in shown
    assert "age classes only" in shown and "1 fold only" in shown and "nan" not in shown.lower()
    assert sorted(file.stem for file in (run.path / "plots").iterdir()) == ["calibration", "classes", "confusion"]


@pytest.mark.parametrize(("monitor", "text"), [("f1", "by the F1 of"), ("val_loss", "by the cross entropy of")])
def test_the_page_names_the_score_that_selected_the_epochs(
    monitor: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch)
    table = photos(tmp_path / "data", 8).assign(fold=0)
    run, metrics = finished(tmp_path, table, np.eye(18, dtype=np.float32)[table["label"]])
    run.create({"monitor": monitor})
    write_report(run, metrics, table)
    assert f"was selected {text} its own validation rows" in run.report_path.read_text(encoding="utf-8")


def test_what_is_divided_by_nothing_is_a_dash() -> None:
    truth, probs = np.array([0, 0]), np.eye(18, dtype=np.float32)[[0, 1]]
    rows = class_rows({"per_class": class_report(truth, probs, MASK18), "confusion": confusion_counts(truth, probs).tolist()})
    assert (rows[0]["recall"], rows[0]["precision"], rows[0]["predicted"]) == (0.5, 1.0, 1)
    assert rows[1]["recall"] is None and rows[1]["precision"] == 0 and rows[1]["f1"] == 0
    assert rows[2]["f1"] is None and rows[2]["precision"] is None


def test_closing_table_is_narrow_and_complete(plain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run, metrics, *_ = plain
    print_summary(run, metrics)
    shown = capsys.readouterr().out.splitlines()
    table = [line for line in shown if line.startswith(("│", "┃", "┏", "┡", "└"))]
    names = [re.split(r"[│┃]", line)[1].strip() for line in table if line.startswith("│")]
    assert max(map(len, table)) <= 80
    wanted = "fold 0,fold 1,mean of folds,± sd,out of fold,evaluation: ensemble,evaluation: one fold,± sd"
    assert names == wanted.split(",")
    assert shown[-2:] == [str(run.path), str(run.path / "report.html")] and "LEAK" not in "".join(shown)


def test_one_fold_has_no_mean_and_no_ensemble(plain: Any) -> None:
    metrics = plain[1] | {"folds": plain[1]["folds"][:1]}
    assert [name for name, _ in summary_rows(metrics, MASK18.score_names)] == ["fold 0", "out of fold", "evaluation"]


def test_other_ranks_print_nothing(
    plain: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, metrics, *_ = plain
    monkeypatch.setenv("RANK", "1")
    print_summary(run, metrics | {"people_on_both_sides": 1})
    assert capsys.readouterr().out == "" and not console.is_main_process()


def test_config_is_shown_whole(tmp_path: Path) -> None:
    run = Run(tmp_path / "x-0")
    groups = {"model": {"name": "timm", "drop": 0.1}, "split": {"name": "by_person"}, "odd": {"p": {}}}
    config = {"seed": 3, "plugins": [], **groups}
    run.create(config)
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == config
    assert config_sections(run) == [
        ("run", "", [("seed", "3"), ("plugins", "[]")]), ("model", "timm", [("drop", "0.1")]),
        ("split", "by_person", []), ("odd", "", [("p", "{}")]),
    ]  # fmt: skip


def report_of(root: Path, task: Task, n: int = 40, **more: Any) -> tuple[Run, pd.DataFrame, str, str]:
    """Write the report of a made run; return it with its table, its page as text, and the text that is shown."""
    table = photos(root / "data", n, task)
    run, metrics = finished(root, table, guesses(table, task), task, **more)
    write_report(run, metrics, table)
    text = run.report_path.read_text(encoding="utf-8")
    return run, table, text, " ".join(Page(text).shown.split())


@pytest.mark.parametrize("task", [ONE, TWO, STAGES, FOUR], ids=["one", "two", "stages", "four"])
def test_the_page_speaks_of_the_tasks_attributes(task: Task, tmp_path: Path) -> None:
    run, _, _, shown = report_of(tmp_path, task)
    assert f"{task.num_classes} classes: {' × '.join(task.names)}" in shown
    assert not re.search(r"\b(mask|gender|age|ages|years|nan|None)\b", shown.replace("None of the", ""))
    assert ("Errors by attribute" in shown) == ("F1 are macro F1 of one attribute" in shown) == (len(task.names) > 1)
    assert all((f"{name} F1" in shown) == (len(task.names) > 1) for name in task.names)
    assert ("Errors by" in shown.replace("Errors by attribute", "")) == (task.number is not None)
    plots = {file.stem for file in run.plots_dir.iterdir()}
    expected = {"curves", "confusion", "classes", "calibration"} | ({"errors"} if len(task.names) > 1 else set())
    assert plots == expected | ({"stages"} if task.number else set())
    assert ("people" in shown) == (task.group == "person") or task.group is None


def test_an_attribute_of_a_number_has_its_name_and_unit(tmp_path: Path) -> None:
    numbers = {"stage_mae": 1.25, "stage_images": 30, "open_ended": 2}
    run, table, _, shown = report_of(tmp_path, STAGES)
    metrics = finished(tmp_path / "b", table, guesses(table, STAGES), STAGES)[1]
    metrics["oof"] |= numbers
    metrics["folds"] = [row | {"stage_mae": 1.5} for row in metrics["folds"]]
    write_report(run, metrics, table)
    shown = " ".join(Page(run.report_path.read_text(encoding="utf-8")).shown.split())
    note = "stage MAE: 1.25 days out of fold, 30 images of known stage; 2 images of 10 or more are left out"
    assert number_note(metrics, STAGES) == note and note in shown
    assert "stage MAE in days" in shown and "wrong stage class" in shown and "known stage in days" in shown
    assert "n = 40 images of 20 groups" in shown and number_note(metrics, TWO) == ""


def test_a_table_without_numbers_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubbed(monkeypatch)
    table = photos(tmp_path / "data", 8, STAGES).assign(days=np.nan)
    run, metrics = finished(tmp_path, table, guesses(table, STAGES), STAGES)
    write_report(run, metrics, table)
    assert "The data has stage classes only, no stages in days." in run.report_path.read_text(encoding="utf-8")


def test_many_classes_have_small_figures_and_say_which_classes_they_show(tmp_path: Path) -> None:
    run, _, text, shown = report_of(tmp_path, MANY, 400)
    assert f"The figure shows the {MAX_CLASSES} classes with images that have the lowest F1" in shown
    assert f"Of 200 classes, the {MAX_CLASSES} that are most often taken for others" in shown
    assert all(name in shown for name in MANY.classes)
    for file in run.plots_dir.iterdir():
        assert max(cv2.imread(str(file)).shape) < 2200, file
    assert len(text) < 3_000_000


def test_the_most_confused_classes_are_shown() -> None:
    matrix = np.diag(np.arange(1, 101))
    matrix[7, 90] = matrix[3, 4] = 5
    assert {3, 4, 7, 90} < set(confused_classes(matrix).tolist()) and len(confused_classes(matrix)) == MAX_CLASSES
    assert 99 in confused_classes(matrix) and 0 not in confused_classes(matrix)  # then those with most images
    assert confused_classes(matrix[:5, :5]).tolist() == [0, 1, 2, 3, 4]


def test_images_without_a_class_are_not_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubbed(monkeypatch)
    table = photos(tmp_path / "data", 12, STAGES)
    table.loc[[0, 5], "label"] = -1
    run, metrics = finished(tmp_path, table, guesses(table.assign(label=table["label"].clip(lower=0)), STAGES), STAGES)
    held = load_oof_rows(run, table)
    assert held["id"].tolist() == table["id"][table["label"] >= 0].tolist()
    write_report(run, metrics, table)
    assert "of 10 images are misclassified" in run.report_path.read_text(encoding="utf-8")


def test_names_that_no_font_has_are_numbers_in_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_style, "installed_fonts", lambda: {"DejaVu Sans": frozenset(range(32, 127))})
    assert figure_style.drawable(["빨강", "a b", "$5–", "$5"], "class") == ["class 0", "a b", "class 2", r"\$5"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_closing_table_has_each_score_once(task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = photos(tmp_path / "data", 24, task)
    run, metrics = finished(tmp_path, table, guesses(table, task), task)
    print_summary(run, metrics)
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if "out of fold" in line)
    assert len(re.findall(r"\d\.\d{4}", row)) == (2 + len(task.names) if len(task.names) > 1 else 2)
    assert all(name.split()[0] in shown for name in task.names) or len(task.names) == 1
