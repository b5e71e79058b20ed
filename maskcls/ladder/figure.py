"""Figure of a ladder: published and reproduced macro F1 over the rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskcls.ladder.rungs import Rung, load_rungs
from maskcls.reporting.comparison import Record
from maskcls.reporting.figure_style import Theme, legend, new_figure, set_titles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_ladder(ladder: str, records: Mapping[str, Record], theme: Theme) -> Figure:
    """Return the figure of published and reproduced scores over the rungs, the latter with intervals.

    A line joins scores of one kind only: folds of people or image-level folds (hollow), evaluation or out of fold.
    """
    ladder_rungs = load_rungs(ladder)
    canvas, (ax,) = new_figure(theme, max(6.0, 1.1 * len(ladder_rungs)), 4.2)
    for faithful in (False, True):
        points = [
            (i, rung.published["f1"])
            for i, rung in enumerate(ladder_rungs)
            if "f1" in rung.published and rung.as_published == faithful
        ]
        label = None if faithful else "published (hidden people of the competition)"
        if points:
            ax.plot(*zip(*points, strict=True), "o--", color=theme.series[1], alpha=0.7, label=label)
    for i, (kind, line) in enumerate(score_lines(ladder_rungs, records).items()):
        x, f1 = [position for position, _ in line], np.array([scores["f1"] for _, scores in line])
        errors = np.abs(np.array([scores["interval"] or [np.nan] * 2 for _, scores in line]) - f1[:, None]).T
        is_hollow = "as published" in kind
        ax.errorbar(
            x,
            f1,
            errors,
            fmt="o-",
            color=theme.series[0 if i == 0 else i + 1],
            capsize=3,
            label=kind,
            mfc=theme.paper if is_hollow else None,
        )
    ax.set_xticks(range(len(ladder_rungs)), [rung.name for rung in ladder_rungs], rotation=25, ha="right")
    ax.set_ylim(0, 1)
    set_titles(ax, theme, "", "macro F1", f"Ladder {ladder}")
    legend(ax, theme, loc="best")
    return canvas


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
