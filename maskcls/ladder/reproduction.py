"""Reproduction of ladders: train the planned runs, then write results, tables, pages and a W&B run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskcls.components.loggers.base import LogContext
from maskcls.components.loggers.wandb_logger import Wandb
from maskcls.config.config_folders import resource_dir
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, MaskclsError, RunError, unknown_message
from maskcls.ladder.execution import finished_runs, train_runs
from maskcls.ladder.pages import write_pages
from maskcls.ladder.plan import (
    DatasetInfo,
    PlannedRun,
    ReproduceConfig,
    compose_config,
    has_requirements,
    inspect_dataset,
    missing_requirement,
    plan_runs,
    required_rungs,
)
from maskcls.ladder.results import IGNORED_OVERRIDES, build_record, delete_record, load_results, record_key, save_record
from maskcls.ladder.rungs import load_rungs
from maskcls.ladder.scales import SCALES
from maskcls.ladder.tables import HEAD, print_tables, table_rows
from maskcls.reporting.comparison import RunScores
from maskcls.system import console
from maskcls.system.files import check_writable


def reproduce(options: ReproduceConfig, keep: bool = False) -> None:
    """Train the rungs, record and print their results; raise RunError with all errors after the tables."""
    check_config(options)
    dataset = inspect_dataset(options)
    description = SCALES[options.scale].description
    console.info(f"{', '.join(options.ladders)} on {dataset.name}, scale={options.scale}: {description}", "bold")
    planned_runs = plan_runs(options, dataset)
    results_dir = Path(compose_config(planned_runs[0].overrides).runs_dir) / "ladders"
    keep_dir = resource_dir("experiments") / "results" if keep else None
    check_writable(runs_dir=str(results_dir), **({"keep": str(keep_dir)} if keep_dir else {}))
    group = f"{'-'.join(options.ladders)}-{options.scale}-{dataset.name.split()[0]}"
    required = {(ladder, rung) for ladder in options.ladders for rung in required_rungs(ladder, options.rungs)}
    errors = train_runs([run for run in planned_runs if (run.rung.ladder, run.rung.name) in required], group)
    for ladder in options.ladders:
        errors += record_rungs(ladder, planned_runs, options, dataset, results_dir, keep_dir)
        print_tables(results_dir, ladder)
    write_pages(results_dir, options.ladders)
    log_results(planned_runs[0], results_dir, options, group)
    if errors:
        raise RunError(f"{len(errors)} rungs failed. Run the same command to retry them:", *errors)


def log_results(planned: PlannedRun, folder: Path, options: ReproduceConfig, group: str) -> None:
    """Log the tables to W&B, in the group of the runs, if logger=wandb."""
    logger = compose_config(planned.overrides).logger.build(console.info, LogContext(group))
    if isinstance(logger, Wandb):
        tables = {f"Ladder {ladder} {i}": table_rows(ladder, records) for ladder in options.ladders
                  for i, records in enumerate(load_results(folder, ladder).values())}  # fmt: skip
        logger.log_tables(f"{'-'.join(options.ladders)}-{options.scale}", folder, HEAD, tables)


def check_config(cfg: ReproduceConfig) -> None:
    """Raise ConfigError with all errors of unknown rungs and of overrides that a rung cannot have."""
    names = [rung.name for ladder in cfg.ladders for rung in load_rungs(ladder)]
    errors = [unknown_message("rung", rung, names) for rung in cfg.rungs if rung not in names]
    errors += [
        f"{key} must not be empty" for key, value in {"ladder": cfg.ladders, "seeds": cfg.seeds}.items() if not value
    ]
    keys = {override.partition("=")[0] for override in cfg.overrides}
    known = {"ladder", "scale", "rungs", "seeds", "keep", *Config.__dataclass_fields__}
    unknown = [key for key in sorted(keys) if key.lstrip("+~").split(".")[0] not in known]
    errors += [unknown_message("key", key, known) for key in unknown]
    errors += [f"seed: set seeds={','.join(map(str, cfg.seeds))} for all rungs"] if "seed" in keys else []
    errors += ["fold: a rung trains all folds. Remove fold"] if "fold" in keys else []
    errors += [f"{key}: the rungs of winner set it. Remove {key}" for key in keys if key.startswith("pseudo")]
    required = [rung for name in cfg.ladders for rung in load_rungs(name) if rung.name in cfg.rungs]
    errors += [missing_requirement(rung) for rung in required if not has_requirements(rung)]
    if errors:
        raise ConfigError(*errors)


def record_rungs(
    ladder: str,
    planned_runs: Sequence[PlannedRun],
    options: ReproduceConfig,
    dataset: DatasetInfo,
    results_dir: Path,
    keep_dir: Path | None,
) -> list[str]:
    """Record each rung whose runs are finished, with its difference to its parent, and return the error messages.

    The records of rungs without finished runs are deleted.
    """
    rung_runs = {rung.name: finished_runs(planned_runs, rung, options.seeds) for rung in load_rungs(ladder)}
    scores: dict[str, RunScores] = {}
    given = [override for override in options.overrides if not IGNORED_OVERRIDES.match(override)]
    scale = {"name": options.scale, "tells": SCALES[options.scale].description,
             "stand_ins": SCALES[options.scale].substitutes}  # fmt: skip
    settings = {"data": {"name": dataset.name, "photo": list(dataset.image_size)}, "scale": scale, "given": given}
    errors = []
    for rung in load_rungs(ladder):
        try:
            if seeds := rung_runs[rung.name]:
                scores[rung.name] = RunScores.of(seeds, rung.is_ensemble)
        except MaskclsError as error:
            errors.append(f"{ladder}={rung.name}: {error}")
    for rung in load_rungs(ladder):
        if rung.name not in scores:
            if not has_requirements(rung):
                continue  # it may have been run where they are there
            delete_record(results_dir, rung, record_key(settings))
            continue
        parent = scores.get(rung.parent or "")
        record = build_record(rung, scores[rung.name], parent, rung_runs[rung.name] or [], **settings)
        for folder in filter(None, (results_dir, keep_dir)):
            save_record(folder, record)
    return errors
