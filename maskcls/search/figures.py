"""The figures of a search: its history, the importance of the parameters, and the score over each parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from maskcls.reporting.figure_style import Theme, legend, new_figure, set_titles
from maskcls.search.outcome import Outcome
from maskcls.search.params import Param, override_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # of the figure of the parameters


def history(outcome: Outcome, theme: Theme) -> Figure | None:
    """Return the score of each trial in their order, the best so far as a line; stopped trials have a cross."""
    rows = sorted((row for row in outcome.rows if row.run), key=lambda row: row.trial.number)
    finished = [row for row in rows if row.is_finished]
    if not finished:
        return None
    figure, (ax,) = new_figure(theme, 7.5, 3.4)
    numbers, values = [row.trial.number for row in finished], [row.trial.value or 0.0 for row in finished]
    ax.plot(numbers, values, "o", color=theme.series[0], label="finished")
    ax.step(numbers, np.maximum.accumulate(np.array(values, float)), where="post", color=theme.series[1], label="best")
    if stopped := [(row.trial.number, row.run.f1) for row in rows if not row.is_finished and row.run]:
        ax.plot(*zip(*stopped, strict=True), "x", color=theme.bad, label="stopped: F1 of its folds")
    set_titles(ax, theme, "trial", "out-of-fold macro F1")
    legend(ax, theme, loc="best")
    return figure


def importance(outcome: Outcome, theme: Theme) -> Figure | None:
    """Return the importance of each parameter (fANOVA over the finished trials)."""
    if not outcome.importances:
        return None
    names, shares = zip(*reversed(outcome.importances.items()), strict=True)
    figure, (ax,) = new_figure(theme, 7.5, 1.0 + 0.35 * len(names))
    ax.barh(names, shares, color=theme.series[0])
    set_titles(ax, theme, "share of the variance of the score", "")
    return figure


def parameters(outcome: Outcome, theme: Theme) -> Figure | None:
    """Return the score of the finished trials over each parameter."""
    params = [param for param in outcome.search.space.params
              if any(param.label in row.trial.params for row in outcome.finished)]  # fmt: skip
    if not params:
        return None
    rows = -(-len(params) // COLUMNS)
    figure, axes = new_figure(theme, 11, 3.0 * rows, nrows=rows, ncols=min(COLUMNS, len(params)), sharey=True)
    for ax, param in zip(axes, params, strict=False):
        plot_param(ax, outcome, param, theme)
    for ax in axes[len(params) :]:
        ax.set_visible(False)
    return figure


def plot_param(ax: Axes, outcome: Outcome, param: Param, theme: Theme) -> None:
    """Plot the scores over the values of one parameter, the best trial in another color."""
    rows = [row for row in outcome.finished if param.label in row.trial.params]
    values = [row.trial.params[param.label] for row in rows]
    points = list(map(override_text, values)) if param.choices else values
    colors = [theme.series[1] if row is outcome.best else theme.series[0] for row in rows]
    ax.scatter(points, [row.trial.value or 0.0 for row in rows], c=colors, s=24, zorder=3)
    if param.log:
        ax.set_xscale("log")
    set_titles(ax, theme, param.label, "macro F1" if ax.get_subplotspec().is_first_col() else "")  # type: ignore[union-attr]


FIGURES: dict[str, Callable[[Outcome, Theme], Figure | None]] = {
    "history": history, "importance": importance, "parameters": parameters,
}  # fmt: skip
