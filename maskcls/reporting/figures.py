"""The figures of a finished run, in a light and a dark theme."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from maskcls.core.task import Attribute, IntArray, Task
from maskcls.evaluation.calibration import BINS, calibration_bins
from maskcls.evaluation.error_analysis import bar_width, count_wrong_attributes, error_by_number
from maskcls.reporting.figure_style import DARK, LIGHT, Theme, drawable, legend, new_figure, png, set_titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


HISTORY_PLOTS = {"loss": "training loss", "val_loss": "validation cross entropy", "f1": "macro F1"}
MAX_CLASSES = 30  # with names in a figure
DIRECTIONS = {"years": ("young", "old")}  # of errors, by the unit of the number


class RunResults(NamedTuple):
    """The data of the figures: metrics, one row per epoch, and one row per out-of-fold image."""

    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    oof: pd.DataFrame  # label, guess, sure; of a number: number, value_truth, value_guess
    task: Task


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
    """Return the confusion matrix, each cell shaded by its fraction of the row; of many classes the most confused."""
    from matplotlib.colors import LinearSegmentedColormap

    whole, task = np.asarray(results.metrics["confusion"]), results.task  # (C, C)
    kept = confused_classes(whole)
    counts, matrix, size = whole.sum(1)[kept], whole[np.ix_(kept, kept)], len(kept)
    fraction = matrix / np.maximum(counts[:, None], 1)
    figure, (ax,) = new_figure(theme, max(10, 2.8 + 0.4 * size), max(5, 2 + 0.4 * size))
    ax.imshow(fraction, vmin=0, vmax=1, cmap=LinearSegmentedColormap.from_list("share", [theme.paper, theme.good]))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for row, column in np.argwhere(matrix > 0):
        ink = theme.paper if fraction[row, column] > 0.5 else theme.ink
        style = {"color": ink, "fontsize": 8.5, "fontweight": "bold" if row == column else "normal"}
        ax.text(column, row, matrix[row, column], ha="center", va="center", **style)  # type: ignore[arg-type]
    outer, inner = block_sizes(task) if size == task.num_classes else (size, size)
    for edge in range(size + 1):
        color, width = theme.ink if edge % outer == 0 else theme.faint, 0.9 if edge % inner == 0 else 0.4
        ax.axhline(edge - 0.5, color=color, linewidth=width)
        ax.axvline(edge - 0.5, color=color, linewidth=width)
    names = drawable(task.classes, "class")
    ax.set_xticks(range(size), [names[i] for i in kept], rotation=60, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(size), [f"{names[i]}  (n={n})" for i, n in zip(kept, counts, strict=True)])
    set_titles(ax, theme, "predicted", "true")
    return figure


def confused_classes(matrix: IntArray) -> IntArray:
    """Return the classes of a figure: all, or those most often taken for others, or others for them."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    order = np.lexsort((-matrix.sum(1), -(wrong.sum(0) + wrong.sum(1))))
    return np.sort(order[:MAX_CLASSES])


def block_sizes(task: Task) -> tuple[int, int]:
    """Return the number of classes with one value of the first attribute, and with equal values but of the last."""
    if len(task.shape) == 1:
        return task.num_classes, task.num_classes
    return task.num_classes // task.shape[0], task.shape[-1]


def classes(results: RunResults, theme: Theme) -> Figure:
    """Return the F1 and the number of images of each class; of many classes those with the lowest F1.

    The dashed line is the macro F1.
    """
    rows, task = results.metrics["per_class"], results.task
    if len(rows) > MAX_CLASSES:
        lowest = sorted((row for row in rows if row["photos"]), key=lambda row: row["f1"])[:MAX_CLASSES]
        rows = sorted(lowest, key=lambda row: row["class"])
    names, block = drawable(task.classes, "class"), block_sizes(task)[0]
    figure, (ax,) = new_figure(theme, 6.6, max(2.4, 7 * len(rows) / 18))
    colors = [theme.series[row["class"] // block % len(theme.series)] for row in rows]  # one per value of the first
    ax.barh(range(len(rows)), [row["f1"] for row in rows], color=colors, height=0.72)
    behind = {"facecolor": theme.paper, "edgecolor": "none", "pad": 0.8}
    for i, row in enumerate(rows):
        label = f"{row['f1']:.3f}  (n={row['photos']})" if row["photos"] else "no images"
        ax.text(row["f1"] + 0.01, i, label, va="center", color=theme.ink, fontsize=8.5, bbox=behind)
    score = results.metrics["oof"]["f1"]
    ax.axvline(score, color=theme.ink, linestyle="--", linewidth=1, zorder=1.5, label=f"macro F1 {score:.4f}")
    ax.set_yticks(range(len(rows)), [names[row["class"]] for row in rows])
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
    counts = count_wrong_attributes(results.oof, results.task)
    total = sum(counts.values())
    if not total:
        return None
    figure, (ax,) = new_figure(theme, 5.6, max(4, 1 + 0.66 * len(counts)))
    fractions = [count / total for count in counts.values()]
    colors = [attribute.colour or theme.series[i % len(theme.series)] for i, attribute in enumerate(results.task)]
    ax.barh(drawable(list(counts), "attribute"), fractions, color=[*colors, theme.series[-1]], height=0.66)
    for i, (count, fraction) in enumerate(zip(counts.values(), fractions, strict=True)):
        ax.text(fraction + 0.01, i, f"{fraction:.0%}  ({count})", va="center", color=theme.ink, fontsize=9)
    ax.set_xlim(0, max(fractions) * 1.25)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    set_titles(ax, theme, f"fraction of the {total} misclassified images (of {len(results.oof)})", "")
    return figure


def numbers(results: RunResults, theme: Theme) -> Figure | None:
    """Return the error rate of the attribute made of a number at each number, None if there is none."""
    number, oof = results.task.number, results.oof
    if number is None or oof["number"].isna().all():
        return None
    step = bar_width(oof["number"], number)
    table, (low, high) = error_by_number(oof, step), DIRECTIONS.get(number.unit, ("low", "high"))
    figure, (top, under) = new_figure(theme, 11, 4.4, nrows=2, sharex=True, height_ratios=[3, 1])
    width, (name, unit) = 0.8 * step, drawable([number.name, number.unit], "number")
    top.bar(table.index, table["high"], width, color=theme.bad, label=f"predicted too {high}")
    top.bar(table.index, table["low"], width, table["high"], color=theme.good, label=f"predicted too {low}")
    top.set_ylim(0, 1)
    under.bar(table.index, table["n"], color=theme.series[-1], width=width)
    for ax in (top, under):
        for border in number.borders:
            ax.axvline(border - step / 2, color=theme.ink, linestyle="--", linewidth=1)
        ax.grid(False, axis="x")
    set_titles(top, theme, "", f"error rate of {name} class")
    borders = " and ".join(f"{border:g}" for border in number.borders)
    facts = f"n={table['n'].sum()}" + ("" if step == 1 else f"; in steps of {step:g}")
    text = f"{name} in {unit}" if unit else name
    set_titles(under, theme, f"{text} ({facts}; dashed: class thresholds {borders})", "images")
    legend(top, theme, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    return figure


FIGURES: dict[str, Callable[[RunResults, Theme], Figure | None]] = {
    "curves": curves, "confusion": confusion, "classes": classes, "calibration": calibration, "errors": errors,
}  # fmt: skip


def number_figure(number: Attribute) -> str:
    """Return the name of the figure of errors by a number: that of its attribute with an s, as a file can have it."""
    name = re.sub(r"\W", "_", f"{number.name}s")
    return f"{name}_number" if name in FIGURES else name


def render_figures(results: RunResults) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Yield the name of each figure that has data, with its light and dark PNG."""
    number = results.task.number
    for name, draw in (FIGURES | ({number_figure(number): numbers} if number else {})).items():
        pair = [draw(results, theme) for theme in (LIGHT, DARK)]
        images = [png(figure) for figure in pair if figure is not None]
        if images:
            yield name, images
