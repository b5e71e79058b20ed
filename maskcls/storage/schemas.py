"""The shapes of a run's JSON files, as far as they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from maskcls.core.schema import NonNegativeFloat, UnitInterval

Index = Annotated[int, Field(ge=0, lt=2**32)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]


class Part(BaseModel):
    """A part of a JSON file: what is read from it is checked and never coerced; what else it holds is left alone."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())


class Spread(Part):
    """Means, and standard deviations where there are any."""

    f1: UnitInterval
    accuracy: UnitInterval
    f1_sd: NonNegativeFloat | None = None
    accuracy_sd: NonNegativeFloat | None = None


class Scores(Spread):
    """Scores of some photos."""

    mask_f1: UnitInterval
    gender_f1: UnitInterval
    age_f1: UnitInterval
    photos: Index
    people: Index | None = None  # a fold's are not counted


class FoldScores(Scores):
    """Scores of a fold."""

    fold: Index


class EvalScores(Scores):
    """Scores of the evaluation rows, of the folds' mean and of single folds."""

    single: Spread | None = None


class Metrics(Part):
    """metrics.json: what is shown of a run that is done."""

    folds: Annotated[list[FoldScores], Field(min_length=1)]
    oof: Scores
    eval: EvalScores | None
    people_on_both_sides: Index


class About(Part):
    """about.json: facts of machine, software and call."""

    command: list[str] = []
    versions: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None
    maskcls: str | None = None
    python: str | None = None
    commit: str | None = None
    seconds: NonNegativeFloat | None = None


class Measured(Spread):
    """Scores of one kind of answer in a ladder."""

    interval: Interval | None = None
    tables: Index
    photos: Index
    people: Index


class Standing(Part):
    """The scores of a rung, and which of them is its answer."""

    answer: Literal["oof", "single", "ensemble"]
    oof: Measured
    single: Measured | None = None
    ensemble: Measured | None = None


class Apart(Part):
    """A rung's difference to its parent."""

    f1: float
    interval: Interval | None = None
    rows: str
    sd: NonNegativeFloat | None = None


class Why(Part):
    """Why there is no difference."""

    why: str


class Named(Part):
    """Something with a name."""

    name: str


class Scale(Named):
    """A ladder's scale."""

    tells: str


class Record(Part):
    """What is kept of a rung that was run."""

    given: list[str]
    data: Named
    scale: Scale
    scores: Standing
    leak: Index
    seeds: Annotated[int, Field(ge=1)]
    runs: dict[str, NonNegativeFloat]
    parent: str | None
    difference: Apart | Why | None
    hardware: list[str]
    commit: list[str]
