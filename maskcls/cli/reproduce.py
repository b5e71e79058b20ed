"""Reproduction of the published ladders: train the missing runs of each rung, compare with the published scores.

maskcls reproduce                    three ladders on synthetic people, scale=smoke: minutes, shows that every rung runs
maskcls reproduce ladder=team scale=small data=competition data.root=../mask-data
maskcls reproduce ladder=team scale=full data=competition data.root=../mask-data seeds=0,1,2 keep=true
maskcls reproduce ladder=best rungs=fast scale=full eval_fraction=0.2 data=competition data.root=../mask-data keep=true

Other key=value arguments are overrides of every run. Finished runs are reused: the same command resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maskcls.cli.arguments import options_command
from maskcls.core.schema import NonNegativeInt

Ladder = Literal["team", "workflow", "madgrad", "tried", "winner", "best"]


@dataclass(frozen=True)
class ReproduceOptions:
    """Options of `maskcls reproduce`."""

    ladder: tuple[Ladder, ...] = ("team", "workflow", "madgrad")  # ladders to reproduce
    scale: Literal["smoke", "small", "full"] = "smoke"  # smoke (minutes), small (a CPU), full (as published)
    rungs: tuple[str, ...] = ()  # rungs to train, such as focal,folds; by default all
    seeds: tuple[NonNegativeInt, ...] = (0,)  # seeds of each rung
    keep: bool = False  # also store the results in experiments/results


@options_command(ReproduceOptions, overrides=True)
def main(options: ReproduceOptions, overrides: list[str]) -> None:
    """Plan, train, record and print; exit with code 2 at the end if a rung failed."""
    from maskcls.ladder.plan import ReproduceConfig
    from maskcls.ladder.reproduction import reproduce  # imports torch

    ladders, seeds = tuple(dict.fromkeys(options.ladder)), tuple(dict.fromkeys(options.seeds))
    reproduce(ReproduceConfig(ladders, options.scale, seeds, options.rungs, tuple(overrides)), options.keep)
