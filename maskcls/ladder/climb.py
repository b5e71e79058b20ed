"""Climbing: every rung of the asked ladders is planned and checked first, then trained, each from where it stands."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from maskcls import console, experiment, rows
from maskcls.cli import compose
from maskcls.config import Config, checked
from maskcls.errors import ConfigError, MaskclsError, RunError
from maskcls.ladder.rungs import Rung, rungs
from maskcls.ladder.scales import SCALES, overrides
from maskcls.photos import photo
from maskcls.predictor import Finished, opened
from maskcls.state import build

EXAM = 0.2  # of the people, at a smaller scale, where the data has no labelled evaluation photos
QUICKER = 3  # times that a photo is predicted in the time that it is trained on


@dataclass(frozen=True)
class Asked:
    """What a climb is asked for."""

    ladders: tuple[str, ...]
    scale: str
    seeds: tuple[int, ...]
    only: tuple[str, ...]  # rungs; empty: all
    given: tuple[str, ...]  # overrides for every run


@dataclass(frozen=True)
class Ground:
    """The data that a ladder stands on."""

    name: str
    photo: tuple[int, int]  # height and width
    people: int  # labelled, in training
    labelled: bool  # whether evaluation photos have labels


@dataclass(frozen=True)
class Step:
    """A rung with one seed: the command line of its run."""

    rung: Rung
    seed: int
    words: tuple[str, ...]
    init: Step | None  # the step whose weights this one begins with

    def config(self) -> Config:
        """Return the checked config; a RunError where the run that it begins with is not done."""
        if self.init is None:
            return settled(self.words)
        if not (begun := experiment.directory(self.init.config()).path / "metrics.json").exists():
            raise RunError(f"{self.rung.name} begins with the weights of {self.init.rung.name}, whose run is not done")
        return settled((*self.words, f"model.init={begun.parent}"))

    def done(self) -> bool:
        """Tell whether the run stands, of the data that is there now."""
        try:
            cfg = self.config()
        except RunError:
            return False
        return experiment.finished(cfg, experiment.directory(cfg)) is not None


@cache
def settled(words: tuple[str, ...]) -> Config:
    """Return the checked config of a command line."""
    return checked(compose(*words))


def small_drawing(asked: Asked) -> tuple[str, ...]:
    """Return the size of the drawn set at scale smoke, unless other data or another size is asked for."""
    asks = any(word.startswith("data") for word in asked.given)
    return () if asks or asked.scale != "smoke" else ("data.people=24", "data.eval_people=8")


def ground(asked: Asked) -> Ground:
    """Return what there is to know of the data before anything is planned."""
    about = [word for word in asked.given if re.match(r"(data|plugins)\b", word)]  # others may be of a rung's words
    data = settled((*about, *small_drawing(asked))).data
    table = data(lambda note: None)
    place = data.params.get("root") or data.params.get("file") or Path(table["path"].iloc[0]).parents[3]
    height, width = photo(table["path"].iloc[0]).shape[:2]
    people = table.loc[table["part"] == "train", "person"].nunique()
    labelled = bool(((table["part"] == "eval") & (table["label"] >= 0)).any())
    return Ground("drawn people" if data.name == "synthetic" else Path(place).stem, (height, width), people, labelled)


def planned(asked: Asked, land: Ground) -> list[Step]:
    """Return the steps of all asked rungs and seeds, each after those it needs; all faults are told at once."""
    steps: list[Step] = []
    faults: list[str] = []
    for ladder in asked.ladders:
        for seed in asked.seeds:
            made: dict[str, Step] = {}
            for rung in wanted(ladder, asked.only):
                try:
                    made[rung.name] = Step(rung, seed, words(rung, seed, asked, land), made.get(rung.init or ""))
                    settled(made[rung.name].words)
                except MaskclsError as error:
                    faults += [f"{ladder}={rung.name}: {sentence}" for sentence in error.sentences]
            steps += [step for step in made.values() if not step.rung.members]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return steps


def wanted(ladder: str, only: Sequence[str]) -> list[Rung]:
    """Return the asked rungs of a ladder with those that they need, the lowest first."""
    every = {rung.name: rung for rung in rungs(ladder)}
    names = [name for name in only if name in every] if only else list(every)
    for name in names:
        names += [need for need in every[name].needs if need not in names]
    return [rung for rung in every.values() if rung.name in names]


def words(rung: Rung, seed: int, asked: Asked, land: Ground) -> tuple[str, ...]:
    """Return the command line of a rung at a scale; what the user gives comes last and wins."""
    base = [f"{rung.ladder}={rung.name}", *small_drawing(asked), *(["model.init=null"] if rung.init else [])]
    wished = SCALES[asked.scale]
    people = min(land.people, wished.people or land.people)
    if people < land.people:
        base.append(f"people={people}")
    if wished.people and not land.labelled:
        base.append(f"exam={EXAM}")
        people = round(people * (1 - EXAM))
    raw = settled((*base, "model.pretrained=false", *asked.given)).filled()
    return (*base, *overrides(wished, raw, land.photo, round(people * 7 * 0.8)), *asked.given, f"seed={seed}")


def work(cfg: Config) -> tuple[int, float]:
    """Return a run's folds, and the photos it trains on in all (a predicted photo counts as a part of one)."""
    table = rows.assemble(cfg, lambda note: None)
    folds, seen = rows.count(table), 0.0
    for k in range(folds):
        predicted = len(rows.scored_rows(table, k)) * (cfg.epochs + 1) + len(rows.eval_rows(table))
        seen += len(rows.training_rows(table, k)) * cfg.epochs + predicted / QUICKER
    return folds, seen


def pace(cfg: Config, known: dict[str, float]) -> float:
    """Return the photos/s of training a config's model here: one measured step after one that is not."""
    (height, width), hardware = experiment.photo_size(cfg), cfg.hardware()
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
    """Say what is to be done and return about how many seconds it will take on this machine."""
    known: dict[str, float] = {}
    seconds, folds, epochs = 0.0, 0, 0
    for step in console.track(steps, len(steps), "estimating"):
        cfg = settled(step.words)
        some, seen = work(cfg)
        seconds, folds, epochs = seconds + seen / pace(cfg, known), folds + some, epochs + some * cfg.epochs
    console.say(f"to train: {len(steps)} runs, {folds} folds, {epochs} epochs; about {span(seconds)} on this machine")
    return seconds


def span(seconds: float) -> str:
    """Return a time in words."""
    minutes = seconds / 60
    return f"{minutes / 60:.1f} h" if minutes > 90 else f"{minutes:.0f} min" if minutes > 1.5 else f"{seconds:.0f} s"


def climb(steps: Sequence[Step]) -> list[str]:
    """Train the steps that are not done and return a sentence for each that failed; the others go on."""
    every = {experiment.directory(settled(step.words)).id: step for step in reversed(steps)}  # rungs can share a run
    left = [step for step in reversed(every.values()) if not step.done()]
    console.say(f"{len(every) - len(left)} of {len(every)} runs are done")
    expected = estimate(left) if left else 0.0
    failed, begun = [], time.monotonic()
    for i, step in enumerate(left):
        name = f"{step.rung.ladder}={step.rung.name} ({i + 1}/{len(left)})"
        passed = time.monotonic() - begun
        console.say(f"\n{name}: {step.rung.change}; {span(passed)} of about {span(max(expected, passed))}", "bold")
        try:
            with console.within(name):
                experiment.perform(step.config())
        except MaskclsError as error:
            failed.append(f"{name}: {error}")
        except Exception as error:  # a fault of one rung, such as memory, does not take the others along
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}: {error}")
        if failed and failed[-1].startswith(name):
            console.errors.print(failed[-1], style="red", markup=False)
    return failed


def runs(steps: Sequence[Step], rung: Rung, seeds: Sequence[int]) -> list[list[Finished]] | None:
    """Return a rung's finished runs, one for each seed (its members' where it blends); None where one is missing."""
    found = []
    for seed in seeds:
        names = rung.members or (rung.name,)
        mine = [
            step for step in steps if step.seed == seed and step.rung.name in names and step.rung.ladder == rung.ladder
        ]
        if len(mine) < len(names) or not all(step.done() for step in mine):
            return None
        found.append([opened(experiment.directory(step.config()).path) for step in mine])
    return found
