"""What a climb will do: each rung at a scale as a command line, checked before any work."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError
from maskcls.engine.runner import load_metrics_if_done
from maskcls.imaging.image_io import read_image
from maskcls.ladder.rungs import Rung, rungs
from maskcls.ladder.scales import SCALES, overrides, rescale_milestones
from maskcls.storage.run import Run

EXAM = 0.2  # of the people, at a smaller scale, where the data has no labelled evaluation photos


@dataclass(frozen=True)
class ReproduceConfig:
    """What a climb is asked for."""

    ladders: tuple[str, ...]
    scale: str
    seeds: tuple[int, ...]
    only: tuple[str, ...]  # rungs; empty: all
    given: tuple[str, ...]  # overrides for every run


@dataclass(frozen=True)
class DatasetInfo:
    """The data that a ladder stands on."""

    name: str
    photo: tuple[int, int]  # height and width
    people: int  # labelled, in training
    labelled: bool  # whether evaluation photos have labels


@dataclass(frozen=True)
class PlannedRun:
    """A rung with one seed: the command line of its run."""

    rung: Rung
    seed: int
    overrides: tuple[str, ...]
    initial: PlannedRun | None  # the step whose weights this one begins with

    def __str__(self) -> str:
        return f"{self.rung.ladder}={self.rung.name}" + (f" seed={self.seed}" if self.seed else "")

    def config(self) -> Config:
        """Return the checked config; a RunError where the run that it begins with is not done."""
        if self.initial is None:
            return compose_config(self.overrides)
        if not (initial := Run.of(self.initial.config())).is_done:
            raise RunError(
                f"{self.rung.name} begins with the weights of {self.initial.rung.name}, whose run is not done"
            )
        return compose_config((*self.overrides, f"model.init={initial.path}"))

    def is_done(self) -> bool:
        """Tell whether the run stands, of the data that is there now."""
        try:
            cfg = self.config()
        except RunError:
            return False
        return load_metrics_if_done(cfg, Run.of(cfg)) is not None


@cache
def compose_config(words: tuple[str, ...]) -> Config:
    """Return the checked config of a command line."""
    return validate(compose(*words))


def smoke_data_overrides(asked: ReproduceConfig) -> tuple[str, ...]:
    """Return the size of the drawn set at scale smoke, unless other data or another size is asked for."""
    asks = any(re.match(r"data(=|\.people|\.eval_people)", word) for word in asked.given)
    return () if asks or asked.scale != "smoke" else ("data.people=24", "data.eval_people=8")


def inspect_dataset(asked: ReproduceConfig) -> DatasetInfo:
    """Return what there is to know of the data before anything is planned."""
    about = [word for word in asked.given if re.match(r"(data|plugins)\b", word)]  # others may be of a rung's words
    data = compose_config((*about, *smoke_data_overrides(asked))).data
    table = data.build(lambda note: None)
    place = data.params.get("root") or data.params.get("file") or os.environ.get("MASKCLS_DATA", data.name)
    people = table.loc[table["part"] == "train", "person"].nunique()
    labelled = bool(((table["part"] == "eval") & (table["label"] >= 0)).any())
    name = "drawn people" if data.name == "synthetic" else Path(place).resolve().name
    return DatasetInfo(f"{name} ({people:,} in training)", first_image_size(table["path"]), people, labelled)


def first_image_size(paths: Iterable[str]) -> tuple[int, int]:
    """Return height and width of the first photo that can be read."""
    for path in paths:
        with contextlib.suppress(DataError):
            height, width = read_image(path).shape[:2]
            return height, width
    raise DataError("none of the photos can be read")


def plan_runs(asked: ReproduceConfig, land: DatasetInfo) -> list[PlannedRun]:
    """Return the steps of all rungs and seeds, each after those it needs; all faults of asked ones are told at once."""
    steps: list[PlannedRun] = []
    faults: dict[str, list[str]] = {}
    for ladder in asked.ladders:
        for seed in asked.seeds:
            made: dict[str, PlannedRun] = {}
            for rung in rungs(ladder):
                try:
                    made[rung.name] = PlannedRun(
                        rung, seed, rung_overrides(rung, seed, asked, land), made.get(rung.init or "")
                    )
                    compose_config(made[rung.name].overrides)
                except MaskclsError as error:
                    for sentence in error.messages:
                        faults.setdefault(sentence, []).append(f"{ladder}={rung.name}")
            steps += [step for step in made.values() if not step.rung.members]
    if faults:
        raise ConfigError(*(f"{and_others(names)}: {sentence}" for sentence, names in faults.items()))
    return steps


def and_others(names: Sequence[str]) -> str:
    """Return the first of some rungs, and how many others there are."""
    others = len(dict.fromkeys(names)) - 1
    return names[0] + (f" and {others} other rung{'s' if others > 1 else ''}" if others else "")


def required_rungs(ladder: str, only: Sequence[str]) -> set[str]:
    """Return the asked rungs of a ladder with those that they need."""
    every = {rung.name: rung for rung in rungs(ladder)}
    names = [name for name in only if name in every] if only else list(every)
    for name in names:
        names += [need for need in every[name].needs if need not in names]
    return set(names)


def rung_overrides(rung: Rung, seed: int, asked: ReproduceConfig, land: DatasetInfo) -> tuple[str, ...]:
    """Return the command line of a rung at a scale; what the user gives comes last and wins."""
    base = [f"{rung.ladder}={rung.name}", *smoke_data_overrides(asked), *(["model.init=null"] if rung.init else [])]
    wished = SCALES[asked.scale]
    if wished.people and wished.people < land.people:
        base.append(f"people={wished.people}")
    if wished.people and not land.labelled:
        base.append(f"exam={EXAM}")
    published = compose_config((*base, "model.pretrained=false")).to_dict()
    own = any(re.match(r"model(=|\.arch)", word) for word in asked.given)  # the user's network has no stand-in
    scaled = [word for word in overrides(wished, published, land.photo) if not (own and word.startswith("model"))]
    given = [*(["model.pretrained=false"] if own and not wished.pretrained else []), *asked.given]
    if any(word.startswith("crop=") for word in asked.given):
        scaled = [word for word in scaled if not word.startswith("crop.")]
    cfg = compose_config((*base, *scaled, "model.pretrained=false", *given))
    people = round((cfg.people or land.people) * (1 - (cfg.exam or 0)))
    if wished.epochs:
        scaled += rescale_milestones(published, cfg.to_dict(), people)
    tags = [f"logger.tags=[{rung.ladder}-{rung.name}]"] if cfg.logger.name == "wandb" else []
    return (*base, *scaled, *tags, *given, f"seed={seed}")
