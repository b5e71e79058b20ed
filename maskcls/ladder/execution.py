"""Climbing: every step that is not done is estimated, then trained, each from where it stands."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from maskcls.core.errors import MaskclsError
from maskcls.engine.runner import run_experiment
from maskcls.ladder.plan import PlannedRun, compose_config
from maskcls.ladder.rungs import Rung
from maskcls.ladder.time_estimate import estimate
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.console import format_duration


def train_runs(steps: Sequence[PlannedRun]) -> list[str]:
    """Train the steps that are not done and return a sentence for each that failed; the others go on."""
    several = {(Run.of(compose_config(step.overrides)).id, str(step.initial)): step for step in reversed(steps)}
    every = list(reversed(several.values()))  # rungs can share a run
    failed: list[str] = []
    left = [step for step in every if not try_run(step.is_done, step, failed)]
    left = [step for step in left if not any(told.startswith(f"{step}: ") for told in failed)]
    console.info(f"{len(every) - len(left) - len(failed)} of {len(every)} runs are done")
    expected, begun = estimate(left) if left else 0.0, time.monotonic()
    for i, step in enumerate(left):
        passed = format_duration(time.monotonic() - begun)
        console.info(
            f"\n{step} ({i + 1}/{len(left)}): {step.rung.change}; {passed} of about {format_duration(expected)}", "bold"
        )
        with console.progress_prefix(f"{step} ({i + 1}/{len(left)})"):
            try_run(lambda step=step: run_experiment(step.config()), step, failed)  # type: ignore[misc]
    return failed


def try_run(work: Callable[[], Any], step: PlannedRun, failed: list[str]) -> Any:
    """Return what some work returns; a fault of one rung, such as memory, is kept and the others go on."""
    try:
        return work()
    except MaskclsError as error:
        failed.append(f"{step}: {error}")
    except Exception as error:
        traceback.print_exc()
        failed.append(f"{step}: {type(error).__name__}: {error}")
    console.error_console.print(console.escape_controls(failed[-1]), style="red", markup=False)
    return None


def finished_runs(steps: Sequence[PlannedRun], rung: Rung, seeds: Sequence[int]) -> list[list[Run]] | None:
    """Return a rung's finished runs, one for each seed (its members' where it blends); None where one is missing."""
    found = []
    for seed in seeds:
        names = rung.members or (rung.name,)
        mine = [
            step for step in steps if step.seed == seed and step.rung.name in names and step.rung.ladder == rung.ladder
        ]
        try:
            if len(mine) < len(names) or not all(step.is_done() for step in mine):
                return None
        except MaskclsError:  # the climb has said it
            return None
        found.append([Run.open(Run.of(step.config()).path) for step in mine])
    return found
