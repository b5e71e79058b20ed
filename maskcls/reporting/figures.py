"""The figures of a finished run as PNG, each in a light and a dark dress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from maskcls.core.task import AGE_THRESHOLDS, CLASSES
from maskcls.evaluation.calibration import BINS, calibration_bins
from maskcls.evaluation.error_analysis import count_wrong_attributes, error_by_age
from maskcls.reporting.figure_style import DARK, LIGHT, Theme, legend, new_figure, png, set_titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Log = list[dict[str, Any]]
Numbers = dict[str, Any]


EPOCH_NUMBERS = {"loss": "training loss", "val_loss": "validation cross entropy", "f1": "macro F1"}


class RunResults(NamedTuple):
    """What the figures tell of: closing metrics, epochs, and a row for each out-of-fold photo."""

    metrics: Numbers
    log: Log
    held: pd.DataFrame  # label, guess, sure, age_truth, age_guess, years


def curves(story: RunResults, dress: Theme) -> Figure | None:
    """Return loss, validation cross entropy and F1 over epochs, a line a fold; a ring marks each kept epoch."""
    if not story.log:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(dress, 11, 3.4, ncols=3)
    kept = {row["fold"]: row["epoch"] for row in story.metrics["folds"]}
    for ax, (key, title) in zip(axes, EPOCH_NUMBERS.items(), strict=True):
        for place, (k, rows) in enumerate(pd.DataFrame(story.log).groupby("fold")):
            line(ax, rows, key, k, dress.series[place % len(dress.series)], kept.get(k, ()))
        set_titles(ax, dress, "epoch", "", title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[2].set_ylim(bottom=0)
    lines = axes[2].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=8, frameon=False, fontsize=9, labelcolor=dress.ink)
    return figure


def line(ax: Axes, rows: pd.DataFrame, key: str, k: object, colour: str, kept: Sequence[int]) -> None:
    """Draw one number of one fold over its epochs."""
    if key not in rows:
        return
    few = "." if len(rows) <= 12 else ""
    ax.plot(rows["epoch"], rows[key].astype(float), color=colour, linewidth=1.6, marker=few, label=f"fold {k}")
    ring = rows[rows["epoch"].isin(kept)]
    ax.plot(ring["epoch"], ring[key].astype(float), "o", color=colour, markersize=8, fillstyle="none")


def confusion(story: RunResults, dress: Theme) -> Figure:
    """Return the 18 × 18 counts, each row shaded by its share."""
    from matplotlib.colors import LinearSegmentedColormap

    matrix = np.asarray(story.metrics["confusion"])  # (18, 18)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure, (ax,) = new_figure(dress, 10, 9.2)
    ax.imshow(share, vmin=0, vmax=1, cmap=LinearSegmentedColormap.from_list("share", [dress.paper, dress.good]))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for row, column in np.argwhere(matrix > 0):
        ink = dress.paper if share[row, column] > 0.5 else dress.ink
        style = {"color": ink, "fontsize": 8.5, "fontweight": "bold" if row == column else "normal"}
        ax.text(column, row, matrix[row, column], ha="center", va="center", **style)  # type: ignore[arg-type]
    for edge in range(len(CLASSES) + 1):
        colour, width = dress.ink if edge % 6 == 0 else dress.faint, 0.9 if edge % 3 == 0 else 0.4
        ax.axhline(edge - 0.5, color=colour, linewidth=width)
        ax.axvline(edge - 0.5, color=colour, linewidth=width)
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(CLASSES)), [f"{name}  (n={n})" for name, n in zip(CLASSES, matrix.sum(1), strict=True)])
    set_titles(ax, dress, "guess", "truth")
    return figure


def classes(story: RunResults, dress: Theme) -> Figure:
    """Return the F1 of each class with its photos; the dashed line is the macro F1."""
    rows = story.metrics["per_class"]
    figure, (ax,) = new_figure(dress, 6.6, 7)
    colours = [dress.series[row["class"] // 6] for row in rows]  # a colour for each state of the mask
    ax.barh(range(len(rows)), [row["f1"] for row in rows], color=colours, height=0.72)
    behind = {"facecolor": dress.paper, "edgecolor": "none", "pad": 0.8}
    for place, row in enumerate(rows):
        said = f"{row['f1']:.3f}  (n={row['photos']})" if row["photos"] else "no photos"
        ax.text(row["f1"] + 0.01, place, said, va="center", color=dress.ink, fontsize=8.5, bbox=behind)
    score = story.metrics["oof"]["f1"]
    ax.axvline(score, color=dress.ink, linestyle="--", linewidth=1, zorder=1.5, label=f"macro F1 {score:.4f}")
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.26)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.grid(False, axis="y")
    set_titles(ax, dress, "F1", "")
    legend(ax, dress, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def calibration(story: RunResults, dress: Theme) -> Figure:
    """Return accuracy against confidence, and how many photos stand in each bin."""
    table, error = calibration_bins(story.held)
    figure, (top, low) = new_figure(dress, 5.6, 4.8, nrows=2, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=dress.ink, linestyle="--", linewidth=1, label="perfect")
    said = f"this run, calibration error {error:.3f}"
    top.plot(table["sure"], table["right"], "o-", color=dress.good, clip_on=False, label=said)
    top.set(xlim=(0, 1), ylim=(0, 1))
    set_titles(top, dress, "", "accuracy")
    legend(top, dress, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    low.bar((table.index + 0.5) / BINS, table["n"], width=0.092, color=dress.good)
    set_titles(low, dress, f"confidence (n={len(story.held)}, in tenths)", "photos")
    return figure


def errors(story: RunResults, dress: Theme) -> Figure | None:
    """Return the share of the wrong photos by which attribute is wrong; None without any."""
    counts = count_wrong_attributes(story.held)
    total = sum(counts.values())
    if not total:
        return None
    figure, (ax,) = new_figure(dress, 5.6, 4)
    shares = [count / total for count in counts.values()]
    ax.barh(list(counts), shares, color=[*dress.series[:3], dress.series[-1]], height=0.66)
    for place, (count, share) in enumerate(zip(counts.values(), shares, strict=True)):
        ax.text(share + 0.01, place, f"{share:.0%}  ({count})", va="center", color=dress.ink, fontsize=9)
    ax.set_xlim(0, max(shares) * 1.25)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    set_titles(ax, dress, f"share of the {total} wrong photos of {len(story.held)}", "")
    return figure


def ages(story: RunResults, dress: Theme) -> Figure | None:
    """Return the error rate of the age class at each year of age, with its photos; None where no age is known."""
    table = error_by_age(story.held)
    if table.empty:
        return None
    figure, (top, low) = new_figure(dress, 11, 4.4, nrows=2, sharex=True, height_ratios=[3, 1])
    top.bar(table.index, table["old"], color=dress.bad, width=0.8, label="guessed too old")
    top.bar(table.index, table["young"], bottom=table["old"], color=dress.good, width=0.8, label="guessed too young")
    top.set_ylim(0, 1)
    low.bar(table.index, table["n"], color=dress.series[-1], width=0.8)
    for ax in (top, low):
        for border in AGE_THRESHOLDS:
            ax.axvline(border - 0.5, color=dress.ink, linestyle="--", linewidth=1)
        ax.grid(False, axis="x")
    set_titles(top, dress, "", "wrong age class")
    borders = " and ".join(map(str, AGE_THRESHOLDS))
    set_titles(low, dress, f"age in years (n={table['n'].sum()}; dashed: the borders {borders})", "photos")
    legend(top, dress, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


FIGURES: tuple[Callable[[RunResults, Theme], Figure | None], ...] = (
    curves,
    confusion,
    classes,
    calibration,
    errors,
    ages,
)


def render_figures(story: RunResults) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Yield the name of each figure that has something to show, and its light and dark PNG."""
    for draw in FIGURES:
        pair = [draw(story, dress) for dress in (LIGHT, DARK)]
        images = [png(figure) for figure in pair if figure is not None]
        if images:
            yield draw.__name__, images
