"""A reproduction from the first question to the closing tables, as JSON, Markdown, HTML, plots and a W&B run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
from maskcls.ladder.rungs import rungs
from maskcls.ladder.scales import SCALES
from maskcls.ladder.tables import HEAD, rows, show
from maskcls.reporting.comparison import RunScores
from maskcls.system import console
from maskcls.system.files import check_writable


def reproduce(asked: ReproduceConfig, keep: bool = False) -> None:
    """Train the rungs, record and print their results; raise RunError for the rungs that failed, after the tables."""
    check_config(asked)
    land = inspect_dataset(asked)
    tells = SCALES[asked.scale].description
    console.info(f"{', '.join(asked.ladders)} on {land.name}, scale={asked.scale}: {tells}", "bold")
    steps = plan_runs(asked, land)
    place = Path(compose_config(steps[0].overrides).runs_dir) / "ladders"
    kept = resource_dir("experiments") / "results" if keep else None
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


def check_config(cfg: ReproduceConfig) -> None:
    """Raise ConfigError with all errors of unknown rungs and of overrides that a rung cannot have."""
    names = [rung.name for ladder in cfg.ladders for rung in rungs(ladder)]
    errors = [unknown_message("rung", rung, names) for rung in cfg.only if rung not in names]
    errors += [
        f"{key} must not be empty" for key, value in {"ladder": cfg.ladders, "seeds": cfg.seeds}.items() if not value
    ]
    keys = {override.partition("=")[0] for override in cfg.given}
    known = {"ladder", "scale", "rungs", "seeds", "keep", *Config.__dataclass_fields__}
    unknown = [key for key in sorted(keys) if key.lstrip("+~").split(".")[0] not in known]
    errors += [unknown_message("key", key, known) for key in unknown]
    errors += [f"seed: set seeds={','.join(map(str, cfg.seeds))} for all rungs"] if "seed" in keys else []
    errors += ["fold: a rung trains all folds. Remove fold"] if "fold" in keys else []
    if errors:
        raise ConfigError(*errors)


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
