"""A search from its plan to its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskcls.components.loggers.base import LogContext
from maskcls.components.loggers.wandb_logger import Wandb
from maskcls.search.outcome import Outcome
from maskcls.search.page import write_page
from maskcls.search.plan import Search, TuneConfig, describe_changes, plan_search
from maskcls.search.study import claim_trials, open_study
from maskcls.search.trials import run_trial
from maskcls.system import console
from maskcls.system.files import check_writable

if TYPE_CHECKING:
    import optuna


def tune(options: TuneConfig) -> None:
    """Run the missing trials of a search together with other processes, then report the outcome."""
    search = plan_search(options)
    check_writable(runs_dir=search.example.runs_dir)
    if changes := describe_changes(search):
        console.info(changes, "yellow")
    study = open_study(search)
    known = len(study.get_trials(deepcopy=False))
    console.info(f"{search.folder}: {min(known, search.n_trials)} of {search.n_trials} trials exist", "bold")
    for trial in claim_trials(search, study):
        run_trial(search, study, trial)
    report_outcome(search, study)


def report_outcome(search: Search, study: optuna.Study) -> Path:
    """Print the trials and the conclusions, write the page, log the table to W&B, and return the page's path."""
    outcome = Outcome(search, study)
    head, rows = outcome.table()
    console.print_table("", head, rows, left=1 + len(outcome.keys))
    for line in outcome.sentences():
        console.info(line)
    if outcome.importances:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in outcome.importances.items())
        console.info(f"importance: {shares}")
    if outcome.best:
        console.info(outcome.command)
    path = write_page(outcome)
    log_outcome(outcome, head, rows)
    console.info(str(path))
    return path


def log_outcome(outcome: Outcome, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Log the table, the plots and the page to W&B, in the group of the trials, if logger=wandb."""
    logger: Any = outcome.search.example.logger.build(console.info, LogContext(outcome.search.id))
    if isinstance(logger, Wandb):
        logger.log_tables(outcome.search.id, outcome.search.folder, head, {"trials": rows})
