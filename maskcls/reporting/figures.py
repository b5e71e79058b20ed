"""The figures of a finished run, in a light and a dark theme."""

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


HISTORY_PLOTS = {"loss": "training loss", "val_loss": "validation cross entropy", "f1": "macro F1"}


class RunResults(NamedTuple):
    """The data of the figures: metrics, one row per epoch, and one row per out-of-fold image."""

    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    oof: pd.DataFrame  # label, guess, sure, age_truth, age_guess, years


def curves(results: RunResults, theme: Theme) -> Figure | None:
    """Return loss, validation cross entropy and F1 over epochs, one line per fold; a ring marks each selected epoch."""
    if not results.history:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(theme, 11, 3.4, ncols=3)
    selected = {row["fold"]: row["epoch"] for row in results.metrics["folds"]}
    for ax, (key, title) in zip(axes, HISTORY_PLOTS.items(), strict=True):
        for i, (k, rows) in enumerate(pd.DataFrame(results.history).groupby("fold")):
            plot_fold(ax, rows, key, k, theme.series[i % len(theme.series)], selected.get(k, ()))
        set_titles(ax, theme, "epoch", "", title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[2].set_ylim(bottom=0)
    lines = axes[2].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=8, frameon=False, fontsize=9, labelcolor=theme.ink)
    return figure


def plot_fold(ax: Axes, rows: pd.DataFrame, key: str, k: object, color: str, selected: Sequence[int]) -> None:
    """Plot one metric of one fold over its epochs, with a ring at the selected epochs."""
    if key not in rows:
        return
    marker = "." if len(rows) <= 12 else ""
    ax.plot(rows["epoch"], rows[key].astype(float), color=color, linewidth=1.6, marker=marker, label=f"fold {k}")
    ring = rows[rows["epoch"].isin(selected)]
    ax.plot(ring["epoch"], ring[key].astype(float), "o", color=color, markersize=8, fillstyle="none")


def confusion(results: RunResults, theme: Theme) -> Figure:
    """Return the confusion matrix, each cell shaded by its fraction of the row."""
    from matplotlib.colors import LinearSegmentedColormap

    matrix = np.asarray(results.metrics["confusion"])  # (18, 18)
    fraction = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    figure, (ax,) = new_figure(theme, 10, 9.2)
    ax.imshow(fraction, vmin=0, vmax=1, cmap=LinearSegmentedColormap.from_list("share", [theme.paper, theme.good]))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for row, column in np.argwhere(matrix > 0):
        ink = theme.paper if fraction[row, column] > 0.5 else theme.ink
        style = {"color": ink, "fontsize": 8.5, "fontweight": "bold" if row == column else "normal"}
        ax.text(column, row, matrix[row, column], ha="center", va="center", **style)  # type: ignore[arg-type]
    for edge in range(len(CLASSES) + 1):
        color, width = theme.ink if edge % 6 == 0 else theme.faint, 0.9 if edge % 3 == 0 else 0.4
        ax.axhline(edge - 0.5, color=color, linewidth=width)
        ax.axvline(edge - 0.5, color=color, linewidth=width)
    ax.set_xticks(range(len(CLASSES)), CLASSES, rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(CLASSES)), [f"{name}  (n={n})" for name, n in zip(CLASSES, matrix.sum(1), strict=True)])
    set_titles(ax, theme, "predicted", "true")
    return figure


def classes(results: RunResults, theme: Theme) -> Figure:
    """Return the F1 and the number of images of each class; the dashed line is the macro F1."""
    rows = results.metrics["per_class"]
    figure, (ax,) = new_figure(theme, 6.6, 7)
    colors = [theme.series[row["class"] // 6] for row in rows]  # one color per value of the mask
    ax.barh(range(len(rows)), [row["f1"] for row in rows], color=colors, height=0.72)
    behind = {"facecolor": theme.paper, "edgecolor": "none", "pad": 0.8}
    for i, row in enumerate(rows):
        label = f"{row['f1']:.3f}  (n={row['photos']})" if row["photos"] else "no images"
        ax.text(row["f1"] + 0.01, i, label, va="center", color=theme.ink, fontsize=8.5, bbox=behind)
    score = results.metrics["oof"]["f1"]
    ax.axvline(score, color=theme.ink, linestyle="--", linewidth=1, zorder=1.5, label=f"macro F1 {score:.4f}")
    ax.set_yticks(range(len(rows)), [row["name"] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, 1.26)
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.grid(False, axis="y")
    set_titles(ax, theme, "F1", "")
    legend(ax, theme, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def calibration(results: RunResults, theme: Theme) -> Figure:
    """Return accuracy against confidence with intervals over people, and the images in each bin, before and after
    temperature scaling if the metrics have it."""
    parts = reliability_parts(results)
    figure, (top, low) = new_figure(theme, 5.6, 4.8, nrows=2, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=theme.ink, linestyle="--", linewidth=1)
    for i, (label, rows) in enumerate(parts):
        color, shift = (theme.good, theme.series[1])[i], (i - (len(parts) - 1) / 2) * 0.046
        x, accuracy = [row["confidence"] for row in rows], [row["accuracy"] for row in rows]
        top.plot(x, accuracy, "o-", color=color, clip_on=False, label=label, markersize=5)
        for row in (row for row in rows if row["interval"]):
            top.plot([row["confidence"]] * 2, row["interval"], color=color, linewidth=1.4, alpha=0.7)
        bars = [(row["bin"] + 0.5) / BINS + shift for row in rows]
        low.bar(bars, [row["photos"] for row in rows], width=0.092 / len(parts), color=color)
    top.set(xlim=(0, 1), ylim=(0, 1))
    set_titles(top, theme, "", "accuracy")
    legend(top, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    set_titles(low, theme, f"confidence (n={len(results.oof)}, {BINS} bins)", "images")
    return figure


def reliability_parts(results: RunResults) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the label and the bins of each reliability curve."""
    if stored := results.metrics.get("calibration"):
        errors = {part: stored["oof"]["class"][part]["calibration_error"] for part in ("before", "after")}
        return [(f"{part}, error {error:.3f}", stored["bins"][part]) for part, error in errors.items()]
    table, error = calibration_bins(results.oof)
    rows = [{"bin": i, "confidence": row.sure, "accuracy": row.right, "photos": row.n, "interval": None}
            for i, row in table.iterrows()]  # fmt: skip
    return [(f"this run, calibration error {error:.3f}", rows)]


def errors(results: RunResults, theme: Theme) -> Figure | None:
    """Return the fraction of the misclassified images by wrong attribute, None if there are none."""
    counts = count_wrong_attributes(results.oof)
    total = sum(counts.values())
    if not total:
        return None
    figure, (ax,) = new_figure(theme, 5.6, 4)
    fractions = [count / total for count in counts.values()]
    ax.barh(list(counts), fractions, color=[*theme.series[:3], theme.series[-1]], height=0.66)
    for i, (count, fraction) in enumerate(zip(counts.values(), fractions, strict=True)):
        ax.text(fraction + 0.01, i, f"{fraction:.0%}  ({count})", va="center", color=theme.ink, fontsize=9)
    ax.set_xlim(0, max(fractions) * 1.25)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    set_titles(ax, theme, f"fraction of the {total} misclassified images (of {len(results.oof)})", "")
    return figure


def ages(results: RunResults, theme: Theme) -> Figure | None:
    """Return the error rate of the age class at each age in years, None if no age is known."""
    table = error_by_age(results.oof)
    if table.empty:
        return None
    figure, (top, low) = new_figure(theme, 11, 4.4, nrows=2, sharex=True, height_ratios=[3, 1])
    top.bar(table.index, table["old"], color=theme.bad, width=0.8, label="predicted too old")
    top.bar(table.index, table["young"], bottom=table["old"], color=theme.good, width=0.8, label="predicted too young")
    top.set_ylim(0, 1)
    low.bar(table.index, table["n"], color=theme.series[-1], width=0.8)
    for ax in (top, low):
        for threshold in AGE_THRESHOLDS:
            ax.axvline(threshold - 0.5, color=theme.ink, linestyle="--", linewidth=1)
        ax.grid(False, axis="x")
    set_titles(top, theme, "", "error rate of age class")
    thresholds = " and ".join(map(str, AGE_THRESHOLDS))
    set_titles(low, theme, f"age in years (n={table['n'].sum()}; dashed: class thresholds {thresholds})", "images")
    legend(top, theme, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


FIGURES: tuple[Callable[[RunResults, Theme], Figure | None], ...] = (
    curves,
    confusion,
    classes,
    calibration,
    errors,
    ages,
)


def render_figures(results: RunResults) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Yield the name of each figure that has data, with its light and dark PNG."""
    for draw in FIGURES:
        pair = [draw(results, theme) for theme in (LIGHT, DARK)]
        images = [png(figure) for figure in pair if figure is not None]
        if images:
            yield draw.__name__, images
