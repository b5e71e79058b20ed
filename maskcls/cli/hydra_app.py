"""Hydra applications: compose the command line and run a task for each job."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import hydra
from hydra.core.plugins import Plugins

from maskcls.cli.config_output import output_flags, print_config
from maskcls.cli.exit_codes import run_command
from maskcls.cli.hydra_help import print_hydra_help
from maskcls.cli.sweep import JobResult, RunOf, Sweep, announce_job, plan_sweep, raise_failures
from maskcls.config.completion import print_script, set_typed_line
from maskcls.config.compose import Experiments, parse_overrides, wrap_hydra_errors
from maskcls.config.config_folders import resource_dir
from maskcls.config.override_grammar import split_flags
from maskcls.config.overrides import SWEEPS, to_hydra
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError, as_user_error
from maskcls.system.console import info, print_error
from maskcls.system.signals import await_signal
from maskcls.system.streams import prepare_streams

MODES = ("--run", "--multirun", "--cfg", "--info", "--shell-completion")  # Hydra does one of them


def hydra_app(
    task: Callable[[Any, str | None], Any], config: str = "config", run_of: RunOf | None = None,
    report: Callable[[list[JobResult]], None] = lambda jobs: None,
) -> Callable[[], Any]:  # fmt: skip
    """Return a command that composes `config` with the command line and calls `task` with each job's config and sweep.

    `run_of` checks a config and returns its run directory, before any job starts; without it, the command has no
    sweeps. `report` prints a sweep's results.
    """
    typed: list[str] = []
    sweeps: list[Sweep] = []  # the sweep of this command, if it is one
    raised: list[Exception] = []  # the error of a single job
    printing: list[str] = []  # the flags of --cfg job, which prints the config in place of the task

    @functools.wraps(task)
    def job(cfg: Any) -> Any:
        sys.argv = list(typed)  # the provenance records the typed command, in a launcher's process too
        prepare_streams()
        if sweeps:
            return run_job(cfg, task, sweeps[0], run_of)
        with keep_error(raised):
            return print_config(cfg, printing, config == "config") if printing else task(cfg, None)

    @run_command
    def main() -> Any:
        """Compose and run; raise the errors of the jobs at the end."""
        typed[:] = sys.argv
        flags, overrides = split_flags(sys.argv[1:])
        printing[:] = output_flags(flags)
        if "--help" in flags:
            return print_hydra_help(sys.modules[task.__module__], config)
        check_modes(flags, overrides)
        if "--shell-completion" in flags and print_script(overrides):
            return
        line = prepare_line(flags, overrides, config)
        with wrap_hydra_errors(line, overrides):
            sweeps[:] = plan_sweeps([*flags, *line], line, config, run_of)
            sys.argv[1:] = [*(flag for flag in flags if flag not in printing), *line]
            start = hydra.main(version_base="1.3", config_path=str(resource_dir("conf")), config_name=config)(job)
            with closing_report(sweeps, report) if sweeps else nullcontext():
                start()
        if raised:
            raise raised[0]

    return main


def check_modes(flags: list[str], overrides: list[str]) -> None:
    """Raise ConfigError for flags of which Hydra obeys only one, such as `-m --cfg job`."""
    names = [flag.partition("=")[0] for flag in flags]
    modes = [name for name in names if name in MODES]
    if "--multirun" not in modes:
        modes += [word for word in overrides if word in SWEEPS]
    if len(modes) > 1:
        raise ConfigError(f"command line: {' and '.join(modes)} exclude each other. Remove all but one")


def plan_sweeps(words: list[str], line: list[str], config: str, run_of: RunOf | None) -> list[Sweep]:
    """Return the sweep of a command (flags and overrides `words`), if it is one; ConfigError without `run_of`."""
    if not SWEEPS & {*words}:
        return []
    if run_of is None:
        raise ConfigError(f"maskcls {config} has no sweeps (-m). Run it once for each value, with another out=<file>")
    return [plan_sweep(words, line, config, run_of)]


@contextmanager
def keep_error(raised: list[Exception]) -> Iterator[None]:
    """Context manager that keeps an error until Hydra has ended, which would print a line of its own."""
    try:
        yield
    except Exception as error:
        raised.append(error)


def prepare_line(flags: list[str], overrides: list[str], config: str) -> list[str]:
    """Prepare Hydra and return the overrides for it, checked unless they are to be completed."""
    Plugins.instance().register(Experiments)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes errors on unchanged
    if "--shell-completion" in flags:
        set_typed_line(to_hydra)
        return overrides
    return parse_overrides([*flags, *overrides], config)[len(flags) :]


@contextmanager
def closing_report(sweeps: list[Sweep], report: Callable[[list[JobResult]], None]) -> Iterator[None]:
    """Context manager that prints a sweep's state so far, reports its results, and raises the errors of its jobs."""
    if state := sweeps[0].describe():
        info(state)
    yield
    report([job for job in sweeps[0].results() if not job.error])
    raise_failures(sweeps[0])


def run_job(cfg: Any, task: Callable[[Any, str | None], Any], sweep: Sweep, run_of: RunOf | None) -> Any:
    """Return the result of a job of a sweep, 0, the worst macro F1, if it fails: the other jobs continue."""
    with announce_job(sweep) as job:
        sweep.begin(job)
        try:
            result = task(cfg, sweep.name)
            sweep.add(replace(job, run=str(run_of(cfg).absolute()) if run_of else None))
            return result
        except BrokenPipeError:
            raise
        except Exception as error:
            failure = describe_failure(error)
    print_error(failure, f"{sweep.label(job.number)} failed: ")
    sweep.add(replace(job, error=str(failure)))
    return 0.0


def describe_failure(error: Exception) -> MaskclsError:
    """Return the error of a job for its sweep; the traceback of a bug is printed."""
    if not isinstance(error, ConfigError | DataError):
        error = await_signal(error)
    try:
        return as_user_error(error)
    except Exception:
        traceback.print_exc()
        return RunError(f"{type(error).__name__}: {error}")
