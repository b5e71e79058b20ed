"""Schemas of ladder records: the results of finished rungs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from maskcls.core.schema import NonNegativeFloat
from maskcls.storage.schemas import Index, Interval, Part, Spread


class MeasuredScores(Spread):
    """Scores of one kind of prediction in a ladder."""

    interval: Interval | None = None
    tables: Index
    photos: Index
    people: Index


class RungScores(Part):
    """The scores of a rung, and which of them is the primary one."""

    answer: Literal["oof", "single", "ensemble"]
    oof: MeasuredScores
    single: MeasuredScores | None = None
    ensemble: MeasuredScores | None = None


class Difference(Part):
    """The difference between a rung and its parent."""

    f1: float
    interval: Interval | None = None
    rows: str
    sd: NonNegativeFloat | None = None


class NoDifference(Part):
    """The reason for no difference."""

    why: str


class NamedPart(Part):
    """A part with a name."""

    name: str


class Scale(NamedPart):
    """A ladder's scale."""

    tells: str


class Record(Part):
    """The result of a finished rung."""

    given: list[str]
    data: NamedPart
    scale: Scale
    scores: RungScores
    leak: Index
    seeds: Annotated[int, Field(ge=1)]
    runs: dict[str, NonNegativeFloat]
    parent: str | None
    difference: Difference | NoDifference | None
    hardware: list[str]
    commit: list[str]
