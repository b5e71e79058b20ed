"""Ladder tables for the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from maskcls.ladder.figure import LEAK
from maskcls.ladder.results import load_results
from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.ladder.steps import judge_steps, summarize_steps
from maskcls.reporting.comparison import Record, format_difference, format_score_ci
from maskcls.system import console

BRIEF = (
    "rung\n", "published\nF1, accuracy", "out of fold\nF1, accuracy", "evaluation, one fold\nF1, accuracy",
    "evaluation, ensemble\nF1, accuracy", "F1 vs. parent\n[95 %]", "\nstep", "\nseeds", "\nseconds",
)  # fmt: skip
HEAD = (
    "rung", "published\nF1", "published\naccuracy", "out-of-fold\nF1", "out-of-fold\naccuracy",
    "evaluation F1\none fold", "evaluation F1\nensemble", "evaluation\naccuracy", "F1 vs. parent\n[95 %]",
    "step", "seeds", "seconds",
)  # fmt: skip
NOT_RUN = ["not run", *[""] * 8]
NOTES = (
    "Published scores are on hidden people of the competition, ours on other images: compare the steps between rungs, "
    "not the scores themselves.",
    "The parent of a rung is the rung that it changes. Intervals are 95 % confidence intervals over people, paired for "
    "differences; they cover the variation between people, not between seeds. The coverage of the interval of a score "
    "is lower with few people: about 0.88 at 20 to 60 people, 0.91 at 100, 0.95 from 200. ± is the sample standard "
    "deviation: over folds (and seeds) for a score, over seeds for a difference.",
)


def table_rows(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the rows of the table, lowest rung first."""
    verdicts = judge_steps(ladder, records)
    return [[rung.name, *published_cells(rung),
             *(score_cells(records[rung.name], verdicts[rung.name]) if rung.name in records else NOT_RUN)]
            for rung in load_rungs(ladder)]  # fmt: skip


def published_cells(rung: Rung) -> list[str]:
    """Return the cells of published F1, or of the statement about it, and accuracy."""
    f1, accuracy = rung.published.get("f1"), rung.published.get("accuracy")
    return [rung.claim or "–" if f1 is None else f"{f1:.3f}", "–" if accuracy is None else f"{accuracy / 100:.3f}"]


def score_cells(record: Record, verdict: str) -> list[str]:
    """Return the cells of our scores of a rung."""
    scores, mark = record["scores"], f" {LEAK}" if record["leak"] else ""
    oof, single, ensemble = (scores.get(kind) for kind in ("oof", "single", "ensemble"))
    primary = ensemble if scores["answer"] == "ensemble" else single
    return [
        format_score_ci(oof, spread=record["seeds"] > 1) + mark,
        f"{oof['accuracy']:.3f}",
        format_score_ci(single, spread=True),
        format_score_ci(ensemble, spread=record["seeds"] > 1) if has_ensemble(record) else "",
        f"{primary['accuracy']:.3f}" if primary else "",
        parent_difference(record),
        verdict,
        str(record["seeds"]),
        f"{sum(record['runs'].values()):,.0f}",
    ]


def terminal_rows(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the rows of the narrower table for the terminal, with intervals of the differences only."""
    lines, verdicts = [], judge_steps(ladder, records)
    for rung in load_rungs(ladder):
        line, record = [rung.name, ", ".join(published_cells(rung))], records.get(rung.name)
        if record is None:
            lines.append([*line, "not run", *[""] * 6])
            continue
        kinds = [record["scores"].get(kind) for kind in ("oof", "single", "ensemble" if has_ensemble(record) else "")]
        pairs = [f"{kind['f1']:.3f}, {kind['accuracy']:.3f}" if kind else "" for kind in kinds]
        pairs[0] += f" {LEAK}" if record["leak"] else ""
        pairs[1] += f" ± {kinds[1]['f1_sd']:.3f}" if kinds[1] and "f1_sd" in kinds[1] else ""
        seconds = f"{sum(record['runs'].values()):,.0f}"
        lines.append([*line, *pairs, parent_difference(record), verdicts[rung.name], str(record["seeds"]), seconds])
    return lines


def has_ensemble(record: Record) -> bool:
    """Return True if the ensemble has more than one model."""
    single = record["scores"].get("single")
    return single is None or single["tables"] > record["seeds"]


def parent_difference(record: Record) -> str:
    """Return the difference to the parent, with its name."""
    return f"{format_difference(record['difference'])} vs. {record['parent']}" if record["difference"] else ""


def captions(ladder: str, records: Mapping[str, Record]) -> list[str]:
    """Return the captions of a table: data, scale, overrides, machine, leak, steps, and notes on how to read it."""
    notes = [f"{rung.name}: {rung.note}." for rung in load_rungs(ladder) if rung.note]
    if not records:
        return notes
    first = next(iter(records.values()))
    scores = next((r["scores"]["single"] for r in records.values() if r["scores"].get("single")), None)
    eval_set = "no labelled evaluation set"
    if scores:
        eval_set = f"{scores['photos']:,} labelled evaluation images of {scores['people']} people, in no fold"
    seconds = sum({name: duration for record in records.values() for name, duration in record["runs"].items()}.values())
    commits = "; ".join(sorted({commit for record in records.values() for commit in record["commit"]}))
    lines = [
        f"Data: {first['data']['name']}; {eval_set}.",
        f"Scale {first['scale']['name']}: {first['scale']['tells']}.",
        *([f"Overrides of every rung: {' '.join(first['given'])}."] if first["given"] else []),
        f"Machine: {describe_machines(records)}; {seconds:,.0f} s of training and validation in total; {commits}.",
    ]  # fmt: skip
    leaks = any(record["leak"] for record in records.values())
    lines += (
        [f"{LEAK} LEAK: people are in both training and validation; the score overestimates scores on new people."]
        if leaks
        else []
    )
    is_published = any(record["published"] for record in records.values())
    return [*lines, *summarize_steps(judge_steps(ladder, records)), *notes, *NOTES[not is_published :]]


def describe_machines(records: Mapping[str, Record]) -> str:
    """Return the machines, each with its rungs if there are several."""
    machines: dict[str, list[str]] = {}
    for rung, record in records.items():
        machines.setdefault(", ".join(record["hardware"]), []).append(rung)
    if len(machines) == 1:
        return next(iter(machines))
    return "; ".join(f"{machine} ({', '.join(rungs)})" for machine, rungs in machines.items())


def format_title(ladder: str, key: str) -> str:
    """Return the title of a table."""
    return f"Ladder {ladder} · {key}"


def load_tables(folder: Path, ladder: str) -> dict[str, dict[str, Record]]:
    """Return the results of a ladder, or one empty table if no rung was run."""
    return load_results(folder, ladder) or {"not run": {}}


def print_tables(folder: Path, ladder: str) -> None:
    """Print the tables of a ladder."""
    for key, records in load_tables(folder, ladder).items():
        console.print_table(format_title(ladder, key), BRIEF, terminal_rows(ladder, records))
        for line in captions(ladder, records):
            console.info(line, "dim")


def markdown_tables(folder: Path, ladder: str) -> str:
    """Return the tables of a ladder in Markdown."""
    parts = []
    for key, records in load_tables(folder, ladder).items():
        lines = [[cell.replace("\n", " ") for cell in HEAD], ["---"] * len(HEAD), *table_rows(ladder, records)]
        notes = "\n".join(f"- {escape(line, quote=False)}" for line in captions(ladder, records))
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{format_title(ladder, key)}**\n\n{table}" + (f"\n\n{notes}" if notes else ""))
    return "\n\n".join(parts)
