"""Where a ladder stands: records of its rungs as JSON, and the table and the plot that are made of them alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls import console, plots
from maskcls.errors import DataError
from maskcls.ladder.outcome import Outcome, facts
from maskcls.ladder.rungs import Rung, rungs
from maskcls.predictor import Finished
from maskcls.rundir import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = dict[str, Any]
BRIEF = (
    "rung\n", "published\nF1, accuracy", "out of fold\nF1, accuracy", "evaluation, one fold\nF1, accuracy",
    "evaluation, ensemble\nF1, accuracy", "F1 to the rung below\n[95 %]", "\nseconds",
)  # fmt: skip
HEAD = (
    "rung", "published\nF1", "published\naccuracy", "out-of-fold\nF1", "out-of-fold\naccuracy",
    "evaluation F1\none fold", "evaluation F1\nensemble", "evaluation\naccuracy", "F1 to the rung\nbelow [95 %]",
    "seeds", "seconds",
)  # fmt: skip
NOT_RUN = ["not run", *[""] * 7]
LEAK = "†"
RULES = (
    "Published scores are of the competition's hidden people; ours are of other photos: they stand beside each other, "
    "never on one scale.",
    "Intervals are 95 % bootstrap intervals over people, paired where they are of a difference; they hold what other "
    "people would change, not what another seed of the training would. ± is the sample's standard deviation over folds "
    "(and seeds).",
)


def record(
    rung: Rung, seeds: Sequence[Sequence[Finished]], below: Outcome | None, **about: Any
) -> tuple[Record, Outcome]:
    """Return what is kept of a rung that was run, and its outcome for the rung above to be compared with."""
    outcome = Outcome.of(seeds, rung.ensemble)
    metrics = json.loads((seeds[0][0].path / "metrics.json").read_text())
    apart = outcome.against(below) if below else None
    return {
        "ladder": rung.ladder, "rung": rung.name, "change": rung.change, "published": dict(rung.published), **about,
        "leak": metrics["people_on_both_sides"], "scores": outcome.numbers(), "below": rung.below, "difference": apart,
        **facts(seeds),
    }, outcome  # fmt: skip


def keep(folder: Path, record: Record) -> None:
    """Add a record to the rung's file, in place of one of the same data and scale."""
    path = folder / record["ladder"] / f"{record['rung']}.json"
    write_json(path, dict(sorted((read(path) | {name(record): record}).items())))


def read(path: Path) -> dict[str, Record]:
    """Return a rung's records by data and scale, none where there is no file."""
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read as results: {error}") from error


def name(record: Record) -> str:
    """Return what tells records of one rung apart."""
    return f"{record['data']['name']}, scale {record['scale']['name']}"


def standings(folder: Path, ladder: str) -> dict[str, dict[str, Record]]:
    """Return {data and scale: {rung: record}} of a ladder."""
    found: dict[str, dict[str, Record]] = {}
    for rung in rungs(ladder):
        for key, one in read(folder / ladder / f"{rung.name}.json").items():
            found.setdefault(key, {})[rung.name] = one
    return found


def rows(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the table's rows, the lowest rung first; one that was never run says so."""
    return [[rung.name, *published(rung), *(measured(records[rung.name]) if rung.name in records else NOT_RUN)]
            for rung in rungs(ladder)]  # fmt: skip


def published(rung: Rung) -> list[str]:
    """Return the published F1 and accuracy."""
    f1, accuracy = rung.published.get("f1"), rung.published.get("accuracy")
    return ["–" if f1 is None else f"{f1:.3f}", "–" if accuracy is None else f"{accuracy / 100:.3f}"]


def measured(record: Record) -> list[str]:
    """Return the cells of a rung that was run."""
    scores, mark = record["scores"], f" {LEAK}" if record["leak"] else ""
    oof, single, ensemble = (scores.get(kind) for kind in ("oof", "single", "ensemble"))
    answer = ensemble if scores["answer"] == "ensemble" else single
    return [
        cell(oof) + mark, f"{oof['accuracy']:.3f}", cell(single, spread=True),
        cell(ensemble) if several(record) else "", f"{answer['accuracy']:.3f}" if answer else "",
        apart(record["difference"]), str(record["seeds"]), f"{record['seconds']:,.0f}",
    ]  # fmt: skip


def brief(ladder: str, records: Mapping[str, Record]) -> list[list[str]]:
    """Return the rows of the terminal's table, which is narrower: intervals of the differences alone."""
    lines = []
    for rung in rungs(ladder):
        line, one = [rung.name, ", ".join(published(rung))], records.get(rung.name)
        if one is None:
            lines.append([*line, "not run", *[""] * 4])
            continue
        kinds = [one["scores"].get(kind) for kind in ("oof", "single", "ensemble" if several(one) else "")]
        pairs = [f"{kind['f1']:.3f}, {kind['accuracy']:.3f}" if kind else "" for kind in kinds]
        pairs[0] += f" {LEAK}" if one["leak"] else ""
        lines.append([*line, *pairs, apart(one["difference"]), f"{one['seconds']:,.0f}"])
    return lines


def several(record: Record) -> bool:
    """Tell whether an ensemble is more than one model."""
    single = record["scores"].get("single")
    return single is None or single["tables"] > record["seeds"]


def cell(scores: Record | None, spread: bool = False) -> str:
    """Return F1 with its interval, or with its standard deviation over folds."""
    if scores is None:
        return ""
    low, high = scores["interval"]
    span = f"± {scores['f1_sd']:.3f}" if spread and "f1_sd" in scores else f"[{low:.3f}, {high:.3f}]"
    return f"{scores['f1']:.3f} {span}"


def apart(difference: Record | None) -> str:
    """Return a difference with its interval; out-of-fold ones are marked as such."""
    if difference is None:
        return ""
    low, high = difference["interval"]
    where = " (out of fold)" if difference["rows"] == "oof" else ""
    return f"{difference['f1']:+.3f} [{low:+.3f}, {high:+.3f}]{where}"


def captions(records: Mapping[str, Record]) -> list[str]:
    """Return the sentences that a table cannot do without: data, scale, machine, leak, and how to read it."""
    first = next(iter(records.values()))
    scores = next((r["scores"]["single"] for r in records.values() if r["scores"].get("single")), None)
    exam = "no labelled evaluation photos"
    if scores:
        exam = f"{scores['photos']:,} labelled evaluation photos of {scores['people']} people"
    machines = sorted({record["hardware"] for record in records.values()})
    total = sum(seconds for _, seconds in {tuple(r["runs"]): r["seconds"] for r in records.values()}.items())
    commits = ", ".join(sorted({str(record["commit"]) for record in records.values()}))
    lines = [
        f"Data: {first['data']['name']}, {first['scores']['oof']['photos']:,} out-of-fold photos of "
        f"{first['scores']['oof']['people']} people on the lowest rung, {exam}.",
        f"Scale {first['scale']['name']}: {first['scale']['tells']}.",
        f"Machine: {'; '.join(machines)}; {total:,.0f} s of training and validation in all; commit {commits}.",
    ]  # fmt: skip
    leaks = any(record["leak"] for record in records.values())
    lines += [f"{LEAK} LEAK: a person stands on both sides of a fold; this is no score on new people."] if leaks else []
    return [*lines, *RULES]


def title(ladder: str, key: str) -> str:
    """Return the name of a table."""
    return f"Ladder {ladder} · {key}"


def show(folder: Path, ladder: str) -> None:
    """Print a ladder's tables."""
    for key, records in standings(folder, ladder).items():
        console.table(title(ladder, key), BRIEF, brief(ladder, records))
        for line in captions(records):
            console.say(line, "dim")


def markdown(folder: Path, ladder: str) -> str:
    """Return a ladder's tables in Markdown."""
    parts = []
    for key, records in standings(folder, ladder).items():
        lines = [[cell.replace("\n", " ") for cell in HEAD], ["---"] * len(HEAD), *rows(ladder, records)]
        told = "\n".join(f"- {line}" for line in captions(records))
        parts.append(
            f"**{title(ladder, key)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{told}"
        )
    return "\n\n".join(parts)


def figure(ladder: str, records: Mapping[str, Record], dress: plots.Dress) -> Figure:
    """Return the climb: the published scores and ours as two lines over the rungs, ours with intervals."""
    names = [rung.name for rung in rungs(ladder)]
    canvas, (ax,) = plots.canvas(dress, max(6.0, 1.1 * len(names)), 4.2)
    told = [(i, rung.published["f1"]) for i, rung in enumerate(rungs(ladder)) if "f1" in rung.published]
    ax.plot(*zip(*told, strict=True), "o--", color=dress.series[1], label="published (leaderboard of the competition)")
    ours = [(names.index(rung), one["scores"][one["scores"]["answer"]]) for rung, one in records.items()]
    if ours:
        first = next(iter(records.values()))
        x, f1 = [i for i, _ in ours], [scores["f1"] for _, scores in ours]
        ends = [[s["f1"] - s["interval"][0] for _, s in ours], [s["interval"][1] - s["f1"] for _, s in ours]]
        label = f"ours ({name(first)}; 95 % over people)"
        ax.errorbar(x, f1, np.maximum(ends, 0), fmt="o-", color=dress.series[0], capsize=3, label=label)
    ax.set_xticks(range(len(names)), names, rotation=25, ha="right")
    ax.set_ylim(0, 1)
    plots.words(ax, dress, "", "macro F1", f"Ladder {ladder}")
    plots.legend(ax, dress, loc="best")
    return canvas
