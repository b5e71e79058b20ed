"""Speed on this machine, of training loops and of whole trainings to a score: tables, JSON and a figure.

maskcls benchmark                                                            three networks on synthetic people
maskcls benchmark settings=resnet18:200x100:32:8 rounds=15 precision=bf16
maskcls benchmark kind=start data=competition data.root=../mask-data         from the start of a run to its first batch
maskcls benchmark kind=scale images=1000,18900                               time and memory by data set size
maskcls benchmark time-to-score data=competition data.root=../mask-data      F1 on people set aside against wall seconds

Other key=value arguments are overrides of the runs.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from maskcls.benchmark.options import BenchmarkOptions
from maskcls.benchmark.suites import SUITES, format_machine, machine_info
from maskcls.cli.arguments import options_command
from maskcls.system import console
from maskcls.system.files import atomic_write, write_json


@options_command(BenchmarkOptions, overrides=True, positional=("kind",))
def main(options: BenchmarkOptions, overrides: list[str]) -> None:
    """Measure, print, and write the results."""
    if options.kind == "size":
        print(json.dumps(SUITES["size"](options, overrides)))
        return
    from maskcls.benchmark.harness import without_paths

    machine = machine_info()
    console.info(format_machine(machine), "bold")
    suite = SUITES[options.kind](options, overrides)
    result = {"kind": options.kind, "machine": machine, "command": without_paths(sys.argv[1:]), **suite}
    name = re.sub(r"\W+", "-", f"{machine['gpu'] or machine['cpu']} {machine['cores']} cores").lower()
    suffix = "" if options.kind == "speed" else f"-{options.kind}"
    path = Path(options.out or f"experiments/results/bench/{name}{suffix}.json")
    write_json(path, result)
    console.info(f"written to {path}")
    if options.kind == "time-to-score":
        from maskcls.benchmark.time_to_score import plot_curves

        image = plot_curves(result)
        atomic_write(path.with_suffix(".png"), lambda file: file.write(image))
