"""Sweeps: the jobs of a multirun, checked before the first one starts, and their results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from maskcls.config.compose import strip_hydra
from maskcls.config.override_grammar import parse
from maskcls.config.overrides import resource_dir
from maskcls.core.errors import ConfigError, RunError
from maskcls.system import console

RunOf = Callable[[Any], Path]  # the run directory of a composed config, which it checks


@dataclass(frozen=True)
class JobResult:
    """A job that has ended: its number, its overrides that differ, its run directory, and its error."""

    number: int
    words: tuple[str, ...]
    run: str | None
    error: str | None = None


@dataclass(frozen=True)
class Sweep:
    """A multirun; a launcher passes it on to the processes of its jobs, which append their results to its file."""

    name: str  # the same for the same command
    fixed: frozenset[str]  # overrides that all jobs share, by key
    file: Path  # of the running command: a temporary file, which the next sweep removes if this one is killed
    num_jobs: int | None  # None: only the sweeper knows

    @classmethod
    def of(cls, arguments: Sequence[str], config: DictConfig, jobs: Sequence[Sequence[str]] | None) -> Sweep:
        """Return the sweep of a command line and the config composed from it."""
        name = f"sweep-{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:8]}"
        folder = Path(config.hydra.sweep.dir).absolute()
        overrides = [parse(word) for word in arguments if not word.startswith("-")]
        fixed = {override.key_or_group for override in overrides if override and not override.is_sweep_override()}
        fixed -= {key.lstrip("+") for key in config.hydra.sweeper.get("params") or {}}
        return cls(name, frozenset(fixed), folder / name, None if jobs is None else len(jobs))

    def words(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides of a job that other jobs do not share."""
        named = [(word.lstrip("+"), parse(word)) for word in overrides]
        return tuple(word for word, override in named if override is None or override.key_or_group not in self.fixed)

    def label(self, number: int) -> str:
        """Return the number of a job, from 1, and the number of jobs."""
        return f"[{number + 1}/{self.num_jobs}]" if self.num_jobs else f"[{number + 1}]"

    def add(self, result: JobResult) -> None:
        """Append the result of a job, from any process."""
        with self.file.open("ab") as file:
            file.write(json.dumps(asdict(result)).encode() + b"\n")

    def results(self) -> list[JobResult]:
        """Return the results of the jobs that have ended, in the order of their numbers."""
        rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
        found = {row["number"]: JobResult(**row | {"words": tuple(row["words"])}) for row in rows}
        return [found[number] for number in sorted(found)]


def plan_sweep(arguments: Sequence[str], line: Sequence[str], config_name: str, run_of: RunOf) -> Sweep:
    """Return the sweep of a command line; raise one ConfigError with the errors of all of its jobs.

    The jobs of a sweeper other than Hydra's basic one depend on their results, and are not checked here.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError("a sweep (-m) cannot run under torchrun. Run one job at a time")
    with hydra.initialize_config_dir(str(resource_dir("conf")), version_base="1.3"):
        app = GlobalHydra.instance().hydra
        assert app is not None
        config = app.compose_config(config_name, list(line), run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        HydraConfig.instance().set_config(config)
        jobs = list_jobs(app.config_loader, config)
        sweep = Sweep.of(arguments, config, jobs)
        if jobs is not None:
            check_jobs(sweep, [(job, app.config_loader.load_sweep_config(config, list(job))) for job in jobs], run_of)
    return sweep


def list_jobs(loader: Any, config: DictConfig) -> list[list[str]] | None:
    """Return the overrides of each job, None if the sweeper is not Hydra's basic one."""
    sweeper = config.hydra.sweeper
    if not sweeper["_target_"].endswith(".BasicSweeper"):
        return None
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create(config_loader=loader).parse_overrides([*params, *config.hydra.overrides.task])
    return BasicSweeper.split_arguments(overrides, None)[0]


def check_jobs(sweep: Sweep, jobs: Sequence[tuple[Sequence[str], DictConfig]], run_of: RunOf) -> None:
    """Raise one ConfigError with the errors of all jobs, those that all jobs share without a number."""
    numbers_by_message: dict[str, list[int]] = {}
    for number, (_, config) in enumerate(jobs):
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.mode = RunMode.MULTIRUN
        HydraConfig.instance().set_config(config)
        try:
            run_of(strip_hydra(config))
        except ConfigError as error:
            for message in error.messages:
                numbers_by_message.setdefault(message, []).append(number)
    messages = []
    for message, numbers in numbers_by_message.items():
        first = numbers[0]
        words = " ".join([sweep.label(first), *sweep.words(jobs[first][0])])
        messages.append(message if len(numbers) == len(jobs) else f"{words}: {message}")
    if messages:
        raise ConfigError(*messages)


@contextmanager
def announce_job(sweep: Sweep) -> Iterator[JobResult]:
    """Context manager that prints a job's differing words; jobs in parallel get its number before each line."""
    hydra_config = HydraConfig.get()
    number, words = hydra_config.job.num, sweep.words(hydra_config.overrides.task)
    label = sweep.label(number)
    if "BasicLauncher" in hydra_config.launcher["_target_"]:
        console.info("\n" + " ".join([label, *words]), "bold")
        yield JobResult(number, words, None)
    else:
        console.info(" ".join([label, *words]), "bold")
        with console.line_prefix(label):
            yield JobResult(number, words, None)


def raise_failures(sweep: Sweep) -> None:
    """Raise RunError with the error of each failed job."""
    results = sweep.results()
    errors = [" ".join([sweep.label(job.number), *job.words]) + f": {job.error}" for job in results if job.error]
    if errors:
        raise RunError(f"{len(errors)} of {len(results)} jobs failed. Run the same command to retry them:", *errors)
