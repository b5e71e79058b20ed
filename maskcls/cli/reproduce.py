"""Climb the published ladders: train what is missing of every rung, and set ours beside what was published.

python -m maskcls reproduce                    all ladders on drawn people, scale=smoke: minutes, nothing is learned
python -m maskcls reproduce ladder=team scale=small data=competition data.root=../mask-data
python -m maskcls reproduce ladder=team scale=full data=competition data.root=../mask-data seeds=0,1,2 keep=true

ladder=team,workflow,madgrad · scale=smoke|small|full · rungs=focal,folds · seeds=0,1 · keep=true records into
experiments/results · anything else is an override of every run. Asked again it goes on, or answers at once.
"""

from __future__ import annotations

import sys

from maskcls.cli.command import run_command
from maskcls.core.errors import ConfigError

OWN = {"ladder": "team,workflow,madgrad", "scale": "smoke", "rungs": "", "seeds": "0", "keep": "false"}


def asked(arguments: list[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the own words of a command line as lists, and the overrides of the runs."""
    pairs = [argument.partition("=") for argument in arguments]
    if wrong := [key for key, sign, _ in pairs if not sign]:
        raise ConfigError(f"{wrong[0]!r} is no key=value; python -m maskcls reproduce --help tells the keys")
    own = OWN | {key: value for key, _, value in pairs if key in OWN}
    lists = {key: tuple(filter(None, value.split(","))) for key, value in own.items()}
    given = tuple(argument for argument in arguments if argument.partition("=")[0] not in OWN)
    return lists, given


@run_command
def main() -> None:
    """Plan, climb, record, and show; a rung that failed ends in exit code 2, after all the others."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((__doc__ or "").strip())
        return
    own, given = asked(sys.argv[1:])
    from maskcls.ladder.reproduction import reproduce  # torch is imported only for real work

    reproduce(own, given)
