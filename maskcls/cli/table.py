"""Result tables of the ladders, from the stored records of their rungs.

maskcls table                                        the records in experiments/results
maskcls table ladder=team results=runs/ladders html=team.html markdown=team.md
maskcls table write=experiments/README.md            insert the tables between the markers of the file
maskcls table write=README.md                        the same; between the markers of a summary, a row for each ladder
maskcls table figures=experiments/images             the figures: published scores above ours
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maskcls.cli.arguments import options_command
from maskcls.config.config_folders import resource_dir
from maskcls.system import console
from maskcls.system.files import replace_between_markers, write_text

MARKERS = "<!-- ladders: maskcls table write=experiments/README.md -->", "<!-- /ladders -->"
SUMMARY_MARKERS = "<!-- summary: maskcls table write=README.md -->", "<!-- /summary -->"

Ladder = Literal["team", "workflow", "madgrad", "tried", "winner", "best"]


@dataclass(frozen=True)
class TableOptions:
    """Options of `maskcls table`."""

    ladder: tuple[Ladder, ...] = ("team", "workflow", "madgrad", "tried", "winner", "best")  # ladders to show
    results: str | None = None  # folder of the records; null: experiments/results
    html: str | None = None  # HTML page to write, with a figure
    markdown: str | None = None  # Markdown file to write
    figures: str | None = None  # folder to write the figure of each ladder with results to
    write: str | None = None  # file with two markers, such as README.md, to insert the tables into


@options_command(TableOptions)
def main(options: TableOptions) -> None:
    """Print the tables, and write them to files."""
    from maskcls.ladder.pages import render_page, write_figures
    from maskcls.ladder.results import load_results
    from maskcls.ladder.summary import markdown_summary
    from maskcls.ladder.tables import markdown_tables, print_tables

    results = Path(options.results) if options.results else resource_dir("experiments") / "results"
    if not any(load_results(results, ladder) for ladder in options.ladder):
        console.info(f"no results of {', '.join(options.ladder)} in {results}. Run maskcls reproduce")
    for ladder in options.ladder:
        print_tables(results, ladder)
    text = "\n\n".join(filter(None, (markdown_tables(results, ladder) for ladder in options.ladder)))
    if options.markdown:
        write_text(Path(options.markdown), text + "\n")
    if options.figures:
        write_figures(results, Path(options.figures), options.ladder)
    if options.write:
        path = Path(options.write)
        if path.is_file() and SUMMARY_MARKERS[0] in path.read_text(encoding="utf-8"):
            replace_between_markers(path, SUMMARY_MARKERS, markdown_summary(results, options.ladder))
        else:
            replace_between_markers(path, MARKERS, text)
    if options.html:
        write_text(Path(options.html), render_page(results, options.ladder))
