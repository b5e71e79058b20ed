"""A reproduction from the first question to the closing tables, as JSON, Markdown, HTML, plots and a W&B run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from maskcls.components.logger import Wandb
from maskcls.config.overrides import resource_dir
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, MaskclsError, RunError, unknown_message
from maskcls.ladder.execution import finished_runs, train_runs
from maskcls.ladder.pages import pages
from maskcls.ladder.plan import (
    DatasetInfo,
    PlannedRun,
    ReproduceConfig,
    compose_config,
    inspect_dataset,
    plan_runs,
    required_rungs,
)
from maskcls.ladder.results import PLACES, build_record, delete_record, load_results, name, save_record
from maskcls.ladder.rungs import LADDERS, rungs
from maskcls.ladder.scales import SCALES
from maskcls.ladder.tables import HEAD, rows, show
from maskcls.reporting.comparison import RunScores
from maskcls.system import console
from maskcls.system.files import check_writable

Words = Mapping[str, tuple[str, ...]]


def reproduce(own: Words, given: tuple[str, ...]) -> None:
    """Do all that a command line asks for; a RunError names the rungs that failed, after the tables."""
    asked = parse_options(own, given)
    land = inspect_dataset(asked)
    tells = SCALES[asked.scale].description
    console.info(f"{', '.join(asked.ladders)} on {land.name}, scale={asked.scale}: {tells}", "bold")
    steps = plan_runs(asked, land)
    place = Path(compose_config(steps[0].overrides).runs_dir) / "ladders"
    kept = resource_dir("experiments") / "results" if own["keep"] == ("true",) else None
    check_writable(runs_dir=str(place), **({"keep": str(kept)} if kept else {}))
    with wandb_group(f"{'-'.join(asked.ladders)}-{asked.scale}-{land.name.split()[0]}"):
        failed = train_runs([step for step in steps if step.rung.name in required_rungs(step.rung.ladder, asked.only)])
        for ladder in asked.ladders:
            failed += record_rungs(ladder, steps, asked, land, place, kept)
            show(place, ladder)
        pages(place, asked.ladders)
        log(steps[0], place, asked)
    if failed:
        raise RunError(f"{len(failed)} rungs failed; the same command tries them again:", *failed)


@contextmanager
def wandb_group(name: str) -> Iterator[None]:
    """Make one group of all W&B runs that begin here."""
    before = os.environ.get("MASKCLS_SWEEP")
    os.environ["MASKCLS_SWEEP"] = name
    try:
        yield
    finally:
        os.environ.pop("MASKCLS_SWEEP") if before is None else os.environ.update(MASKCLS_SWEEP=before)


def log(step: PlannedRun, folder: Path, asked: ReproduceConfig) -> None:
    """Log the closing tables to W&B, in the group of the runs, where their logger is W&B."""
    sink = compose_config(step.overrides).logger.build(console.info)
    if isinstance(sink, Wandb):
        tables = {f"Ladder {ladder} {i}": rows(ladder, records) for ladder in asked.ladders
                  for i, records in enumerate(load_results(folder, ladder).values())}  # fmt: skip
        sink.log_tables(f"{'-'.join(asked.ladders)}-{asked.scale}", folder, HEAD, tables)


def parse_options(own: Words, given: tuple[str, ...]) -> ReproduceConfig:
    """Return what is asked for; a ConfigError names what is not known, all of it at once."""
    faults = [f"seeds: {seed!r} is no whole number" for seed in own["seeds"] if not seed.isdecimal()]
    faults += [f"{key}: nothing is asked for" for key in ("seeds", "ladder") if not own[key]]
    faults += [f"scale: {len(own['scale'])} are asked for, one is wanted"] if len(own["scale"]) != 1 else []
    for key, words in (("keep", ("true", "false")), ("scale", SCALES), ("ladder", LADDERS)):
        faults += [unknown_message(key, word, words) for word in own[key] if word not in words]
    names = [rung.name for ladder in own["ladder"] if ladder in LADDERS for rung in rungs(ladder)]
    faults += [unknown_message("rung", rung, names) for rung in own["rungs"] if names and rung not in names]
    keys = {word.partition("=")[0] for word in given}
    known = {*own, *Config.__dataclass_fields__}
    faults += [
        unknown_message("key", key, known) for key in sorted(keys) if key.lstrip("+~").split(".")[0] not in known
    ]
    faults += [f"seed: give seeds={','.join(own['seeds']) or '0,1'} for all rungs"] if "seed" in keys else []
    faults += ["fold: a rung is all of its folds"] if "fold" in keys else []
    if faults:
        raise ConfigError(*faults)
    seeds = tuple(dict.fromkeys(map(int, own["seeds"])))
    return ReproduceConfig(tuple(dict.fromkeys(own["ladder"])), own["scale"][0], seeds, own["rungs"], given)


def record_rungs(
    ladder: str, steps: Sequence[PlannedRun], asked: ReproduceConfig, land: DatasetInfo, place: Path, kept: Path | None
) -> list[str]:
    """Record each rung whose runs stand, with its difference to its parent; return a sentence for each that cannot be.

    A record of other runs than those asked for goes.
    """
    standing_runs = {rung.name: finished_runs(steps, rung, asked.seeds) for rung in rungs(ladder)}
    outcomes: dict[str, RunScores] = {}
    given = [word for word in asked.given if not PLACES.match(word)]
    scale = {"name": asked.scale, "tells": SCALES[asked.scale].description}
    about = {"data": {"name": land.name, "photo": list(land.photo)}, "scale": scale, "given": given}
    faults = []
    for rung in rungs(ladder):
        try:
            if seeds := standing_runs[rung.name]:
                outcomes[rung.name] = RunScores.of(seeds, rung.ensemble)
        except MaskclsError as error:
            faults.append(f"{ladder}={rung.name}: {error}")
    for rung in rungs(ladder):
        if rung.name not in outcomes:
            delete_record(place, rung, name(about))
            continue
        below = outcomes.get(rung.below or "")
        one = build_record(rung, outcomes[rung.name], below, standing_runs[rung.name] or [], **about)
        for folder in filter(None, (place, kept)):
            save_record(folder, one)
    return faults
