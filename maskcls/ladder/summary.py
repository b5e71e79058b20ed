"""Summary of the ladders: a row for each, with its latest results and what they say of the published steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maskcls.ladder.results import load_results
from maskcls.ladder.rungs import LADDERS, Rung, load_rungs
from maskcls.ladder.steps import judge_steps, summarize_steps
from maskcls.reporting.comparison import Record

HEAD = ("ladder", "rungs run", "published F1", "ours, on people of no fold", "data, scale", "steps from the parent")


def markdown_summary(folder: Path, ladders: Sequence[str]) -> str:
    """Return the table of ladders in Markdown, a row for each set of results."""
    rows = [row for ladder in ladders for row in summary_rows(folder, ladder)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [HEAD, ["---"] * len(HEAD), *rows])


def summary_rows(folder: Path, ladder: str) -> list[Sequence[str]]:
    """Return the rows of a ladder: one for each set of results, or one that says "not run"."""
    rungs = load_rungs(ladder)
    title = f"`{ladder}`, {LADDERS[ladder]}"
    scored = [rung for rung in rungs if "f1" in rung.published and not rung.as_published]
    published = describe_ends([(rung.name, rung.published["f1"]) for rung in scored])
    results = load_results(folder, ladder)
    if not results:
        return [(title, f"0 of {len(rungs)}", published, "not run", "", "")]
    return [
        (
            title,
            f"{len(records)} of {len(rungs)}",
            published,
            describe_ends(scored_rungs(rungs, records)),
            key,
            " ".join(summarize_steps(judge_steps(ladder, records))).removeprefix("Steps from the parent. "),
        )
        for key, records in results.items()
    ]


def scored_rungs(rungs: Sequence[Rung], records: Mapping[str, Record]) -> list[tuple[str, float]]:
    """Return name and macro F1 on evaluation people of the rungs with folds of people that have it."""
    pairs = ((rung.name, records[rung.name]["scores"]) for rung in rungs
             if rung.name in records and not rung.as_published)  # fmt: skip
    return [(name, scores[scores["answer"]]["f1"]) for name, scores in pairs if scores["answer"] != "oof"]


def describe_ends(scores: Sequence[tuple[str, float]]) -> str:
    """Return the first and the last score, with the names of their rungs; "–" without any."""
    ends = [f"{f1:.3f} (`{name}`)" for name, f1 in (*scores[:1], *scores[1:][-1:])]
    return " → ".join(ends) or "–"
