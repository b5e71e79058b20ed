"""The model card: a header that a hub reads, counts and scores of the run, and no number that was not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from maskcls.core.task import one_hot
from maskcls.reporting.model_card import group_rows, write_card
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model

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


def test_groups_have_an_interval_over_their_people_from_twenty_on() -> None:
    labels = np.repeat([0, 7], [60, 5])
    probs = one_hot(np.where(np.arange(65) % 3 == 0, 1, labels))
    people = np.array([f"p{i // 2}" for i in range(65)], dtype=object)
    rows = {row["group"]: row for row in group_rows(labels, probs, people)}
    assert list(rows) == ["mask worn", "mask incorrect", "gender male", "age <30", "age 30-59"]
    assert rows["mask worn"]["accuracy"] == 40 / 60 and rows["mask worn"]["ci"].startswith("[0.")
    assert rows["mask incorrect"]["people"] == 3 and "no interval" in rows["mask incorrect"]["ci"]
