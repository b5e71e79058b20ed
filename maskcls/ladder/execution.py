"""Climbing: every step that is not done is estimated, then trained, each from where it stands."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

from maskcls.core.config import Config
from maskcls.core.errors import MaskclsError
from maskcls.core.table import count, eval_rows, scored_rows, training_rows
from maskcls.data.assemble import assemble
from maskcls.engine.runner import directory, perform
from maskcls.engine.sanity_check import photo_size
from maskcls.engine.train_state import build
from maskcls.ladder.plan import Step, settled
from maskcls.ladder.rungs import Rung
from maskcls.storage.run import Finished, opened
from maskcls.system import console
from maskcls.system.console import span

QUICKER = 3  # times that a photo is predicted in the time that it is trained on


def work(cfg: Config) -> tuple[int, float]:
    """Return a run's folds, and the photos it trains on in all (a predicted photo counts as a part of one)."""
    table = assemble(cfg, lambda note: None)
    folds, seen = count(table), 0.0
    for k in range(folds):
        predicted = len(scored_rows(table, k)) * (cfg.epochs + 1) + len(eval_rows(table))
        seen += len(training_rows(table, k)) * cfg.epochs + predicted / QUICKER
    return folds, seen


def pace(cfg: Config, known: dict[str, float]) -> float:
    """Return the photos/s of training a config's model here: one measured step after one that is not."""
    (height, width), hardware = photo_size(cfg), cfg.hardware()
    size = (height or 224, width or 224)
    key = f"{sorted(cfg.model.params.items(), key=str)} {size}"
    if key not in known:
        state = build(cfg, cfg.head(), hardware, size, 0)
        photos = torch.rand(8, 3, *size, device=hardware.device)
        for _ in range(2):
            begun = time.perf_counter()
            state.model.train()(photos).sum().backward()
            float(next(state.model.parameters()).detach().sum())  # waits for a GPU
            known[key] = len(photos) / (time.perf_counter() - begun)
    return known[key]


def estimate(steps: Sequence[Step]) -> float:
    """Say what is to be done and return about how many seconds it will take on this machine.

    A step that cannot be judged is left out; its training will say why.
    """
    known: dict[str, float] = {}
    seconds, folds, epochs = 0.0, 0, 0
    for step in console.track(steps, len(steps), "estimating"):
        with contextlib.suppress(MaskclsError, RuntimeError):
            cfg = settled(step.words)
            some, seen = work(cfg)
            seconds, folds, epochs = seconds + seen / pace(cfg, known), folds + some, epochs + some * cfg.epochs
    console.say(f"to train: {len(steps)} runs, {folds} folds, {epochs} epochs; about {span(seconds)} on this machine")
    return seconds


def climb(steps: Sequence[Step]) -> list[str]:
    """Train the steps that are not done and return a sentence for each that failed; the others go on."""
    several = {(directory(settled(step.words)).id, str(step.init)): step for step in reversed(steps)}
    every = list(reversed(several.values()))  # rungs can share a run
    failed: list[str] = []
    left = [step for step in every if not attempted(step.done, step, failed)]
    left = [step for step in left if not any(told.startswith(f"{step}: ") for told in failed)]
    console.say(f"{len(every) - len(left) - len(failed)} of {len(every)} runs are done")
    expected, begun = estimate(left) if left else 0.0, time.monotonic()
    for i, step in enumerate(left):
        passed = span(time.monotonic() - begun)
        console.say(f"\n{step} ({i + 1}/{len(left)}): {step.rung.change}; {passed} of about {span(expected)}", "bold")
        with console.within(f"{step} ({i + 1}/{len(left)})"):
            attempted(lambda step=step: perform(step.config()), step, failed)  # type: ignore[misc]
    return failed


def attempted(work: Callable[[], Any], step: Step, failed: list[str]) -> Any:
    """Return what some work returns; a fault of one rung, such as memory, is kept and the others go on."""
    try:
        return work()
    except MaskclsError as error:
        failed.append(f"{step}: {error}")
    except Exception as error:
        traceback.print_exc()
        failed.append(f"{step}: {type(error).__name__}: {error}")
    console.errors.print(console.escape_controls(failed[-1]), style="red", markup=False)
    return None


def runs(steps: Sequence[Step], rung: Rung, seeds: Sequence[int]) -> list[list[Finished]] | None:
    """Return a rung's finished runs, one for each seed (its members' where it blends); None where one is missing."""
    found = []
    for seed in seeds:
        names = rung.members or (rung.name,)
        mine = [
            step for step in steps if step.seed == seed and step.rung.name in names and step.rung.ladder == rung.ladder
        ]
        try:
            if len(mine) < len(names) or not all(step.done() for step in mine):
                return None
        except MaskclsError:  # the climb has said it
            return None
        found.append([opened(directory(step.config()).path) for step in mine])
    return found
