"""Planned runs of a reproduction: the overrides of each rung at a scale, validated before any work."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maskcls.components.loggers.base import LogContext
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError
from maskcls.engine.runner import load_metrics_if_done
from maskcls.imaging.image_io import read_image
from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.ladder.scales import SCALES, rescale_milestones, scale_overrides
from maskcls.storage.run import Run
from maskcls.system import console

NO_PSEUDO = "pseudo=none"  # until the run that the pseudo-labels come from is finished
EVAL_FRACTION = 0.2  # of the people, at a smaller scale, if the data has no labelled evaluation set


@dataclass(frozen=True)
class ReproduceConfig:
    """Options of a reproduction."""

    ladders: tuple[str, ...]
    scale: str
    seeds: tuple[int, ...]
    rungs: tuple[str, ...]  # empty: all
    overrides: tuple[str, ...]  # of every run


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about the data of a ladder."""

    name: str
    image_size: tuple[int, int]
    num_people: int  # labelled, in training
    has_eval_labels: bool


@dataclass(frozen=True)
class PlannedRun:
    """A run of a rung with one seed, as overrides."""

    rung: Rung
    seed: int
    overrides: tuple[str, ...]
    initial: PlannedRun | None  # the run that this one continues from, by weights or by pseudo-labels

    def __str__(self) -> str:
        return f"{self.rung.ladder}={self.rung.name}" + (f" seed={self.seed}" if self.seed else "")

    def config(self) -> Config:
        """Return the validated config; raise RunError if the run that it continues from is not finished."""
        if self.initial is None:
            return compose_config(self.overrides)
        if not (initial := Run.of(self.initial.config())).is_done:
            raise RunError(
                f"{self.rung.name} continues from {self.initial.rung.name}, whose run is not finished"
            )
        own = [override for override in self.overrides if override != NO_PSEUDO]
        return compose_config((*own, *self.rung.initial_overrides(str(initial.path))))

    def log_context(self, group: str | None) -> LogContext:
        """Return what a logger shows besides the config: the group and the rung."""
        return LogContext(group, {self.rung.ladder: self.rung.name})

    def is_done(self) -> bool:
        """Return True if the run is finished, on the current data."""
        try:
            cfg = self.config()
        except RunError:
            return False
        return load_metrics_if_done(cfg, Run.of(cfg)) is not None


@cache
def compose_config(overrides: tuple[str, ...]) -> Config:
    """Return the validated config of some overrides."""
    return validate(compose(*overrides))


def smoke_data_overrides(options: ReproduceConfig) -> tuple[str, ...]:
    """Return the overrides of the data at scale smoke, none if the user sets the data or its size."""
    sets_data = any(re.match(r"data(=|\.people|\.eval_people)", override) for override in options.overrides)
    return () if sets_data or options.scale != "smoke" else ("data.people=24", "data.eval_people=8")


def inspect_dataset(options: ReproduceConfig) -> DatasetInfo:
    """Return facts about the data, before the runs are planned."""
    data_overrides = [override for override in options.overrides if re.match(r"(data|plugins)\b", override)]
    data = compose_config((*data_overrides, *smoke_data_overrides(options))).data
    table = data.build(lambda note: None)
    source = data.params.get("root") or data.params.get("file") or os.environ.get("MASKCLS_DATA", data.name)
    num_people = table.loc[table["part"] == "train", "person"].nunique()
    has_eval_labels = bool(((table["part"] == "eval") & (table["label"] >= 0)).any())
    name = "drawn people" if data.name == "synthetic" else Path(source).resolve().name
    return DatasetInfo(
        f"{name} ({num_people:,} in training)", first_image_size(table["path"]), num_people, has_eval_labels
    )


def first_image_size(paths: Iterable[str]) -> tuple[int, int]:
    """Return height and width of the first readable image."""
    for path in paths:
        with contextlib.suppress(DataError):
            height, width = read_image(path).shape[:2]
            return height, width
    raise DataError("no image of the data is readable")


def plan_runs(options: ReproduceConfig, dataset: DatasetInfo) -> list[PlannedRun]:
    """Return the runs of all rungs and seeds, each after those it needs; raise all config errors at once."""
    planned_runs: list[PlannedRun] = []
    errors: dict[str, list[str]] = {}
    for ladder in options.ladders:
        for seed in options.seeds:
            runs: dict[str, PlannedRun] = {}
            for rung in select_rungs(ladder):
                try:
                    runs[rung.name] = PlannedRun(
                        rung, seed, rung_overrides(rung, seed, options, dataset), runs.get(rung.initial or "")
                    )
                    compose_config(runs[rung.name].overrides)
                except MaskclsError as error:
                    for message in error.messages:
                        errors.setdefault(message, []).append(f"{ladder}={rung.name}")
            planned_runs += [planned for planned in runs.values() if not planned.rung.members]
    if errors:
        raise ConfigError(*(f"{name_rungs(names)}: {message}" for message, names in errors.items()))
    return planned_runs


def select_rungs(ladder: str) -> list[Rung]:
    """Return the rungs of a ladder whose requirements are met; name the others."""
    rungs = load_rungs(ladder)
    for rung in rungs:
        if not has_requirements(rung):
            console.info_once(missing_requirement(rung))
    return [rung for rung in rungs if has_requirements(rung)]


def has_requirements(rung: Rung) -> bool:
    """Return True if the environment variable that a rung needs is set."""
    return not rung.requires or bool(os.environ.get(rung.requires))


def missing_requirement(rung: Rung) -> str:
    """Return the message that a rung is not run."""
    return f"{rung.ladder}={rung.name} is not run: it needs the environment variable {rung.requires}"


def name_rungs(names: Sequence[str]) -> str:
    """Return the first name and the number of the others."""
    others = len(dict.fromkeys(names)) - 1
    return names[0] + (f" and {others} other rung{'s' if others > 1 else ''}" if others else "")


def required_rungs(ladder: str, names: Sequence[str]) -> set[str]:
    """Return the names of some rungs of a ladder (default: all), with those that they need."""
    by_name = {rung.name: rung for rung in load_rungs(ladder)}
    required = [name for name in names if name in by_name] if names else list(by_name)
    for name in required:
        required += [need for need in by_name[name].needs if need not in required]
    return set(required)


def rung_overrides(rung: Rung, seed: int, options: ReproduceConfig, dataset: DatasetInfo) -> tuple[str, ...]:
    """Return the overrides of a rung at a scale; those of the user come last and win."""
    base = [f"{rung.ladder}={rung.name}", *smoke_data_overrides(options), *(["model.init=null"] if rung.init else [])]
    base += [NO_PSEUDO] if rung.pseudo else []
    scale = SCALES[options.scale]
    if scale.people and scale.people < dataset.num_people:
        base.append(f"people={scale.people}")
    if scale.people and not dataset.has_eval_labels:
        base.append(f"eval_fraction={EVAL_FRACTION}")
    published = compose_config((*base, "model.pretrained=false")).to_dict()
    sets_model = any(re.match(r"model(=|\.arch)", override) for override in options.overrides)
    scaled = list(scale_overrides(scale, published, dataset.image_size))
    if sets_model:  # the scale substitutes only the published model
        scaled = [override for override in scaled if not override.startswith("model")]
    user = [*(["model.pretrained=false"] if sets_model and not scale.pretrained else []), *options.overrides]
    if any(override.startswith("crop=") for override in options.overrides):
        scaled = [override for override in scaled if not override.startswith("crop.")]
    cfg = compose_config((*base, *scaled, "model.pretrained=false", *user))
    num_people = round((cfg.people or dataset.num_people) * (1 - (cfg.eval_fraction or 0)))
    if scale.epochs:
        scaled += rescale_milestones(published, cfg.to_dict(), num_people)
    tags = [f"logger.tags=[{rung.ladder}-{rung.name}]"] if cfg.logger.name == "wandb" else []
    return (*base, *scaled, *tags, *user, f"seed={seed}")
