"""Ladder pages: HTML, Markdown and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskcls.ladder import tables as tables_module
from maskcls.ladder.figure import figure
from maskcls.ladder.results import load_results
from maskcls.ladder.tables import HEAD, captions, markdown, rows, title
from maskcls.reporting.figure_style import DARK, LIGHT, png
from maskcls.reporting.html import data_uri, render_template
from maskcls.system import console
from maskcls.system.files import atomic_write, write_text


def pages(folder: Path, ladders: Sequence[str]) -> None:
    """Write each ladder's tables as a page and as Markdown, and its plots as PNG."""
    for ladder in ladders:
        for i, records in enumerate(load_results(folder, ladder).values()):
            image = png(figure(ladder, records, LIGHT))
            atomic_write(folder / f"{ladder}{f'-{i}' if i else ''}.png", lambda file, image=image: file.write(image))  # type: ignore[misc]
        write_text(folder / f"{ladder}.md", markdown(folder, ladder) + "\n")
    write_text(folder / "ladders.html", page(folder, ladders))
    console.info(str(folder / "ladders.html"))


def page(folder: Path, ladders: Sequence[str]) -> str:
    """Return one self-contained HTML page of ladders: each table with its plot."""
    tables = []
    for ladder in ladders:
        for key, records in tables_module.tables(folder, ladder).items():
            images = [data_uri("png", png(figure(ladder, records, dress))) for dress in (LIGHT, DARK)]
            told = {"rows": rows(ladder, records), "captions": captions(records)}
            tables.append({"name": title(ladder, key), "images": images, **told})
    return render_template("ladders.html.j2", {"title": "Ladders", "head": HEAD, "tables": tables})
