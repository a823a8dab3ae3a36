"""Figures in one style: curves, confusion matrices, scatters and contact sheets of small images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

matplotlib.use("Agg")  # files only: no experiment opens a window

# Okabe and Ito's colours, told apart by every common kind of colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 2)))

matplotlib.rcParams.update(
    {
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6ea",
        "axes.axisbelow": True,
        "axes.prop_cycle": matplotlib.cycler(color=COLORS),
        "legend.frameon": False,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.1,
        "figure.constrained_layout.w_pad": 0.1,
        "image.interpolation": "nearest",
    }
)


def axes(columns: int = 1, *, width: float = 7.5, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    """A figure of `columns` plots beside each other."""
    figure = Figure(figsize=(width, height))
    plots = figure.subplots(1, columns, squeeze=False)
    return figure, list(plots[0])


def curves(
    plot: Axes,
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: bool = False,
) -> None:
    """One line per entry of `lines`: its values y, or a pair (x, y)."""
    for index, (label, values) in enumerate(lines.items()):
        x, y = values if isinstance(values, tuple) else (np.arange(len(values)), values)
        color = COLORS[index % len(COLORS)]
        plot.plot(x, y, label=label, color=color, linestyle=DASHES[index % len(DASHES)])
    plot.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if log:
        plot.set_yscale("log")
    if len(lines) > 1:
        plot.legend()


def smoothed(values: Any, window: int) -> np.ndarray:
    """The mean over the last `window` values (fewer at the start)."""
    total = np.cumsum(np.concatenate([[0.0], np.asarray(values, np.float64)]))
    end = np.arange(1, len(total))
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)


def loss_curve(plot: Axes, history: Any, epochs: int, name: str, title: str = "Loss") -> None:
    """The cost of each mini-batch against epochs, and its mean over the last epoch."""
    history = np.asarray(history)
    per_epoch = max(len(history) // epochs, 1)
    x = np.arange(len(history)) / per_epoch
    plot.plot(x, history, color="#c3d5e6", linewidth=0.8, label="each mini-batch")
    plot.plot(x, smoothed(history, per_epoch), color=COLORS[0], label="mean over the last epoch")
    plot.set(xlabel="epoch", ylabel=name, title=title, yscale="log")
    plot.legend()


def confusion(plot: Axes, matrix: np.ndarray, classes: Sequence[str], title: str = "") -> None:
    """Counts of [true class, predicted class]; the colour is the share of the true class."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    plot.imshow(share, cmap="Blues", vmin=0, vmax=1)
    small = len(classes) > 5
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "white" if share[row, column] > 0.5 else "#222222"
            size = 9 if small else 12
            plot.text(column, row, str(count), ha="center", va="center", color=color, fontsize=size)
    ticks = range(len(classes))
    turn = 0 if max(map(len, classes)) < 4 else 30
    plot.set_xticks(ticks, classes, rotation=turn, ha="right" if turn else "center")
    plot.set_yticks(ticks, classes)
    plot.grid(False)
    plot.spines[:].set_visible(False)
    plot.set(xlabel="predicted", ylabel="true", title=title)


def agreement(plot: Axes, true: Any, predicted: Any, *, unit: str, title: str = "") -> None:
    """Predictions against true values, with the line on which they would be equal."""
    low = float(min(np.min(true), np.min(predicted)))
    high = float(max(np.max(true), np.max(predicted)))
    plot.plot([low, high], [low, high], color="#4d4d4d", linewidth=1, linestyle="--")
    plot.scatter(true, predicted, s=18, alpha=0.7, color=COLORS[0])
    plot.set(xlabel=f"true {unit}", ylabel=f"predicted {unit}", title=title)


def contact_sheet(
    images: Any,
    captions: Sequence[str],
    *,
    columns: int,
    colors: Sequence[str] | None = None,
    signed: Sequence[bool] | None = None,
    rows: Sequence[str] = (),
) -> Figure:
    """Small images [N, H, W] in a grid, each with its caption below.

    Args:
        images: values in [0, 1]; those marked as signed have any range and show 0 as white.
        captions: one per image, a line or two.
        columns: images per row.
        colors: the captions' colours.
        signed: which images are differences, drawn in red and blue.
        rows: a heading at the left of each row.
    """
    images = np.asarray(images, np.float64)
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(1.2 * columns + (0.9 if rows else 0.1), 1.55 * lines))
    grid = figure.subplots(lines, columns, squeeze=False)
    for plot in grid.flat:
        plot.set_axis_off()
    for index, (plot, image) in enumerate(zip(grid.flat, images, strict=False)):
        plot.set_axis_on()
        plot.set(xticks=[], yticks=[])
        plot.grid(False)
        plot.spines[:].set(visible=True, color="#c8c8d0")
        if signed is not None and signed[index]:
            reach = max(float(np.abs(image).max()), 1e-12)
            plot.imshow(image, cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -reach, reach))
        else:
            plot.imshow(image, cmap="gray_r", vmin=0.0, vmax=1.0)
        color = colors[index] if colors is not None else "#222222"
        plot.set_xlabel(captions[index], fontsize=11, color=color, labelpad=4)
    for line, heading in enumerate(rows):
        grid[line, 0].set_ylabel(heading, fontsize=11, rotation=0, ha="right", va="center")
    return figure
