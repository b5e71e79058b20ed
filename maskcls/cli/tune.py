"""Search for the best settings: trials of Optuna, each a run, stopped early if they lose on the first folds.

maskcls tune search=focal n_trials=20                        the space of experiments/search/focal.yaml
maskcls tune loss=ce,focal optimizer.lr='tag(log,interval(1e-4,1e-2))' epochs=2    a space of one's own
maskcls tune search=recipe n_trials=60 data=competition data.root=../mask-data model=effnet_b0

Other key=value arguments are overrides of every trial; those with several values belong to the space. The same command
in other terminals and on other machines over a shared folder shares the trials; given again, it resumes, and with
a higher n_trials it adds the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maskcls.cli.arguments import options_command
from maskcls.core.schema import NonNegativeInt, PositiveInt


@dataclass(frozen=True)
class TuneOptions:
    """Options of `maskcls tune`."""

    search: str | None = None  # search file, experiments/search/<name>.yaml; null: the space is on the command line
    n_trials: PositiveInt = 20  # number of trials of all processes together
    method: Literal["tpe", "random", "grid"] = "tpe"  # how values are chosen: tpe, random or grid
    search_seed: NonNegativeInt = 0  # seed of the choices
    prune: bool = True  # stop a trial whose first folds surely lose against the same folds of the best trial
    retry: bool = False  # try failed trials once more, as additional trials
    storage: str | None = None  # URL of an Optuna storage, such as postgresql://…; null: a file in runs_dir/studies


@options_command(TuneOptions, overrides=True)
def main(options: TuneOptions, overrides: list[str]) -> None:
    """Search, and print and write the outcome; heavy modules are imported here."""
    from maskcls.search.plan import TuneConfig
    from maskcls.search.tune import tune

    tune(TuneConfig(
        options.search, options.n_trials, options.method, options.search_seed, options.prune, options.storage,
        options.retry, tuple(overrides),
    ))  # fmt: skip
