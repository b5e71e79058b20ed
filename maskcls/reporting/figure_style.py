"""Figure style: light and dark themes, colors, legends."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Theme(NamedTuple):
    """The colors of a figure."""

    paper: str
    ink: str
    faint: str
    good: str
    bad: str
    series: tuple[str, ...]


HUES = ("#2f6fb3", "#d9822b", "#2f9e77", "#c2528b", "#7a5fc0", "#8a6d3b", "#3aa0b8", "#6b7280")
LIGHT = Theme("#ffffff", "#1f2933", "#d5dae1", "#2f6fb3", "#c8432f", HUES)
PALE = ("#6aa9ec", "#f0a95a", "#58c9a0", "#e788b8", "#a993ea", "#c7a66a", "#6dcbe0", "#a3acb9")
DARK = Theme("#181c22", "#d8dee6", "#39424e", "#6aa9ec", "#f0806c", PALE)


def new_figure(theme: Theme, width: float, height: float, **grid: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure and its axes in a theme, without changing matplotlib's global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, facecolor=theme.paper, layout="constrained")
    axes = list(np.ravel(figure.subplots(squeeze=False, **grid)))
    for ax in axes:
        ax.set_facecolor(theme.paper)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(theme.faint)
        ax.tick_params(colors=theme.ink, color=theme.faint, labelsize=9)
        ax.grid(color=theme.faint, linewidth=0.6, alpha=0.7)
        ax.set_axisbelow(True)
    return figure, axes


def set_titles(ax: Axes, theme: Theme, xlabel: str, ylabel: str, title: str = "") -> None:
    """Set the title and the labels of both axes."""
    ax.set_xlabel(xlabel, color=theme.ink, fontsize=9)
    ax.set_ylabel(ylabel, color=theme.ink, fontsize=9)
    ax.set_title(title, color=theme.ink, fontsize=10, loc="left", fontweight="bold")


def legend(ax: Axes, theme: Theme, **options: Any) -> None:
    """Draw a legend without a frame."""
    ax.legend(frameon=False, fontsize=9, labelcolor=theme.ink, **options)


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
