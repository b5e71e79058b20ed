"""The Optuna study of a search in a shared folder, and exactly so many trials by any number of processes."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskcls.core.errors import ConfigError
from maskcls.search.plan import Search
from maskcls.search.space import to_words
from maskcls.system import console
from maskcls.system.files import file_lock, write_json

if TYPE_CHECKING:
    import optuna

PARTS = 6  # of the people of each fold, for the paired test: see build_pruner
P_VALUE = 0.2  # of the paired test: experiments/results/search compares 0.1, 0.2 and 0.3
STARTUP = 10  # random trials before TPE
POLL = 1.0  # seconds between looks at the trials of other processes


class JournalLock:
    """The lock of a journal file, which ends with its process; half a line of a killed process is cut off."""

    def __init__(self, path: Path) -> None:
        self.path, self.stack = path, ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self.stack.enter_context(file_lock(self.path.with_name("journal.lock")))
        with self.path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            while end and (file.seek(end - 1), file.read(1))[1] != b"\n":
                end -= 1
            file.truncate(end)
        return True

    def release(self) -> None:
        """Release the lock."""
        self.stack.close()


@contextlib.contextmanager
def ignore_experimental() -> Iterator[None]:
    """Context manager, or decorator, that silences Optuna's warnings about interfaces that may change."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@ignore_experimental()
def open_study(search: Search) -> optuna.Study:
    """Return the Optuna study of a search, new or begun, in its journal or at its URL."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search.folder.mkdir(parents=True, exist_ok=True)
    storage: Any = search.options.storage
    if storage is None:
        path = search.folder / "journal.log"
        with file_lock(path.with_name("journal.lock")):
            path.touch()
        storage = JournalStorage(JournalFileBackend(str(path), JournalLock(path)))  # type: ignore[arg-type]
    with file_lock(search.folder / "lock"):
        try:
            study = optuna.create_study(
                study_name=search.id, storage=storage, direction="maximize", load_if_exists=True, pruner=build_pruner()
            )
        except (ImportError, ValueError) as error:
            raise ConfigError(f"storage: {error}") from error
        write_json(search.folder / "search.json", search.content)
    return study


@ignore_experimental()
def build_pruner() -> optuna.pruners.BasePruner:
    """Return Optuna's Wilcoxon pruner, which compares a trial with the best one on the same people.

    Five folds alone allow no certain verdict before the fourth: the p-value of n pairs is at least 1/2ⁿ. The people of
    each fold are therefore compared in PARTS parts, and no trial stops before its first fold is finished.
    """
    import optuna

    return optuna.pruners.WilcoxonPruner(p_threshold=P_VALUE, n_startup_steps=PARTS)


@ignore_experimental()
def build_sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a trial, seeded with its number, so that a killed process changes no later choice."""
    from optuna import samplers

    method = search.options.method
    seed = int(np.random.SeedSequence([search.options.search_seed, number]).generate_state(1)[0])
    if method == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
    if method == "random":
        return samplers.RandomSampler(seed)
    grid = search.space.grid()
    values = {param.label: value for param, value in grid[number % len(grid)]}
    return samplers.PartialFixedSampler(values, samplers.RandomSampler(seed))


class Busy(Exception):
    """Another process holds a lock."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Context manager that holds a lock; raise Busy if another process does."""

    def refuse() -> None:
        raise Busy

    with file_lock(path, refuse):
        yield


def claim_trials(search: Search, study: optuna.Study) -> Iterator[optuna.Trial]:
    """Yield trials to run, each held by this process, until n_trials are finished by all processes together.

    A trial whose process was killed is yielded again, with its number and its values.
    """
    while True:
        with ExitStack() as stack:
            trial = claim(search, study, stack)
            if trial is not None:
                yield trial
                continue
        running = running_trials(study)
        if not running:
            return
        console.info_once(f"waiting for {len(running)} trials of other processes")
        time.sleep(POLL)


def claim(search: Search, study: optuna.Study, stack: ExitStack) -> optuna.Trial | None:
    """Return an abandoned trial, else a new one if there are fewer than n_trials, else None; its lock is on `stack`."""
    import optuna

    with file_lock(search.folder / "lock"):
        for frozen in running_trials(study):
            with contextlib.suppress(Busy):
                stack.enter_context(hold(lock_path(search, frozen.number)))
                if frozen.number in {other.number for other in running_trials(study)}:  # not finished just now
                    study.sampler = build_sampler(search, frozen.number)
                    trial = optuna.Trial(study, frozen._trial_id)
                    choose(search, trial)
                    console.info(f"trial {trial.number}: taken up from a process that has ended", "yellow")
                    return trial
                stack.pop_all().close()
        trials = study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        if len(trials) - len(retried - {None}) >= search.n_trials:
            return next_retry(search, study, stack, retried) if search.options.retry else None
        study.sampler = build_sampler(search, len(trials))
        trial = study.ask()
        stack.enter_context(hold(lock_path(search, trial.number)))
        choose(search, trial)
        return trial


def next_retry(search: Search, study: optuna.Study, stack: ExitStack, retried: set[Any]) -> optuna.Trial | None:
    """Return a new trial with the values of a failed one that was not tried again, None without one."""
    import optuna

    for failed in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.FAIL,)):
        if failed.number not in retried and "retry_of" not in failed.user_attrs:
            study.enqueue_trial(failed.params, user_attrs={"retry_of": failed.number})
            trial = study.ask()
            stack.enter_context(hold(lock_path(search, trial.number)))
            choose(search, trial)
            return trial
    return None


def choose(search: Search, trial: optuna.Trial) -> None:
    """Choose the values of a trial, and keep them as overrides."""
    words = to_words(search.space.choose(lambda param: param.suggest(trial)))
    if trial.user_attrs.get("words") != words:
        trial.set_user_attr("words", words)


def lock_path(search: Search, number: int) -> Path:
    """Return the lock that the process of a trial holds."""
    return search.folder / "trials" / f"{number}.lock"


def running_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that are begun and not finished."""
    import optuna

    return study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
