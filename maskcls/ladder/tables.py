"""Ladder tables for the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from maskcls.ladder.results import load_results
from maskcls.ladder.rungs import Rung, rungs
from maskcls.reporting.comparison import Record, format_difference, format_score_ci
from maskcls.system import console

BRIEF = (
    "rung\n", "published\nF1, accuracy", "out of fold\nF1, accuracy", "evaluation, one fold\nF1, accuracy",
    "evaluation, ensemble\nF1, accuracy", "F1 to its parent\n[95 %]", "\nseeds", "\nseconds",
)  # fmt: skip
HEAD = (
    "rung", "published\nF1", "published\naccuracy", "out-of-fold\nF1", "out-of-fold\naccuracy",
    "evaluation F1\none fold", "evaluation F1\nensemble", "evaluation\naccuracy", "F1 to its parent\n[95 %]",
    "seeds", "seconds",
)  # fmt: skip
NOT_RUN = ["not run", *[""] * 7]
LEAK = "†"
RULES = (
    "Published scores are of the competition's hidden people; ours are of other photos: compare steps, not heights.",
    "A rung's parent is the rung that it changes. Intervals are 95 % intervals over people, paired where they are of a "
    "difference; they hold what other people would change, not what another seed would. Of a score among few people "
    "they hold the truth less often: about 0.88 at 20 to 60 people, 0.91 at 100, 0.95 from 200. ± is the sample's "
    "standard deviation: over folds (and seeds) of a score, over seeds of a difference.",
)


def rows(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the table's rows, the lowest rung first; one that was never run says so."""
    return [[rung.name, *published_cells(rung), *(score_cells(records[rung.name]) if rung.name in records else NOT_RUN)]
            for rung in rungs(ladder)]  # fmt: skip


def published_cells(rung: Rung) -> list[str]:
    """Return the published F1 and accuracy."""
    f1, accuracy = rung.published.get("f1"), rung.published.get("accuracy")
    return ["–" if f1 is None else f"{f1:.3f}", "–" if accuracy is None else f"{accuracy / 100:.3f}"]


def score_cells(record: Record) -> list[str]:
    """Return the cells of a rung that was run."""
    scores, mark = record["scores"], f" {LEAK}" if record["leak"] else ""
    oof, single, ensemble = (scores.get(kind) for kind in ("oof", "single", "ensemble"))
    answer = ensemble if scores["answer"] == "ensemble" else single
    return [
        format_score_ci(oof, spread=record["seeds"] > 1) + mark,
        f"{oof['accuracy']:.3f}",
        format_score_ci(single, spread=True),
        format_score_ci(ensemble, spread=record["seeds"] > 1) if has_ensemble(record) else "",
        f"{answer['accuracy']:.3f}" if answer else "",
        parent_difference(record),
        str(record["seeds"]),
        f"{sum(record['runs'].values()):,.0f}",
    ]


def terminal_rows(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the rows of the terminal's table, which is narrower: intervals of the differences alone."""
    lines = []
    for rung in rungs(ladder):
        line, one = [rung.name, ", ".join(published_cells(rung))], records.get(rung.name)
        if one is None:
            lines.append([*line, "not run", *[""] * 5])
            continue
        kinds = [one["scores"].get(kind) for kind in ("oof", "single", "ensemble" if has_ensemble(one) else "")]
        pairs = [f"{kind['f1']:.3f}, {kind['accuracy']:.3f}" if kind else "" for kind in kinds]
        pairs[0] += f" {LEAK}" if one["leak"] else ""
        pairs[1] += f" ± {kinds[1]['f1_sd']:.3f}" if kinds[1] and "f1_sd" in kinds[1] else ""
        seconds = f"{sum(one['runs'].values()):,.0f}"
        lines.append([*line, *pairs, parent_difference(one), str(one["seeds"]), seconds])
    return lines


def has_ensemble(record: Record) -> bool:
    """Tell whether an ensemble is more than one model."""
    single = record["scores"].get("single")
    return single is None or single["tables"] > record["seeds"]


def parent_difference(record: Record) -> str:
    """Return the difference of a rung to its parent, and the parent's name."""
    return f"{format_difference(record['difference'])} to {record['parent']}" if record["difference"] else ""


def captions(records: Mapping[str, Record]) -> list[str]:
    """Return the sentences that a table cannot do without: data, scale, machine, leak, and how to read it."""
    if not records:
        return []
    first = next(iter(records.values()))
    scores = next((r["scores"]["single"] for r in records.values() if r["scores"].get("single")), None)
    exam = "no labelled evaluation photos"
    if scores:
        exam = f"{scores['photos']:,} labelled evaluation photos of {scores['people']} people that no fold has seen"
    seconds = sum({name: spent for record in records.values() for name, spent in record["runs"].items()}.values())
    commits = "; ".join(sorted({one for record in records.values() for one in record["commit"]}))
    lines = [
        f"Data: {first['data']['name']}; {exam}.",
        f"Scale {first['scale']['name']}: {first['scale']['tells']}.",
        *([f"Overridden in every rung: {' '.join(first['given'])}."] if first["given"] else []),
        f"Machine: {describe_machines(records)}; {seconds:,.0f} s of training and validation in all; {commits}.",
    ]  # fmt: skip
    leaks = any(record["leak"] for record in records.values())
    lines += [f"{LEAK} LEAK: a person stands on both sides of a fold; this is no score on new people."] if leaks else []
    return [*lines, *RULES]


def describe_machines(records: Mapping[str, Record]) -> str:
    """Return the machines of some rungs, each with its rungs where there are several."""
    found: dict[str, list[str]] = {}
    for rung, record in records.items():
        found.setdefault(", ".join(record["hardware"]), []).append(rung)
    return next(iter(found)) if len(found) == 1 else "; ".join(f"{one} ({', '.join(of)})" for one, of in found.items())


def title(ladder: str, key: str) -> str:
    """Return the name of a table."""
    return f"Ladder {ladder} · {key}"


def tables(folder: Path, ladder: str) -> dict[str, dict[str, Record]]:
    """Return the standings; where there is none, a table in which no rung was run."""
    return load_results(folder, ladder) or {"not run": {}}


def show(folder: Path, ladder: str) -> None:
    """Print a ladder's tables."""
    for key, records in tables(folder, ladder).items():
        console.print_table(title(ladder, key), BRIEF, terminal_rows(ladder, records))
        for line in captions(records):
            console.info(line, "dim")


def markdown(folder: Path, ladder: str) -> str:
    """Return a ladder's tables in Markdown."""
    parts = []
    for key, records in tables(folder, ladder).items():
        lines = [[cell.replace("\n", " ") for cell in HEAD], ["---"] * len(HEAD), *rows(ladder, records)]
        said = "\n".join(f"- {escape(line, quote=False)}" for line in captions(records))
        drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{title(ladder, key)}**\n\n{drawn}" + (f"\n\n{said}" if said else ""))
    return "\n\n".join(parts)
