"""Steps of a ladder: what the sources say, and whether records agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskcls.cli import table
from maskcls.config.config_folders import resource_dir
from maskcls.ladder.rungs import LADDERS, load_rungs
from maskcls.ladder.steps import judge_step, judge_steps, published_step, summarize_steps
from maskcls.ladder.summary import HEAD, markdown_summary


@pytest.mark.parametrize(
    ("published", "parent", "claim", "expected"),
    [(0.75, 0.74, "", "higher"), (0.5, 0.6, "", "lower"), (0.5, 0.5, "", "no difference"), (None, 0.5, "", ""),
     (0.5, None, "", ""), (None, None, "lower F1", "lower"), (None, 0.5, "no difference", "no difference")],
)  # fmt: skip
def test_a_published_step_is_a_difference_or_a_statement(published: float | None, parent: float | None, claim: str, expected: str) -> None:
    rung = load_rungs("team")[0]
    own, below = (replace(rung, published={} if f1 is None else {"f1": f1}) for f1 in (published, parent))
    assert published_step(replace(own, claim=claim), below) == expected


def record(interval: list[float] | None, stand_ins: bool = False) -> dict[str, Any]:
    """Return the part of a record that its step is judged by."""
    return {"difference": {"f1": 0.0, "interval": interval}, "scale": {"name": "small", "stand_ins": stand_ins}}


@pytest.mark.parametrize(
    ("claim", "interval", "expected"),
    [("higher", [0.01, 0.1], "higher, confirmed"), ("higher", [-0.1, -0.01], "lower, reversed"),
     ("lower F1", [-0.1, -0.01], "lower, confirmed"), ("lower F1", [0.01, 0.1], "higher, reversed"),
     ("no difference", [0.01, 0.1], "higher, published as no difference"), ("", [0.01, 0.1], "higher"), ("", [-0.1, -0.01], "lower"),
     ("higher", None, ""), *((claim, [-0.1, 0.1], "cannot be told") for claim in ("higher", "lower F1", "no difference", "")),
     ("higher", [0.0, 0.1], "cannot be told")],
)  # fmt: skip
def test_a_step_is_judged_by_its_interval(claim: str, interval: list[float] | None, expected: str) -> None:
    rung = replace(load_rungs("team")[0], published={}, claim=claim)
    assert judge_step(rung, rung, record(interval)) == expected
    assert judge_step(rung, rung, None) == judge_step(rung, rung, {"difference": None}) == ""
    assert judge_step(rung, rung, {"difference": {"why": "other rows"}}) == ""


def test_a_step_between_networks_is_not_judged_where_others_stand_in() -> None:
    rungs = {rung.name: rung for rung in load_rungs("tried")}
    assert {name for name, rung in rungs.items() if rung.changes_network} == {
        "vgg11", "vgg19", "resnet18", "resnet50", "resnext101", "effnet_b0", "effnet_b3", "vit_224", "vit_384"
    }  # fmt: skip
    for name, rung in rungs.items():
        judged = judge_step(rung, rungs["baseline"], record([-0.1, -0.01], stand_ins=True))
        assert judged.startswith("not judged" if rung.changes_network else "lower"), name
    assert judge_step(rungs["vgg19"], rungs["baseline"], record([-0.1, -0.01])) == "lower, confirmed"


def test_another_reading_of_the_same_score_is_no_step() -> None:
    rungs = {rung.name: rung for ladder in ("workflow", "team") for rung in load_rungs(ladder)}
    assert published_step(rungs["resnet_faithful"], rungs["resnet"]) == ""
    assert published_step(rungs["vgg19_faithful"], rungs["resnet_faithful"]) == "higher"
    assert published_step(rungs["folds_faithful"], rungs["focal"]) == "higher"


def test_the_steps_of_a_table_are_summarized_from_its_records() -> None:
    records = {name: record(interval) for name, interval in
               {"folds": [0.01, 0.1], "oof": [-0.1, -0.01], "heads": [-0.1, 0.1], "age58": [0.1, 0.2]}.items()}  # fmt: skip
    (sentence,) = summarize_steps(judge_steps("team", records))
    expected = "Cannot be told: heads. Higher: age58. Higher, confirmed: folds. Lower, reversed: oof."
    assert sentence == f"Steps from the parent. {expected}"
    assert list(summarize_steps(judge_steps("team", {}))) == []


def test_the_summary_has_a_row_for_each_ladder_and_the_ends_of_its_published_scores(tmp_path: Path) -> None:
    lines = markdown_summary(tmp_path, tuple(LADDERS)).splitlines()
    assert len(lines) == 2 + len(LADDERS) and all(line.count("|") == len(HEAD) + 1 for line in lines)
    assert "0.390 (`resnet`) → 0.730 (`ensemble`)" in lines[3] and "0.736 (`focal`) → 0.757 (`heads`)" in lines[2]
    assert all("not run" in line and "0 of" in line for line in lines[2:])


def test_the_summary_in_readme_is_of_the_kept_records() -> None:
    (begin, end), top = table.SUMMARY_MARKERS, resource_dir("experiments").parent
    written = (top / "README.md").read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()
    assert written == markdown_summary(top / "experiments" / "results", tuple(LADDERS))
