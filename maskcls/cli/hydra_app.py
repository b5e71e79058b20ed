"""Hydra applications: compose the command line and run a task for each job."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode

from maskcls.cli.command import run_command
from maskcls.config.completion import print_script, set_typed_line
from maskcls.config.compose import Experiments, parse_overrides, wrap_hydra_errors
from maskcls.config.override_grammar import split_flags
from maskcls.config.overrides import SWEEPS, resource_dir, to_hydra
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError, as_user_error
from maskcls.system.console import print_error
from maskcls.system.signals import await_signal
from maskcls.system.streams import prepare_streams


def hydra_app(task: Callable[[Any], Any], config: str = "config") -> Callable[[], Any]:
    """Return the command that composes `config` with the command line and hands it to `task`, once for each job."""

    failed: list[MaskclsError] = []
    typed: list[str] = []

    @functools.wraps(task)
    def job(cfg: Any) -> Any:
        sys.argv = list(typed)  # what is kept of the command is what was typed, in a launcher's process too
        prepare_streams()
        try:
            return task(cfg)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not isinstance(error, ConfigError | DataError):
                await_signal()
            return collect_error(as_user_error(error), failed)

    @run_command
    def main() -> Any:
        """Compose and run, or end with the sentences of what failed."""
        typed[:] = sys.argv
        flags, words = split_flags(sys.argv[1:])
        completes = "--shell-completion" in flags
        if completes and print_script(words):
            return
        if completes:
            set_typed_line(lambda word: to_hydra([word]))
        Plugins.instance().register(Experiments)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach this function whole
        line = words if completes else parse_overrides([*flags, *words], config)[len(flags) :]
        set_sweep_name([*flags, *line])
        with wrap_hydra_errors(line, words):
            sys.argv[1:] = [*flags, *line]
            hydra.main(version_base="1.3", config_path=str(resource_dir("conf")), config_name=config)(job)()
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise RunError(f"{len(failed)} jobs of the sweep failed; each has said why")

    return main


def collect_error(error: MaskclsError, failed: list[MaskclsError]) -> float:
    """Keep a job's fault for the end, so that a sweep goes on; in a launcher's own process it is raised.

    A sweeper that asks for a score hears 0, the worst macro F1.
    """
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode is RunMode.MULTIRUN
    if sweeps and "BasicLauncher" not in hydra_config.launcher["_target_"]:
        raise error
    if sweeps:
        print_error(error, f"job {hydra_config.job.num} failed: ")
    failed.append(type(error)(*error.messages))  # without its frames, which hold the job's model
    return 0.0


def set_sweep_name(arguments: list[str]) -> None:
    """Give the jobs of a sweep a name to share, by the environment, which any launcher hands on."""
    if SWEEPS & set(arguments):
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ConfigError("torchrun runs one job: a sweep (-m) under it would hang at the second one")
        os.environ["MASKCLS_SWEEP"] = f"sweep-{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:8]}"
