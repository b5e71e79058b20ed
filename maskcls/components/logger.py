"""Experiment loggers besides log.jsonl and the terminal."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from maskcls.components.loggers.base import LogContext, Logger
from maskcls.components.loggers.csv_logger import CsvLogger
from maskcls.components.loggers.mlflow_logger import MLflow
from maskcls.components.loggers.several import LoggerCollection
from maskcls.components.loggers.tensorboard_logger import TensorBoard
from maskcls.components.loggers.wandb_logger import MODES, Wandb
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.core.registry import Registry
from maskcls.core.table import Note

registry = Registry("logger")
ImageCount = Annotated[int, Field(ge=0, le=1000)]


def require_package(name: str, option: str) -> None:
    """Raise ConfigError if a package is not installed."""
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"logger={option} needs package {name}. Run pip install 'maskcls[loggers]'")


def check_names(names: list[str]) -> list[str]:
    """Return the names of loggers; ValueError for an unknown name, a doubled one, or none."""
    known = registry.builders.keys() - {"none", "several"}
    for name in names:
        if name not in known:
            raise ValueError(unknown_message("logger", name, known))
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected different loggers, such as [wandb,csv], got [{','.join(names)}]")
    return names


def check_options(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the parameters of loggers by name; ValueError for one that its logger does not have."""
    errors: list[str] = []
    for name, params in options.items():
        registry.check({"name": name, **params}, errors)
    if errors:
        raise ValueError("; ".join(errors))
    return options


@registry.register
def none(note: Note, context: LogContext) -> None:
    """Only log.jsonl and the terminal."""


@registry.register
def wandb_(
    note: Note, context: LogContext, *, project: str = "maskcls", entity: str | None = None, group: str | None = None,
    tags: list[str] = [], mode: MODES = "auto", images: ImageCount = 24, weights: bool = False,
) -> Logger:  # fmt: skip
    """Weights & Biases: offline unless you are logged in or WANDB_MODE is set; the jobs of a sweep share a group.

    Args:
        project: W&B project of the runs
        entity: W&B user or team; null: your default entity
        group: W&B group; null: the name of the sweep
        tags: W&B tags of the run
        mode: auto: offline unless you are logged in
        images: number of worst mistakes that are logged with their images
        weights: log the best weights as an artifact
    """
    init_args = {"project": project, "entity": entity, "group": group, "tags": tags}
    return Wandb(note, context, init_args, mode, images, weights)


@registry.register
def csv(note: Note, context: LogContext) -> Logger:
    """metrics.csv in the run directory, one row for each fold and epoch."""
    return CsvLogger()


@registry.register
def tensorboard(note: Note, context: LogContext) -> Logger:
    """TensorBoard, a series for each fold in tensorboard/ of the run directory; needs package tensorboard."""
    require_package("tensorboard", "tensorboard")
    return TensorBoard(note, context)


@registry.register
def mlflow(note: Note, context: LogContext, *, project: str = "maskcls", uri: str | None = None) -> Logger:
    """MLflow, in a local database or on a tracking server; needs package mlflow.

    Args:
        project: MLflow experiment of the runs
        uri: tracking URI; null: MLFLOW_TRACKING_URI, else mlflow.db in runs_dir
    """
    require_package("mlflow", "mlflow")
    return MLflow(note, context, project, uri)


@registry.register
def several(
    note: Note, context: LogContext, *, names: Annotated[list[str], AfterValidator(check_names)] = ["wandb", "csv"],
    options: Annotated[dict[str, dict[str, Any]], AfterValidator(check_options)] = {},
) -> Logger:  # fmt: skip
    """Several loggers at once.

    Args:
        names: loggers to use, such as [wandb,csv]
        options: parameters by logger, such as logger.options.wandb.project=faces
    """
    if unused := options.keys() - set(names):
        name = sorted(unused)[0]
        raise ConfigError(f"logger.options.{name}: logger.names=[{','.join(names)}] does not contain {name}")
    return LoggerCollection(build_loggers(note, context, names, options))


def build_loggers(
    note: Note, context: LogContext, names: Sequence[str], options: dict[str, dict[str, Any]]
) -> list[Logger]:
    """Return the loggers of some names."""
    components = [registry.check({"name": name, **options.get(name, {})}, []) for name in names]
    return [component.build(note, context) for component in components if component]
