"""Figure of a ladder: published and reproduced macro F1 over the rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.reporting.comparison import Record
from maskcls.reporting.figure_style import Theme, legend, new_figure, set_titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAK = "†"  # people are in both training and validation


def plot_ladder(ladder: str, records: Mapping[str, Record], theme: Theme) -> Figure:
    """Return the figure of a ladder: published scores above ours, each with its own scale, over the same rungs.

    A ladder without published scores has the lower part alone.
    """
    ladder_rungs = load_rungs(ladder)
    rows = 1 + any("f1" in rung.published for rung in ladder_rungs)
    size = max(6.0, 1.1 * len(ladder_rungs)), 1.2 + 2.4 * rows
    canvas, axes = new_figure(theme, *size, nrows=rows, sharex=True)
    if rows > 1:
        draw_published(axes[0], ladder_rungs, theme)
    draw_ours(axes[-1], ladder_rungs, records, theme)
    axes[-1].set_xticks(range(len(ladder_rungs)), [rung.name for rung in ladder_rungs], rotation=25, ha="right")
    axes[0].set_title(f"Ladder {ladder}", color=theme.ink, fontsize=10, loc="left", fontweight="bold")
    return canvas


def draw_published(ax: Axes, ladder_rungs: Sequence[Rung], theme: Theme) -> None:
    """Draw the published scores, a line for each reading of the folds."""
    for faithful in (False, True):
        points = [(i, rung.published["f1"]) for i, rung in enumerate(ladder_rungs)
                  if "f1" in rung.published and rung.as_published == faithful]  # fmt: skip
        label = "published, for folds of images" if faithful else "published, on hidden people of the competition"
        if points:
            color = theme.series[1]
            ax.plot(*zip(*points, strict=True), "o--", color=color, label=label, mfc=theme.paper if faithful else None)
    set_titles(ax, theme, "", "published macro F1")
    legend(ax, theme, loc="best")


def draw_ours(ax: Axes, ladder_rungs: Sequence[Rung], records: Mapping[str, Record], theme: Theme) -> None:
    """Draw our scores with intervals, and the mark of a leak above its point.

    A line joins scores of one kind only: folds of people or image-level folds (hollow), evaluation or out of fold.
    """
    for i, (kind, line) in enumerate(score_lines(ladder_rungs, records).items()):
        x, f1 = [position for position, _ in line], np.array([scores["f1"] for _, scores in line])
        errors = np.abs(np.array([scores["interval"] or [np.nan] * 2 for _, scores in line]) - f1[:, None]).T
        color = theme.series[0 if i == 0 else i + 1]
        mfc = theme.paper if "as published" in kind else None
        ax.errorbar(x, f1, errors, fmt="o-", color=color, capsize=3, label=kind, mfc=mfc)
    for i, rung in enumerate(ladder_rungs):
        if record := records.get(rung.name):
            scores = record["scores"][record["scores"]["answer"]]
            top = (scores["interval"] or [scores["f1"]])[-1]
            ax.annotate(LEAK if record.get("leak") else "", (i, top), (0, 3), textcoords="offset points",
                        ha="center", color=theme.ink)  # fmt: skip
    set_titles(ax, theme, "", "our macro F1")
    if ax.get_legend_handles_labels()[1]:
        legend(ax, theme, loc="best")


def score_lines(ladder_rungs: Sequence[Rung], records: Mapping[str, Record]) -> dict[str, list[tuple[int, Record]]]:
    """Return the reproduced scores by kind, each with the position of its rung."""
    lines: dict[str, list[tuple[int, Record]]] = {}
    for i, rung in enumerate(ladder_rungs):
        if record := records.get(rung.name):
            kind = record["scores"]["answer"]
            part = "out of fold" if kind == "oof" else "evaluation people"
            split = ", folds as published" if rung.as_published else ""
            lines.setdefault(f"ours, {part}{split} (95 % over people)", []).append((i, record["scores"][kind]))
    return lines
