"""Training of an experiment, or with -m of a sweep.

python -m maskcls.run model=effnet_b4 loss=focal
python -m maskcls.run -m model=resnet18,effnet_b0 loss=ce,focal
"""

from __future__ import annotations

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from maskcls.cli.hydra_app import hydra_app
from maskcls.cli.sweep import JobResult


def task(cfg: DictConfig, group: str | None) -> float:
    """Run one job, in a W&B group; heavy modules are imported here."""
    from maskcls.ladder.rungs import check_single_run

    check_single_run(cfg)
    from maskcls.components.loggers.base import LogContext
    from maskcls.engine.runner import run

    choices = HydraConfig.get().runtime.choices.items()
    words = {str(key): str(option) for key, option in choices if option and not key.startswith("hydra/")}
    return run(cfg, LogContext(group, words))


def run_directory(cfg: DictConfig) -> Path:
    """Return the run directory of a config; raise ConfigError with all of its errors."""
    from maskcls.config.validation import validate
    from maskcls.ladder.rungs import check_single_run
    from maskcls.storage.run import Run

    check_single_run(cfg)
    return Run.of(validate(cfg)).path


def report(jobs: list[JobResult]) -> None:
    """Print the closing table of a sweep."""
    from maskcls.reporting.sweep_table import print_sweep_table

    print_sweep_table([(Path(job.run), job.words) for job in jobs if job.run])


main = hydra_app(task, run_of=run_directory, report=report)
