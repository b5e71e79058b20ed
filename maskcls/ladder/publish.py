"""A reproduction from the first question to the closing tables, as JSON, Markdown, HTML, plots and a W&B run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from maskcls import console, plots
from maskcls.cli import home
from maskcls.errors import ConfigError, RunError, unknown
from maskcls.ladder import standing
from maskcls.ladder.climb import Asked, Ground, Step, climb, ground, planned, runs, settled
from maskcls.ladder.outcome import Outcome
from maskcls.ladder.rungs import LADDERS, rungs
from maskcls.ladder.scales import SCALES
from maskcls.parts.logger import Wandb
from maskcls.report import uri
from maskcls.rundir import write, write_text

Words = Mapping[str, tuple[str, ...]]


def reproduce(own: Words, given: tuple[str, ...]) -> None:
    """Do all that a command line asks for; a RunError names the rungs that failed, after the tables."""
    wanted = understood(own, given)
    land = ground(wanted)
    console.say(
        f"{', '.join(wanted.ladders)} on {land.name}, scale={wanted.scale}: {SCALES[wanted.scale].tells}", "bold"
    )
    os.environ["MASKCLS_SWEEP"] = f"{'-'.join(wanted.ladders)}-{wanted.scale}"  # one group at W&B
    steps = planned(wanted, land)
    failed = climb(steps)
    place = Path(settled(steps[0].words).runs_dir) / "ladders"
    for ladder in wanted.ladders:
        conclude(ladder, steps, wanted, land, [place, *([home("experiments") / "results"] if kept(own) else [])])
        standing.show(place, ladder)
    pages(place, wanted.ladders)
    told(steps[0], place, wanted)
    if failed:
        raise RunError(f"{len(failed)} rungs failed; the same command tries them again:", *failed)


def told(step: Step, folder: Path, asked: Asked) -> None:
    """Log the closing tables to W&B, in the group of the runs, where their logger is W&B."""
    sink = settled(step.words).logger(console.say)
    if isinstance(sink, Wandb):
        tables = {standing.title(ladder, key): standing.rows(ladder, records) for ladder in asked.ladders
                  for key, records in standing.standings(folder, ladder).items()}  # fmt: skip
        sink.publish(f"{'-'.join(asked.ladders)}-{asked.scale}", folder, standing.HEAD, tables)


def understood(own: Words, given: tuple[str, ...]) -> Asked:
    """Return what is asked for; a ConfigError names what is not known, all of it at once."""
    faults = [f"seeds: {seed!r} is no whole number" for seed in own["seeds"] if not seed.isdecimal()]
    faults += [f"scale: {len(own['scale'])} are asked for, one is wanted"] if len(own["scale"]) != 1 else []
    faults += [unknown("keep", word, ("true", "false")) for word in own["keep"] if word not in ("true", "false")]
    faults += [unknown("scale", word, SCALES) for word in own["scale"] if word not in SCALES]
    faults += [unknown("ladder", ladder, LADDERS) for ladder in own["ladder"] if ladder not in LADDERS]
    names = [rung.name for ladder in own["ladder"] if ladder in LADDERS for rung in rungs(ladder)]
    faults += [unknown("rung", rung, names) for rung in own["rungs"] if names and rung not in names]
    if faults:
        raise ConfigError(*faults)
    return Asked(own["ladder"], own["scale"][0], tuple(map(int, own["seeds"])), own["rungs"], given)


def kept(own: Words) -> bool:
    """Tell whether results go into experiments/results."""
    return own["keep"] == ("true",)


def conclude(ladder: str, steps: Sequence[Step], asked: Asked, land: Ground, folders: Sequence[Path]) -> None:
    """Record each rung whose runs stand, with its difference to the rung below."""
    outcomes: dict[str, Outcome] = {}
    told = {"name": asked.scale, "tells": SCALES[asked.scale].tells}
    about = {"data": {"name": land.name, "photo": list(land.photo)}, "scale": told}
    for rung in rungs(ladder):
        seeds = runs(steps, rung, asked.seeds)
        if seeds is None:
            continue
        one, outcomes[rung.name] = standing.record(rung, seeds, outcomes.get(rung.below or ""), **about)
        for folder in folders:
            standing.keep(folder, one)


def pages(folder: Path, ladders: Sequence[str]) -> None:
    """Write each ladder's tables as a page and as Markdown, and its plots as PNG."""
    for ladder in ladders:
        for i, records in enumerate(standing.standings(folder, ladder).values()):
            image = plots.png(standing.figure(ladder, records, plots.LIGHT))
            write(folder / f"{ladder}{f'-{i}' if i else ''}.png", lambda file, image=image: file.write(image))  # type: ignore[misc]
        write_text(folder / f"{ladder}.md", standing.markdown(folder, ladder) + "\n")
    write_text(folder / "ladders.html", page(folder, ladders))
    console.say(str(folder / "ladders.html"))


def page(folder: Path, ladders: Sequence[str]) -> str:
    """Return one self-contained HTML page of ladders: each table with its plot."""
    from jinja2 import Environment, FileSystemLoader

    tables = []
    for ladder in ladders:
        for key, records in standing.standings(folder, ladder).items():
            images = [
                uri("png", plots.png(standing.figure(ladder, records, dress))) for dress in (plots.LIGHT, plots.DARK)
            ]
            told = {"rows": standing.rows(ladder, records), "captions": standing.captions(records)}
            tables.append({"name": standing.title(ladder, key), "images": images, **told})
    engine = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    return engine.get_template("ladder.html.j2").render(title="Ladders", head=standing.HEAD, tables=tables)
