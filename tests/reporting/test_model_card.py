"""The model card: a header that a hub reads, counts and scores of the run, and no number that was not measured."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
import yaml
from made_tasks import STAGES, each_task

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.reporting.limits_of_use import limits_of_use
from maskcls.reporting.model_card import describe_values, write_card
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel, open_model

FACTS = {"opset": 18, "precision": "fp32", "networks": 2, "folds": 2, "input": "photos", "input_size": [32, 24],
         "crop": {"name": "resize", "height": 32, "width": 24}, "tta": {"name": "none"}}  # fmt: skip
AGREEMENT = {"images": 28, "difference": 2e-8, "changed": 0, "images_per_second": 10.0, "torch_images_per_second": 20.0,
             "f1": 0.5, "f1_lost": 0.01, "interval": [-0.01, 0.03], "people": 40}  # fmt: skip


def card(run: Path, path: Path) -> tuple[dict[str, object], str]:
    """Return header and body of the card of a run or a fold."""
    write_card(path, open_model(run), FACTS, AGREEMENT, "cc-by-nc-4.0")
    _, head, body = path.read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_says_what_the_run_measured(finished: tuple[list[str], Path], tmp_path: Path) -> None:
    head, body = card(finished[1], tmp_path / "card.md")
    metrics = Run(finished[1]).metrics() or {}
    assert head["license"] == "cc-by-nc-4.0" and head["pipeline_tag"] == "image-classification"
    for part, name in (("oof", "| out of fold |"), ("eval", "| evaluation set, people of no fold |")):
        (line,) = [line for line in body.splitlines() if line.startswith(name) and "people: no" in line]
        assert f" {metrics[part]['f1']:.3f} " in line and f"{metrics[part]['photos']}, {metrics[part]['people']}" in line
    assert "| training, in folds | 98 | 14 |" in body and "drawn by a program" in body
    assert "(95 % interval over people: -0.0100 to 0.0300)" in body and "must not be used to identify" in body
    assert "Training began from random weights" in body and "Licence of the weights: cc-by-nc-4.0" in body
    assert "None" not in body and "nan" not in body and "{{" not in body


def test_the_card_of_a_fold_has_the_scores_of_that_fold(finished: tuple[list[str], Path], tmp_path: Path) -> None:
    _, body = card(finished[1] / "fold1", tmp_path / "card.md")
    fold = (Run(finished[1]).metrics() or {})["folds"][1]
    (line,) = [line for line in body.splitlines() if line.startswith("| out of fold |")]
    assert f" {fold['f1']:.3f} " in line and f"| {fold['photos']}, " in line
    assert "A part of a run" in body


def test_weights_without_their_run_have_no_scores(finished: tuple[list[str], Path], tmp_path: Path) -> None:
    (tmp_path / "some.pt").write_bytes((finished[1] / "fold0" / "best.pt").read_bytes())
    head, body = card(tmp_path / "some.pt", tmp_path / "card.md")
    assert "model-index" not in head and "the weights came without their run" in body and "| out of fold" not in body


def test_the_card_has_the_groups_and_the_calibration_that_the_run_stored(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    _, body = card(finished[1], tmp_path / "card.md")
    metrics, lines = Run(finished[1]).metrics() or {}, body.splitlines()
    (part,) = metrics["groups"]
    assert len(part["rows"]) >= 2
    for row in part["rows"]:
        (line,) = [line for line in lines if line.startswith(f"| {html.escape(row['value'])} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == 6 and cells[2].startswith(f"{row['accuracy']:.3f}")
        assert cells[4].startswith(f"{row['covered']:.3f}") and cells[5] == f"{row['photos']}, {row['people']}"
    for title, view in (("out of fold", metrics["calibration"]["oof"]), ("evaluation set", metrics["calibration"]["eval"])):
        start = next(i for i, line in enumerate(lines) if line.startswith(f"| calibration, {title} |"))
        assert f"| 18 classes | {view['class']['before']['log_loss']:.3f}" in lines[start + 2]
    assert "The exported probabilities are not calibrated: temperatures (" in body
    assert f"have the class of {metrics['sets']['oof']['covered']:.3f} of its images" in body
    assert "Only the groups above were measured" in body


def test_the_card_of_a_part_has_no_groups_of_the_whole(finished: tuple[list[str], Path], tmp_path: Path) -> None:
    (tmp_path / "some.pt").write_bytes((finished[1] / "fold0" / "best.pt").read_bytes())
    for path in (finished[1] / "fold1", tmp_path / "some.pt"):
        _, body = card(path, tmp_path / "card.md")
        assert "No groups of people were measured for this file" in body and "in its set" not in body
        assert "The exported probabilities are not calibrated." in body


@each_task
def test_the_card_names_the_attributes_of_its_task_and_no_others(
    task: Task, finished: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainedModel, "task", property(lambda model: task))
    (tmp_path / "some.pt").write_bytes((finished[1] / "fold0" / "best.pt").read_bytes())
    _, body = card(tmp_path / "some.pt", tmp_path / "card.md")
    body = html.unescape(body)
    assert all(f"{name} (" in body for name in task.names) and f"to {task.num_classes} classes: " in body
    assert ", ".join((*task.names, "probs = session.run(")) in body
    if task is not MASK18:
        own = (body.partition("## Data")[0] + body.partition("## Limits")[2]).replace("a photo of one person", "")
        assert not re.search(r"\b(faces?|ages?|genders?|masks?|older|skin|persons?)\b", own, re.IGNORECASE)
        assert "identify or watch people" not in body and "no such picture was measured" in body


@pytest.mark.parametrize(
    ("borders", "unit", "text"),
    [((30, 60), "years", "under 30, 30 to 59, 60 or older"), ((10,), "days", "under 10, 10 or more"), ((0.5, 2), "", "under 0.5, 0.5 to below 2, 2 or more")],
)
def test_the_values_of_a_number_are_said_by_its_borders(borders: tuple[float, ...], unit: str, text: str) -> None:
    assert describe_values(Attribute("a", tuple("abc"[: len(borders) + 1]), "n", borders, borders, unit)) == text


def test_limits_of_people_are_those_of_the_attributes_that_a_task_has() -> None:
    only_mask, other_ages = Task(MASK18.attributes[:1]), Task((Attribute("age", ("young", "old"), "age", (40,), (40,), "years"),))
    assert len(limits_of_use(MASK18)) == 3 and len(limits_of_use(only_mask)) == 2
    assert "Its ages are" in limits_of_use(other_ages)[1] and len(limits_of_use(STAGES)) == 1
