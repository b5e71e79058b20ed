"""Ladder pages: HTML, Markdown and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskcls.ladder.figure import plot_ladder
from maskcls.ladder.results import load_results
from maskcls.ladder.tables import HEAD, captions, format_title, load_tables, markdown_tables, table_rows
from maskcls.reporting.figure_style import DARK, LIGHT, png
from maskcls.reporting.page_rendering import data_uri, render_template
from maskcls.system import console
from maskcls.system.files import atomic_write, write_text


def write_pages(folder: Path, ladders: Sequence[str]) -> None:
    """Write the tables of ladders as one HTML page and as Markdown, and the figures as PNG."""
    write_figures(folder, folder, ladders)
    for ladder in ladders:
        write_text(folder / f"{ladder}.md", markdown_tables(folder, ladder) + "\n")
    write_text(folder / "ladders.html", render_page(folder, ladders))
    console.info(str(folder / "ladders.html"))


def write_figures(results: Path, folder: Path, ladders: Sequence[str]) -> None:
    """Write the figure of each set of results of ladders as <ladder>.png, <ladder>-1.png, …."""
    for ladder in ladders:
        for i, records in enumerate(load_results(results, ladder).values()):
            image = png(plot_ladder(ladder, records, LIGHT))
            atomic_write(folder / f"{ladder}{f'-{i}' if i else ''}.png", lambda file, image=image: file.write(image))  # type: ignore[misc]


def render_page(folder: Path, ladders: Sequence[str]) -> str:
    """Return one self-contained HTML page with the tables and figures of ladders."""
    tables = []
    for ladder in ladders:
        for key, records in load_tables(folder, ladder).items():
            images = [data_uri("png", png(plot_ladder(ladder, records, theme))) for theme in (LIGHT, DARK)]
            values = {"rows": table_rows(ladder, records), "captions": captions(ladder, records)}
            tables.append({"name": format_title(ladder, key), "images": images, **values})
    return render_template("ladders.html.j2", {"title": "Ladders", "head": HEAD, "tables": tables})
