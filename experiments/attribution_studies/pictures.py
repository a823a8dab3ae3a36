"""Maps beside the images that they explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from experiments.attribution_studies.measures import Curves
from experiments.attribution_studies.methods import SIGNED
from experiments.common import figures


def sheet(images: Any, captions: Sequence[str], found: Mapping[str, Any], *, cell: float) -> Figure:
    """A row for each image: the image, then its map by each method.

    Args:
        images: [N, H, W, c] in [0, 1]; those of one channel are drawn as ink on paper.
        captions: one per image.
        found: {method: m[N, H, W]}; those of `SIGNED` are red where they speak for the class and
            blue where they speak against it, the others the darker the larger.
        cell: the height of a row in inches.
    """
    images = np.asarray(images)
    count, height, width, channels = images.shape
    size = (len(found) + 1) * (cell * width / height + 0.1) + 0.8, count * (cell + 0.1) + 0.5
    figure = Figure(figsize=size)
    figure.set_layout_engine("constrained", h_pad=0.03, w_pad=0.03)
    grid = figure.subplots(count, len(found) + 1, squeeze=False)
    for row, image in enumerate(images):
        show = image if channels == 3 else 1 - image[..., 0]
        grid[row, 0].imshow(show, cmap="gray", vmin=0, vmax=1)
        grid[row, 0].set_ylabel(captions[row], fontsize=11, rotation=0, ha="right", va="center")
        for column, (method, each) in enumerate(found.items(), start=1):
            draw(grid[row, column], np.asarray(each[row]), signed=method in SIGNED)
    for plot, title in zip(grid[0], ("image", *found), strict=True):
        plot.set_title(title.replace(" × ", "\n× "), fontsize=11, loc="center")
    for plot in grid.flat:
        plot.set(xticks=[], yticks=[])
        plot.grid(False)
        plot.spines[:].set(visible=True, color="#c8c8d0")
    return figure


def draw(plot: Axes, found: np.ndarray, *, signed: bool) -> None:
    """One map; the strongest hundredth of its pixels is as strong as the next."""
    reach = max(float(np.quantile(np.abs(found), 0.99)), 1e-12)
    if signed:
        plot.imshow(found, cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -reach, reach))
    else:
        plot.imshow(found, cmap="gray_r", vmin=0, vmax=reach)


def comparison(found: Mapping[str, Curves]) -> Figure:
    """Deletion and insertion curves of all methods."""
    figure, plots = figures.axes(2, width=11, height=4.4)
    for plot, name, order in zip(
        plots, ("deletion", "insertion"), ("taken away", "put back"), strict=True
    ):
        figures.curves(
            plot,
            {method: (each.shares, getattr(each, name)) for method, each in found.items()},
            xlabel=f"share of the pixels {order}, those first that count most",
            ylabel="probability of the class",
            title=name.capitalize(),
        )
    if legend := plots[1].get_legend():  # the same as of the first
        legend.remove()
    return figure
