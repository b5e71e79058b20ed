"""A search from its plan to its outcome."""

from __future__ import annotations

from maskcls.search.outcome import report_outcome
from maskcls.search.plan import TuneConfig, describe_changes, plan_search
from maskcls.search.study import claim_trials, open_study
from maskcls.search.trials import run_trial
from maskcls.system import console
from maskcls.system.files import check_writable


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
