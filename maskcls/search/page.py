"""The page of a search, one HTML file without links: table, conclusions and figures."""

from __future__ import annotations

from pathlib import Path

from maskcls.reporting.figure_style import DARK, LIGHT, png
from maskcls.reporting.page_rendering import data_uri, render_template
from maskcls.search.figures import FIGURES
from maskcls.search.outcome import Outcome
from maskcls.system.files import atomic_write, write_text


def write_page(outcome: Outcome) -> Path:
    """Write search.html and its figures as PNG to the folder of a search; return the page's path."""
    folder, figures = outcome.search.folder, []
    for name, draw in FIGURES.items():
        images = [png(figure) for theme in (LIGHT, DARK) if (figure := draw(outcome, theme)) is not None]
        if images:
            atomic_write(folder / f"{name}.png", lambda file, image=images[0]: file.write(image))  # type: ignore[misc]
            figures.append((name.replace("_", " "), [data_uri("png", image) for image in images]))
    head, rows = outcome.table()
    values = {
        "title": outcome.search.id, "sentences": outcome.sentences(), "head": head, "rows": rows, "figures": figures,
        "command": outcome.command if outcome.best else "", "settings": outcome.search.content,
    }  # fmt: skip
    path = folder / "search.html"
    write_text(path, render_template("search.html.j2", values))
    return path
