"""Options of `maskcls benchmark`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maskcls.core.schema import PositiveInt

Kind = Literal["speed", "start", "scale", "size", "time-to-score"]
ContenderName = Literal["maskcls", "timm_tuned", "timm"]


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of `maskcls benchmark`."""

    kind: Kind = "speed"  # suite: speed, start, scale (size is one size of it), time-to-score
    settings: str | None = None  # model:HEIGHTxWIDTH:batch:steps, several separated by commas
    rounds: PositiveInt = 7  # rounds; each contender runs once per round
    images: tuple[PositiveInt, ...] = (1000, 4200)  # data set sizes of kind=scale
    num_people: PositiveInt = 100  # synthetic people of kind=scale
    contenders: tuple[ContenderName, ...] = ("maskcls", "timm_tuned")  # of time-to-score; timm has timm's defaults
    timm_epochs: PositiveInt = 4  # epochs of timm's training in time-to-score
    out: str | None = None  # JSON file to write; null: experiments/results/bench/<machine>.json
