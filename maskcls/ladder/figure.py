"""The climb as a figure: the published scores and ours over the rungs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskcls.ladder.rungs import Rung, rungs
from maskcls.reporting.comparison import Record
from maskcls.reporting.figure_style import Theme, legend, new_figure, set_titles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(ladder: str, records: Mapping[str, Record], dress: Theme) -> Figure:
    """Return the climb: the published scores and ours over the rungs, ours with intervals.

    A line joins only scores of one kind: by person or as published (leaking, hollow), evaluation or out of fold.
    """
    every = rungs(ladder)
    canvas, (ax,) = new_figure(dress, max(6.0, 1.1 * len(every)), 4.2)
    for faithful in (False, True):
        known = [
            (i, rung.published["f1"])
            for i, rung in enumerate(every)
            if "f1" in rung.published and rung.as_published == faithful
        ]
        label = None if faithful else "published (the competition's hidden people)"
        if known:
            ax.plot(*zip(*known, strict=True), "o--", color=dress.series[1], alpha=0.7, label=label)
    for i, (kind, line) in enumerate(lines(every, records).items()):
        x, f1 = [place for place, _ in line], np.array([scores["f1"] for _, scores in line])
        ends = np.abs(np.array([scores["interval"] or [np.nan] * 2 for _, scores in line]) - f1[:, None]).T
        as_told = "as published" in kind
        ax.errorbar(
            x,
            f1,
            ends,
            fmt="o-",
            color=dress.series[0 if i == 0 else i + 1],
            capsize=3,
            label=kind,
            mfc=dress.paper if as_told else None,
        )
    ax.set_xticks(range(len(every)), [rung.name for rung in every], rotation=25, ha="right")
    ax.set_ylim(0, 1)
    set_titles(ax, dress, "", "macro F1", f"Ladder {ladder}")
    legend(ax, dress, loc="best")
    return canvas


def lines(every: Sequence[Rung], records: Mapping[str, Record]) -> dict[str, list[tuple[int, Record]]]:
    """Return our scores by what they are of, each with its rung's place."""
    found: dict[str, list[tuple[int, Record]]] = {}
    for i, rung in enumerate(every):
        if one := records.get(rung.name):
            scores = one["scores"][one["scores"]["answer"]]
            what = "out of fold" if one["scores"]["answer"] == "oof" else "evaluation people"
            split = " of folds as published" if rung.as_published else ""
            found.setdefault(f"ours, {what}{split} (95 % over people)", []).append((i, scores))
    return found
