"""Show ladders from what is kept of their rungs, or compare any finished runs.

python -m maskcls table                            what experiments/results keeps, in the terminal
python -m maskcls table team --results runs/ladders --html team.html --markdown team.md
python -m maskcls table --write experiments/README.md          put the tables between the file's two markers
python -m maskcls table --runs runs/a-1234 runs/b-5678   each run beside the one before it, paired over people
"""

from __future__ import annotations

import argparse
from pathlib import Path

from maskcls.cli.command import run_command
from maskcls.cli.compare import compare
from maskcls.config.overrides import resource_dir
from maskcls.core.errors import ConfigError, unknown_message
from maskcls.ladder.rungs import LADDERS
from maskcls.system import console
from maskcls.system.files import replace_between_markers, write_text

MARKERS = "<!-- ladders: python -m maskcls table --write experiments/README.md -->", "<!-- /ladders -->"


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser("python -m maskcls table", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ladder", nargs="*", help=f"of {', '.join(LADDERS)}; by default all")
    parser.add_argument(
        "--results", type=Path, default=resource_dir("experiments") / "results", help="a folder of results"
    )
    parser.add_argument("--html", type=Path, help="write a page with the plot")
    parser.add_argument("--markdown", type=Path, help="write the tables in Markdown")
    parser.add_argument(
        "--write", type=Path, help="put the tables between the two markers of a file, such as README.md"
    )
    parser.add_argument("--runs", nargs="+", default=[], help="compare finished runs, each with the one before it")
    parser.add_argument("--runs-dir", default="runs", help="where runs are looked for by name")
    return parser.parse_args()


@run_command
def main() -> None:
    """Show, write or compare what the command line asks for."""
    asked = arguments()
    if faults := [unknown_message("ladder", name, LADDERS) for name in asked.ladder if name not in LADDERS]:
        raise ConfigError(*faults)
    if asked.runs:
        compare(asked.runs, asked.runs_dir)
        return
    from maskcls.ladder.pages import page
    from maskcls.ladder.results import load_results
    from maskcls.ladder.tables import markdown, show

    ladders = asked.ladder or LADDERS
    if not any(load_results(asked.results, ladder) for ladder in ladders):
        console.info(
            f"no rung of {', '.join(ladders)} has a result in {asked.results}: python -m maskcls reproduce makes them"
        )
    for ladder in ladders:
        show(asked.results, ladder)
    text = "\n\n".join(filter(None, (markdown(asked.results, ladder) for ladder in ladders)))
    if asked.markdown:
        write_text(asked.markdown, text + "\n")
    if asked.write:
        replace_between_markers(asked.write, MARKERS, text)
    if asked.html:
        write_text(asked.html, page(asked.results, ladders))
