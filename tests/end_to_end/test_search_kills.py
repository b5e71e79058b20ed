"""Two processes of one search, killed (kill -9) at random: exactly so many trials, none trained twice, the same best one."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TINY
from zygote import Zygote

from maskcls.search.plan import TuneConfig, plan_search
from maskcls.search.study import open_study

TRIALS = 6
SEED = 20


def words(drawn: Path, place: Path) -> list[str]:
    """Return the overrides of a search in a place of its own."""
    folders = [f"data.root={drawn}", f"runs_dir={place}/runs", f"cache_dir={place}/cache"]
    return [*TINY, *folders, "loss=ce,focal", "loss.gamma=interval(1,3)", "optimizer.lr=tag(log,interval(1e-4,1e-2))"]


def options(n_trials: int, method: str = "random") -> list[str]:
    """Return the options of the command."""
    return [f"n_trials={n_trials}", f"method={method}", "prune=false"]


def trials_of(drawn: Path, place: Path, method: str = "random") -> list[tuple[str, object, list[str], str]]:
    """Return state, score, overrides and run of each trial of a search."""
    config = TuneConfig(None, TRIALS, method, 0, False, None, False, tuple(words(drawn, place)))  # type: ignore[arg-type]
    study = open_study(plan_search(config))
    return [(one.state.name, one.value, one.user_attrs["words"], one.user_attrs["run"]) for one in study.trials]


def repeated_epochs(place: Path) -> int:
    """Return how many epochs were trained more than once in all runs of a place."""
    logs = [(run / "log.jsonl").read_bytes().splitlines() for run in (place / "runs").glob("t-*")]
    assert all(len(lines) >= 4 for lines in logs)  # two folds of two epochs
    return sum(len(lines) - 4 for lines in logs)


def survive(zygotes: list[Zygote], drawn: Path, place: Path, chance: random.Random, seconds: float, limit: int) -> int:
    """Run a search in two processes that are killed and started again; return how many kills there were."""
    call, kills = [*options(TRIALS), *words(drawn, place)], 0
    running = [zygote.start(place, call, command="tune") for zygote in zygotes]
    while kills < limit:
        time.sleep(chance.random() * seconds)
        i = chance.randrange(len(zygotes))
        os.kill(running[i], signal.SIGKILL)  # it is not waited for yet, so the number is still its own
        code = zygotes[i].wait(running[i])
        assert code in (0, -signal.SIGKILL), (place / "log").read_text()[-3000:]
        kills += code != 0
        running[i] = zygotes[i].start(place, call, command="tune")
        if code == 0:
            break
    codes = [zygote.wait(pid) for zygote, pid in zip(zygotes, running, strict=True)]
    assert codes == [0, 0], (place / "log").read_text()[-3000:]
    return kills


@pytest.mark.slow
def test_thirty_kills_of_two_processes_leave_exactly_the_trials_of_an_unkilled_search(drawn: Path, tmp_path: Path) -> None:
    with closing(Zygote()) as first, closing(Zygote()) as second:
        whole, chance, kills, rounds = tmp_path / "whole", random.Random(SEED), 0, 0
        begun = time.monotonic()
        first.wait(first.start(whole, [*options(TRIALS), *words(drawn, whole)], command="tune"))
        seconds, expected = (time.monotonic() - begun) / TRIALS, trials_of(drawn, whole)
        assert len(expected) == TRIALS and {state for state, *_ in expected} == {"COMPLETE"}
        assert repeated_epochs(whole) == 0
        while kills < 30:
            rounds += 1
            assert rounds <= 30, f"only {kills} kills came before the end"
            place = tmp_path / str(rounds)
            here = survive([first, second], drawn, place, chance, seconds, 30 - kills)
            kills += here
            assert trials_of(drawn, place) == expected  # also the best one: its score, its values and its run
            assert {path.name for path in (place / "runs").glob("t-*")} == {run for *_, run in expected}
            assert repeated_epochs(place) <= here  # a killed epoch is trained again, nothing else


