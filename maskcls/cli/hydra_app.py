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

from maskcls.cli.exit_codes import run_command
from maskcls.config.completion import print_script, set_typed_line
from maskcls.config.compose import Experiments, parse_overrides, wrap_hydra_errors
from maskcls.config.override_grammar import split_flags
from maskcls.config.overrides import SWEEPS, resource_dir, to_hydra
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError, as_user_error
from maskcls.system.console import print_error
from maskcls.system.signals import await_signal
from maskcls.system.streams import prepare_streams


def hydra_app(task: Callable[[Any], Any], config: str = "config") -> Callable[[], Any]:
    """Return a command that composes `config` and the command line and calls `task` with the result of each job."""

    failed: list[MaskclsError] = []
    typed: list[str] = []

    @functools.wraps(task)
    def job(cfg: Any) -> Any:
        sys.argv = list(typed)  # the provenance records the typed command, in a launcher's process too
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
        """Compose and run; raise the errors of the jobs at the end."""
        typed[:] = sys.argv
        flags, overrides = split_flags(sys.argv[1:])
        completes = "--shell-completion" in flags
        if completes and print_script(overrides):
            return
        if completes:
            set_typed_line(lambda override: to_hydra([override]))
        Plugins.instance().register(Experiments)
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes errors on unchanged
        line = overrides if completes else parse_overrides([*flags, *overrides], config)[len(flags) :]
        set_sweep_name([*flags, *line])
        with wrap_hydra_errors(line, overrides):
            sys.argv[1:] = [*flags, *line]
            hydra.main(version_base="1.3", config_path=str(resource_dir("conf")), config_name=config)(job)()
        if len(failed) == 1:
            raise failed[0]
        if failed:
            raise RunError(f"{len(failed)} jobs of the sweep failed; see the error of each above")

    return main


def collect_error(error: MaskclsError, failed: list[MaskclsError]) -> float:
    """Store a job's error so that the sweep continues, and return 0, the worst macro F1, for its sweeper.

    In the process of a launcher such as joblib, raise the error.
    """
    hydra_config = HydraConfig.get()
    is_sweep = hydra_config.mode is RunMode.MULTIRUN
    if is_sweep and "BasicLauncher" not in hydra_config.launcher["_target_"]:
        raise error
    if is_sweep:
        print_error(error, f"job {hydra_config.job.num} failed: ")
    failed.append(type(error)(*error.messages))  # without its traceback, which references the job's model
    return 0.0


def set_sweep_name(arguments: list[str]) -> None:
    """Name the W&B group of a sweep's jobs, in the environment, which every launcher passes on."""
    if SWEEPS & set(arguments):
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ConfigError("a sweep (-m) cannot run under torchrun. Run one job at a time")
        os.environ["MASKCLS_SWEEP"] = f"sweep-{hashlib.sha256(' '.join(arguments).encode()).hexdigest()[:8]}"
