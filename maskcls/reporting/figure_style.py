"""Figure style: light and dark themes, colors, legends, and fonts for the names of classes."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
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


FALLBACK_FONTS = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo",
                  "Noto Sans CJK JP", "Noto Sans CJK SC", "Arial Unicode MS", "Unifont")  # fmt: skip


@functools.cache
def installed_fonts() -> dict[str, frozenset[int]]:
    """Return the code points of each font that text is drawn with, matplotlib's own first."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    installed = {entry.name for entry in fontManager.ttflist}
    names = ["DejaVu Sans", *[name for name in FALLBACK_FONTS if name in installed]]
    return {name: frozenset(get_font(findfont(name)).get_charmap()) for name in names}


def drawable(names: Sequence[str], kind: str) -> list[str]:
    """Return names as they can be drawn: kind and position for one with letters that no installed font has."""
    letters = frozenset().union(*installed_fonts().values())
    return [name.replace("$", r"\$") if letters.issuperset(map(ord, name)) else f"{kind} {i}"
            for i, name in enumerate(names)]  # fmt: skip


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
    """Return a figure as the bytes of a PNG; letters that matplotlib's font lacks are drawn with an installed one."""
    from matplotlib.text import Text

    fonts = installed_fonts()
    texts: list[Any] = figure.findobj(Text)
    letters = {ord(letter) for text in texts for letter in text.get_text()}
    if len(fonts) > 1 and not letters <= fonts["DejaVu Sans"]:
        for text in texts:
            text.set_fontfamily(list(fonts))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
