"""Figures of four worked examples: what the seed prints beside what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import fungrad as fg
from experiments.common import figures, worked_example
from experiments.lecture_examples import seed_002
from experiments.lecture_examples.record import Row

RIGHT, PRINTED, PLAIN = figures.COLORS[0], figures.COLORS[1], figures.COLORS[6]


def momentum() -> Figure:
    """Twelve steps on a narrow bowl: no momentum, the heavy ball, and the sign as printed."""
    A, start, eta, alpha = np.diag([1.0, 12.0]), np.array([-2.0, 0.55]), 0.06, 0.8
    slope = fg.grad(lambda theta: theta @ A @ theta / 2)

    def path(sign: float) -> np.ndarray:
        points, update = [start], np.zeros(2)
        for _ in range(12):
            update = -eta * np.asarray(slope(points[-1])) + sign * alpha * update
            points.append(points[-1] + update)
        return np.array(points)

    figure, (plot,) = figures.axes(width=7.5, height=3.6)
    x, y = np.meshgrid(np.linspace(-2.3, 1.2, 200), np.linspace(-0.95, 0.95, 120))
    height = np.log1p(A[0, 0] * x**2 + A[1, 1] * y**2)
    plot.contour(x, y, height, levels=14, colors="#d5d7dd", linewidths=0.8)
    lines = {
        "θ − η∇f": (path(0.0), PLAIN, "--"),
        "θ − η∇f + α m (right)": (path(1.0), RIGHT, "-"),
        "θ − η∇f − α m (printed)": (path(-1.0), PRINTED, "-."),
    }
    for label, (points, color, dashes) in lines.items():
        plot.plot(*points.T, marker="o", markersize=3.5, color=color, linestyle=dashes, label=label)
    plot.plot(0, 0, marker="*", markersize=12, color="#222222")
    plot.set(xlabel="θ₁", ylabel="θ₂", title="Twelve steps, m = the previous update")
    plot.set(xlim=(-2.3, 1.2), ylim=(-0.95, 0.95))
    plot.grid(False)
    plot.legend(loc="lower right")
    return figure


def boundary() -> Figure:
    """1 + 2 x₁ + 3 x₂ = 0, and the point that is d n̂ away from the origin."""
    figure, (plot,) = figures.axes(width=6.2, height=5.2)
    x = np.array([-0.6, 0.2])
    plot.plot(x, -(1 + 2 * x) / 3, color="#222222", label="1 + 2 x₁ + 3 x₂ = 0")
    n = np.array([2.0, 3.0])
    points = {
        "right: −1/√13 · (2, 3)/√13": (-n / 13, RIGHT, "o"),
        "with θ₀ in the norm: −1/√14 · (2, 3)/√14": (-n / 14, figures.COLORS[2], "s"),
        "evaluated: −√6/6 · (√6/3, √6/3)": (-np.ones(2) / 3, PRINTED, "^"),
    }
    for label, (point, color, marker) in points.items():
        plot.plot([0, point[0]], [0, point[1]], color=color, linewidth=1)
        plot.plot(*point, marker=marker, markersize=8, color=color, linestyle="", label=label)
    plot.plot(0, 0, marker="+", markersize=12, color="#222222")
    plot.set(xlabel="x₁", ylabel="x₂", title="d n̂ from the origin ends on the boundary")
    plot.set(xlim=(-0.45, 0.15), ylim=(-0.42, 0.12), aspect="equal")
    plot.legend(loc="upper left", fontsize=8.5)
    return figure


def network_gradient(rows: list[Row]) -> Figure:
    """∂L/∂W of the 3-3-1 network: the matrix that is printed, and the right one."""
    row = next(row for row in rows if row.quantity == "∂L/∂W")
    figure, plots = figures.axes(2, width=8.6, height=3.6)
    reach = float(np.abs(row.reading).max())
    titles = ("printed at line 643", "right: δᵀ X*")
    for plot, title, matrix in zip(plots, titles, (row.reading, row.value), strict=True):
        plot.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach)
        for (unit, entry), number in np.ndenumerate(matrix):
            color = "white" if abs(number) > 0.6 * reach else "#222222"
            text = f"{number:.3g}".replace("-", "−")
            plot.text(entry, unit, text, ha="center", va="center", color=color)
        plot.set_xticks(range(3), ["bias", "x₁", "x₂"])
        plot.set_yticks(range(3), ["w₁", "w₂", "w₃"])
        plot.grid(False)
        plot.spines[:].set_visible(False)
        plot.set_title(title)
    return figure


def one_step() -> Figure:
    """The loss of the five-parameter network along −∇L, and the step that the exercise takes."""
    X, Y, theta = (jnp.array(value) for value in (seed_002.X, seed_002.Y, seed_002.THETA))
    slope = np.asarray(fg.grad(seed_002.mean_loss)(theta, X, Y))

    def loss(eta: float) -> float:
        return float(seed_002.mean_loss(theta - eta * slope, X, Y))

    eta = np.linspace(0.0, 0.08, 81)
    figure, (plot,) = figures.axes(width=6.4, height=3.6)
    plot.plot(eta, [loss(step) for step in eta], color=RIGHT)
    for step, text in ((0.0, "θ: 3.25"), (0.01, f"η = 0.01: {loss(0.01):.4f}")):
        plot.plot(step, loss(step), marker="o", color=PRINTED)
        plot.annotate(text, (step, loss(step)), xytext=(8, 6), textcoords="offset points")
    plot.set(xlabel="η", ylabel="L(D)", title="L(θ − η ∇L) along the step")
    return figure


@dataclass(frozen=True)
class Picture:
    """A figure that belongs to an example: drawn from its rows, with a caption."""

    draw: Callable[[list[Row]], Figure]
    caption: str


# By the name of the example.
PICTURES = {
    "tanh_network": Picture(
        lambda rows: worked_example.chain(worked_example.steps()),
        "Forward to the right, the values in blue; backward to the left, the gradients of L in "
        "orange, with ∂L/∂W in the lecture's layout.",
    ),
    "optimisation": Picture(
        lambda rows: momentum(),
        "Line 318. With m the previous update, the heavy ball adds α m; subtracting it works "
        "against every step, and makes the steps grow where the valley is steep.",
    ),
    "neuron": Picture(
        lambda rows: boundary(),
        "Question 4. Walking the signed distance d along the unit normal n̂ must end on the "
        "boundary; with the printed values it does not.",
    ),
    "backward": Picture(
        network_gradient,
        "∂L/∂W as the seed prints it, and right. Rows are hidden units, columns the entries of x*.",
    ),
    "one_step": Picture(
        lambda rows: one_step(),
        "The loss along −∇L from the exercise's θ, and the step that it takes: 3.25 falls to "
        "2.8556, printed as 2.855.",
    ),
}
