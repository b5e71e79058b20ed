"""Sweeps: the jobs of a multirun, checked before the first one starts, and their results."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from maskcls.config.config_folders import resource_dir
from maskcls.config.override_grammar import parse
from maskcls.core.errors import ConfigError, RunError
from maskcls.system import console
from maskcls.system.locks import has_ended

LAUNCHER_EXTRAS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}
RunOf = Callable[[Any], Path]  # the run directory of a composed config, which it checks


@dataclass(frozen=True)
class JobResult:
    """A job that has ended: its number, its overrides that differ, its run directory, and its error."""

    number: int
    words: tuple[str, ...]
    run: str | None
    error: str | None = None


class JobsFailed(RunError):
    """Jobs of a sweep that failed, while the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class Sweep:
    """A multirun; a launcher passes it on to the processes of its jobs, which append to its ledger."""

    name: str  # the same for the same command
    fixed: frozenset[str]  # overrides that all jobs share, by key
    file: Path  # the ledger, <runs_dir>/<name>.jsonl: one line for each job that begins or ends
    num_jobs: int | None  # None: only the sweeper knows

    @classmethod
    def of(cls, arguments: Sequence[str], config: DictConfig, jobs: Sequence[Sequence[str]] | None) -> Sweep:
        """Return the sweep of a command line and the config composed from it."""
        name = f"sweep-{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:8]}"
        folder = Path(config.hydra.sweep.dir).absolute()
        overrides = [parse(word) for word in arguments if not word.startswith("-")]
        fixed = {override.key_or_group for override in overrides if override and not override.is_sweep_override()}
        fixed -= {key.lstrip("+") for key in config.hydra.sweeper.get("params") or {}}
        return cls(name, frozenset(fixed), folder / f"{name}.jsonl", None if jobs is None else len(jobs))

    def words(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides of a job that other jobs do not share."""
        named = [(word.lstrip("+"), parse(word)) for word in overrides]
        return tuple(word for word, override in named if override is None or override.key_or_group not in self.fixed)

    def label(self, number: int) -> str:
        """Return the number of a job, from 1, and the number of jobs."""
        return f"[{number + 1}/{self.num_jobs}]" if self.num_jobs else f"[{number + 1}]"

    def begin(self, job: JobResult) -> None:
        """Append that a job begins in this process."""
        self.append(asdict(job) | {"process": [str(os.getpid()), socket.gethostname()]})

    def add(self, result: JobResult) -> None:
        """Append the result of a job, from any process."""
        self.append(asdict(result))

    def append(self, entry: dict[str, Any]) -> None:
        """Append a line, in one write; a line that a killed process cut off is ended before."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.write(b"\n" * is_cut(self.file) + json.dumps(entry).encode() + b"\n")

    def entries(self) -> dict[int, dict[str, Any]]:
        """Return the latest line of each job by its number."""
        latest: dict[int, dict[str, Any]] = {}
        for line in self.file.read_bytes().splitlines() if self.file.exists() else ():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # half a line of a killed process
                entry = json.loads(line)
                latest[int(entry["number"])] = entry
        return dict(sorted(latest.items()))

    def results(self) -> list[JobResult]:
        """Return the latest results of the jobs that have ended, in the order of their numbers."""
        ended = [entry for entry in self.entries().values() if "process" not in entry]
        return [JobResult(**entry | {"words": tuple(entry["words"])}) for entry in ended]

    def describe(self) -> str | None:
        """Return how many jobs are done, running, failed and not begun, None for a sweep that is new."""
        states = [job_state(entry) for entry in self.entries().values()]
        if not states:
            return None
        if self.num_jobs is not None:
            states += ["not begun"] * (self.num_jobs - len(states))
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
        return f"{self.file}: {counts}"


def is_cut(path: Path) -> bool:
    """Return True if a file does not end with a whole line."""
    return path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")


def job_state(entry: Mapping[str, Any]) -> str:
    """Return the state of a job from its latest line: running (its process lives), interrupted, done or failed."""
    if process := entry.get("process"):
        return "interrupted" if has_ended(*process) else "running"
    return "failed" if entry.get("error") else "done"


def check_launcher(config: DictConfig) -> None:
    """Raise ConfigError if the package of the chosen launcher is not installed."""
    module = config.hydra.launcher["_target_"].rpartition(".")[0]
    name = HydraConfig.get().runtime.choices["hydra/launcher"]
    try:
        importlib.import_module(module)
    except ImportError as error:
        extra = LAUNCHER_EXTRAS.get(str(name))
        remedy = f"pip install 'maskcls[{extra}]'" if extra else "Install its package"
        raise ConfigError(f"hydra/launcher={name} needs a package that is not installed ({error}). {remedy}") from error


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
        check_launcher(config)
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
    """Raise JobsFailed with the error of each failed job."""
    results = sweep.results()
    errors = [" ".join([sweep.label(job.number), *job.words]) + f": {job.error}" for job in results if job.error]
    if errors:
        raise JobsFailed(f"{len(errors)} of {len(results)} jobs failed. Run the same command to retry them:", *errors)
