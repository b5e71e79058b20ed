"""Measure the speed of training on this machine, against other loops and against the limit: a table, and JSON.

python -m maskcls benchmark                                           three networks on drawn people
python -m maskcls benchmark --settings resnet18:200x100:32:8 --rounds 15 precision=bf16
python -m maskcls benchmark data=competition data.root=../mask-data   other photos, or any other word of a run
python -m maskcls benchmark start data=competition data.root=../mask-data   from a run's beginning to its first batch
python -m maskcls benchmark scale --photos 1000,18900                 what a set of so many photos costs
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from maskcls.benchmark.suites import KINDS, Asked, line, machine_info, size
from maskcls.cli.command import run_command
from maskcls.core.errors import ConfigError
from maskcls.system import console
from maskcls.system.files import write_json


def asked() -> Asked:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser("python -m maskcls benchmark", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="start or scale, if wanted, then words of a run, such as loss=ce")
    parser.add_argument("--settings", help="model:HEIGHTxWIDTH:batch:steps, several with commas between")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; each contender has a turn in each (%(default)s)")
    parser.add_argument("--photos", type=sizes, default="1000,4200", help="of scale: sizes of the set (%(default)s)")
    parser.add_argument("--people", type=int, default=100, help="of scale: people who are drawn (%(default)s)")
    parser.add_argument("--json", type=Path, help="the file of results (experiments/results/bench/<machine>.json)")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # one size, in a process of its own
    given = parser.parse_intermixed_args()
    kind = given.words[0] if given.words and "=" not in given.words[0] else "speed"
    if kind not in KINDS:
        raise ConfigError(f"bench: {kind!r} is neither start nor scale, nor a word=value of a run")
    if given.rounds < 1:
        raise ConfigError(f"--rounds: {given.rounds} is no number of rounds")
    if given.people < 1:
        raise ConfigError(f"--people: {given.people} is no number of people")
    given.kind, given.words = kind, [word for word in given.words if word != kind]
    return given


def sizes(text: str) -> list[int]:
    """Return numbers of photos, as they stand with commas between; ValueError for what is none."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError(text)
    return found


@run_command
def main() -> None:
    """Measure, print and write what the command line asks for."""
    given = asked()
    if given.alone:
        print(json.dumps(size(given)))
        return
    facts = machine_info()
    console.info(line(facts), "bold")
    result = {"kind": given.kind, "machine": facts, "command": sys.argv[1:], **KINDS[given.kind](given)}
    name = re.sub(r"\W+", "-", f"{facts['gpu'] or facts['cpu']} {facts['cores']} cores").lower()
    tail = "" if given.kind == "speed" else f"-{given.kind}"
    path = given.json or Path("experiments/results/bench") / f"{name}{tail}.json"
    write_json(path, result)
    console.info(f"written to {path}")
