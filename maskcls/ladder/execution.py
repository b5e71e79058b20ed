"""Training of the planned runs of a ladder, with an estimate of the time."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from maskcls.core.errors import MaskclsError
from maskcls.engine.runner import run_experiment
from maskcls.ladder.plan import PlannedRun, compose_config
from maskcls.ladder.rungs import Rung
from maskcls.ladder.time_estimate import estimate_time
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.console import format_duration


def train_runs(planned_runs: Sequence[PlannedRun], group: str | None = None) -> list[str]:
    """Train the unfinished runs, in a W&B group, and return the error messages; an error does not stop the others."""
    unique = {
        (Run.of(compose_config(planned.overrides)).id, str(planned.initial)): planned
        for planned in reversed(planned_runs)
    }
    unique_runs = list(reversed(unique.values()))  # rungs can share a run
    errors: list[str] = []
    remaining = [planned for planned in unique_runs if not try_run(planned.is_done, planned, errors)]
    remaining = [planned for planned in remaining if not any(error.startswith(f"{planned}: ") for error in errors)]
    finished = [planned for planned in unique_runs if planned not in remaining]
    console.info(f"{len(unique_runs) - len(remaining) - len(errors)} of {len(unique_runs)} runs are finished")
    expected, started_at = estimate_time(remaining, finished) if remaining else 0.0, time.monotonic()
    about = f" of about {format_duration(expected)}" if expected else ""
    for i, planned in enumerate(remaining):
        elapsed = format_duration(time.monotonic() - started_at)
        progress = f"{planned} ({i + 1}/{len(remaining)})"
        console.info(f"\n{progress}: {planned.rung.change}; {elapsed}{about}", "bold")
        with console.progress_prefix(progress):
            try_run(functools.partial(train_run, planned, group), planned, errors)
    return errors


def train_run(planned: PlannedRun, group: str | None) -> float:
    """Train a planned run, in a W&B group."""
    return run_experiment(planned.config(), planned.log_context(group))


def try_run(work: Callable[[], Any], planned: PlannedRun, errors: list[str]) -> Any:
    """Return the result of `work`, or None after adding its error to `errors` and printing it."""
    try:
        return work()
    except MaskclsError as error:
        errors.append(f"{planned}: {error}")
    except Exception as error:
        traceback.print_exc()
        errors.append(f"{planned}: {type(error).__name__}: {error}")
    console.error_console.print(console.escape_controls(errors[-1]), style="red", markup=False)
    return None


def finished_runs(planned_runs: Sequence[PlannedRun], rung: Rung, seeds: Sequence[int]) -> list[list[Run]] | None:
    """Return the finished runs of a rung for each seed (for a blend those of its members), None if one is missing."""
    seed_runs = []
    for seed in seeds:
        names = rung.members or (rung.name,)
        members = [
            planned
            for planned in planned_runs
            if planned.seed == seed and planned.rung.name in names and planned.rung.ladder == rung.ladder
        ]
        try:
            if len(members) < len(names) or not all(planned.is_done() for planned in members):
                return None
        except MaskclsError:  # train_runs has reported it
            return None
        seed_runs.append([Run.open(Run.of(planned.config()).path) for planned in members])
    return seed_runs
