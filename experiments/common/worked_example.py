"""The lecture's worked example (seed 000): two inputs, two tanh neurons, one linear output.

    x0 -> linear W0 -> x1 -> tanh -> x2 -> linear W1 -> x3 -> ½ (x3 − y)² = L

One iteration of backpropagation: forward, backward, update W + η (∂L/∂W)ᵀ with η = −0.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

import fungrad as fg
from experiments.common import figures
from experiments.common.report import Matrix, Report, console
from fungrad import layers

ETA = -0.2  # the lecture's sign: updates are written with a plus


@dataclass(frozen=True)
class Step:
    """One value of the example; gradients in the lecture's layout, ∂L/∂W as [inputs × outputs].

    Attributes:
        name, formula: what it is, and how it comes about.
        value: as a matrix.
        printed: the lecture's numbers, as a matrix.
        slip: what the lecture prints wrongly on the way.
    """

    name: str
    formula: str
    value: np.ndarray
    printed: list[list[float]]
    slip: str = ""

    def agreement(self) -> Matrix:
        """The lecture's numbers; good if they are these, to half a unit of their last digit."""
        decimals = [[len(repr(entry).partition(".")[2]) for entry in row] for row in self.printed]
        half_a_unit = 0.5 * 10.0 ** -np.array(decimals)
        equal = np.all(np.abs(self.value - np.array(self.printed)) <= 1.02 * half_a_unit)
        remark = self.slip or ("" if equal else "from factors that were rounded before")
        return Matrix(self.printed, "note" if remark else "good", remark)


def steps() -> list[Step]:
    """The whole iteration, with one `fg.vjp` per node."""
    x0, y = jnp.array([1.0, 0.1]), jnp.array([0.5])
    W0, W1 = jnp.array([[1.0, -3.0], [0.2, 1.0]]), jnp.array([[1.0, -1.0]])

    def loss(x3: jax.Array) -> jax.Array:
        return 0.5 * fg.losses.squared_error(x3, y).sum()

    x1, pull_x1 = fg.vjp(layers.linear, x0, W0)
    x2, pull_x2 = fg.vjp(layers.tanh, x1)
    x3, pull_x3 = fg.vjp(layers.linear, x2, W1)
    L, pull_L = fg.vjp(loss, x3)

    (g3,) = pull_L(jnp.ones_like(L))
    g2, gradient_W1 = pull_x3(g3)
    (g1,) = pull_x2(g2)
    _, gradient_W0 = pull_x1(g1)

    W0_next, W1_next = W0 + ETA * gradient_W0, W1 + ETA * gradient_W1
    L_next = loss(layers.linear(layers.tanh(layers.linear(x0, W0_next)), W1_next))
    return [
        Step("x₁", "W₀ x₀", column(x1), [[0.7], [0.3]], "the line above prints (1, 0.2)"),
        Step("x₂", "tanh x₁", column(x2), [[0.604], [0.291]]),
        Step("x₃", "W₁ x₂", column(x3), [[0.313]]),
        Step("L", "½ (x₃ − y)²", column(L), [[0.017]]),
        Step("∂L/∂x₃", "x₃ − y", row(g3), [[-0.1869]]),
        Step("∂L/∂x₂", "∂L/∂x₃ · W₁", row(g2), [[-0.1869, 0.1869]]),
        Step("∂L/∂x₁", "∂L/∂x₂ · diag(1 − x₂²)", row(g1), [[-0.1186, 0.171]]),
        Step(
            "∂L/∂W₀",
            "x₀ ∂L/∂x₁",
            np.asarray(gradient_W0).T,
            [[-0.1186, 0.171], [-0.01186, 0.0171]],
        ),
        Step(
            "∂L/∂W₁",
            "x₂ ∂L/∂x₃",
            np.asarray(gradient_W1).T,
            [[-0.113], [-0.054]],
            "written with the factor −0.1186; it is −0.1869",
        ),
        Step(
            "W₀ + η (∂L/∂W₀)ᵀ",
            "one step, η = −0.2",
            np.asarray(W0_next),
            [[1.02, -3.0], [0.17, 1.0]],
        ),
        Step("W₁ + η (∂L/∂W₁)ᵀ", "one step, η = −0.2", np.asarray(W1_next), [[1.02, -0.989]]),
        Step("L after the step", "", column(L_next), []),
    ]


def column(x: jax.Array) -> np.ndarray:
    return np.asarray(x).reshape(-1, 1)


def row(g: jax.Array) -> np.ndarray:
    return np.asarray(g).reshape(1, -1)


# --- shown in the terminal and on the page --------------------------------------------------------


def show(report: Report) -> None:
    """The steps as a table in the terminal, and as a graph and a table on the page."""
    worked = steps()
    terminal = Table("value", "formula", "fungrad", "the lecture prints")
    rows = []
    for step in worked:
        agreement = step.agreement() if step.printed else ""
        row = [step.name, step.formula, Matrix(step.value), agreement]
        rows.append(row)
        terminal.add_row(*map(str, row))
    console.print(terminal)

    before, after = worked[3].value.item(), worked[-1].value.item()
    report.section("The lecture's example")
    report.text(
        "Two inputs, two tanh neurons, one linear output, squared error: one iteration of "
        "backpropagation, node by node with `fg.vjp`. A gradient is a row; ∂L/∂W is written as "
        "[inputs × outputs] here, as in the lecture, and transposed for the update "
        f"`W + η (∂L/∂W)ᵀ` with η = −{-ETA:g}."
    )
    report.figure(
        "worked-example",
        chain(worked),
        caption="Forward to the right, the values in blue; backward to the left, the gradients of "
        "L in orange. Each node multiplies the gradient that comes from its right by its Jacobian.",
    )
    report.table(
        ["value", "formula", "fungrad", "the lecture prints"],
        rows,
        caption=f"The loss falls from {before:.4f} to {after:.4f} in one step. Green: the lecture "
        "prints the same, as far as it prints digits.",
    )


def chain(worked: list[Step]) -> Figure:
    """The graph as a chain of nodes, value above and gradient below each edge."""
    value = {
        step.name: "\n".join("   ".join(row) for row in Matrix(step.value).rows) for step in worked
    }
    figure = Figure(figsize=(10, 2.6))
    plot = figure.subplots()
    plot.set(xlim=(0, 10), ylim=(0.25, 2.45))
    plot.set_axis_off()

    edges = (
        (0.1, "x₀", "1\n0.1", ""),
        (2.3, "x₁", value["x₁"], value["∂L/∂x₁"]),
        (4.5, "x₂", value["x₂"], value["∂L/∂x₂"]),
        (6.7, "x₃", value["x₃"], value["∂L/∂x₃"]),
        (8.9, "L", value["L"], "1"),
    )
    nodes = (
        (1.1, "linear W₀", value["∂L/∂W₀"]),
        (3.3, "tanh", ""),
        (5.5, "linear W₁", value["∂L/∂W₁"]),
        (7.7, "½ (x₃ − y)²", ""),
    )
    for x, name, forward, backward in edges:
        draw_edge(plot, x, name, forward, backward)
    for x, name, gradient in nodes:
        draw_node(plot, x, name, gradient)
    return figure


def draw_edge(plot: Axes, x: float, name: str, forward: str, backward: str) -> None:
    arrow = {"arrowstyle": "-|>", "color": "#4d4d4d"}
    plot.annotate("", xy=(x + 1.0, 1.5), xytext=(x, 1.5), arrowprops=arrow)
    style = {"ha": "center", "fontsize": 9, "linespacing": 1.1}
    plot.text(x + 0.48, 1.62, forward, va="bottom", color=figures.COLORS[0], **style)
    plot.text(x + 0.48, 1.38, backward, va="top", color=figures.COLORS[1], **style)
    plot.text(x + 0.48, 2.1, name, va="bottom", color="#222222", ha="center", fontsize=10)


def draw_node(plot: Axes, x: float, name: str, gradient: str) -> None:
    box = {"boxstyle": "round,pad=0.45", "facecolor": "#eef1f5", "edgecolor": "#9aa3b2"}
    plot.text(x + 0.6, 1.5, name, ha="center", va="center", fontsize=9.5, bbox=box)
    if gradient:
        text = f"∂L/∂{name[-2:]} =\n{gradient}"
        style = {"ha": "center", "va": "top", "fontsize": 8.5, "linespacing": 1.15}
        plot.text(x + 0.6, 0.95, text, color=figures.COLORS[1], **style)
